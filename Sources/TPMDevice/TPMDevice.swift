import Bytes
import CTSS2
import Crypto
import TPM

/// The machine's TPM through ESYS (TCG TSS 2.0 Enhanced System API). For one thread at a time; whatever was created in
/// it is flushed when this goes out of scope.
@safe public struct TPMDevice: ~Copyable, @unchecked Sendable {
    // Sendable by hand: there is exactly one owner, and ESYS holds nothing that belongs to a thread.
    let context: OpaquePointer
    private let transport: OpaquePointer
    /// The attestation key's ESYS handle, once created.
    private(set) var key: ESYS_TR?
    /// TPM2B_PUBLIC of the attestation key; empty before `createAttestationKey`.
    public private(set) var attestationKey: [UInt8] = []
    /// The endorsement key, once found.
    private(set) var endorsement: (handle: ESYS_TR, needsPolicy: Bool, nameAlgorithm: HashAlgorithm)?

    /// Opens the kernel's resource manager, which keeps this user's objects apart from those of others.
    public init(path: String = "/dev/tpmrm0") throws(TPMDeviceError) {
        try unsafe self.init("open \(path)") { unsafe Tss2_Tcti_Device_Init($0, $1, path) }
    }

    /// Opens a TPM behind another transport.
    /// - Parameter initialise: the transport's `Tss2_Tcti_…_Init`; called without a context first, to learn its size.
    package init(
        _ operation: String, _ initialise: (OpaquePointer?, UnsafeMutablePointer<Int>) -> TSS2_RC
    ) throws(TPMDeviceError) {
        var size = 0
        try TPMDeviceError.check(unsafe initialise(nil, &size), operation)
        let memory = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 16)
        unsafe memory.initializeMemory(as: UInt8.self, repeating: 0, count: size)
        let transport = OpaquePointer(memory)
        let code = unsafe initialise(transport, &size)
        guard code == 0 else {
            unsafe memory.deallocate()
            throw TPMDeviceError(operation, code: code)
        }
        var context: OpaquePointer?
        let initialised = unsafe Esys_Initialize(&context, transport, nil)
        guard initialised == 0, let context = unsafe context else {
            unsafe nacre_tcti_finalize(transport)
            unsafe memory.deallocate()
            throw TPMDeviceError("Esys_Initialize", code: initialised)
        }
        unsafe self.context = context
        unsafe self.transport = transport
    }

    deinit {
        for handle in [key, endorsement?.handle] {
            if let handle { _ = unsafe Esys_FlushContext(context, handle) }
        }
        var context: OpaquePointer? = unsafe context
        unsafe Esys_Finalize(&context)
        unsafe nacre_tcti_finalize(transport)
        unsafe UnsafeMutableRawPointer(transport).deallocate()
    }

    /// `count` random bytes, at most 32.
    public func random(_ count: Int) throws(TPMDeviceError) -> [UInt8] {
        let operation = "TPM2_GetRandom"
        guard (1...32).contains(count) else { throw TPMDeviceError(operation, "\(count) bytes, at most 32") }
        var output: UnsafeMutablePointer<TPM2B_DIGEST>?
        try TPMDeviceError.check(
            unsafe Esys_GetRandom(context, Self.none, Self.none, Self.none, UInt16(count), &output), operation)
        defer { unsafe Esys_Free(output) }
        guard let output = unsafe output else { throw TPMDeviceError(operation, "no answer") }
        let bytes = try unsafe Self.contents(output)
        guard bytes.count == count else { throw TPMDeviceError(operation, "\(bytes.count) bytes instead of \(count)") }
        return bytes
    }

    /// Creates the attestation key: a primary key of the owner hierarchy, ECC P-256 with ECDSA and SHA-256, restricted to
    /// statements that the TPM itself makes (TPM 2.0 Part 2 §8.3). It lives in the TPM's memory only.
    ///
    /// A primary key follows from the hierarchy's seed and this template: the same TPM yields the same key at every boot.
    /// - Returns: TPM2B_PUBLIC.
    @discardableResult
    public mutating func createAttestationKey() throws(TPMDeviceError) -> [UInt8] {
        if key != nil { return attestationKey }
        let (handle, publicArea) = try createPrimary(Self.attestationKeyTemplate, ESYS_TR(ESYS_TR_RH_OWNER))
        (key, attestationKey) = (handle, publicArea)
        return attestationKey
    }

    /// A primary key of `hierarchy`, whose password is empty (TPM2_CreatePrimary).
    /// - Returns: its handle, which the caller flushes, and its TPM2B_PUBLIC.
    func createPrimary(
        _ area: [UInt8], _ hierarchy: ESYS_TR
    ) throws(TPMDeviceError) -> (handle: ESYS_TR, publicArea: [UInt8]) {
        let operation = "TPM2_CreatePrimary"
        var template = TPM2B_PUBLIC()
        try unsafe Marshalling.read(area, into: &template, operation) {
            unsafe Tss2_MU_TPM2B_PUBLIC_Unmarshal($0, $1, $2, $3)
        }
        // Empty password, no sealed data, nothing recorded about its creation.
        var sensitive = TPM2B_SENSITIVE_CREATE()
        var outside = TPM2B_DATA()
        var registers = TPML_PCR_SELECTION()
        var handle = ESYS_TR(0)
        var output: UnsafeMutablePointer<TPM2B_PUBLIC>?
        try TPMDeviceError.check(
            unsafe Esys_CreatePrimary(
                context, hierarchy, ESYS_TR(ESYS_TR_PASSWORD), Self.none, Self.none, &sensitive, &template, &outside,
                &registers, &handle, &output, nil, nil, nil), operation)
        defer { unsafe Esys_Free(output) }
        do throws(TPMDeviceError) {
            guard let output = unsafe output else { throw TPMDeviceError(operation, "no answer") }
            let publicArea = try unsafe Marshalling.bytes(output, operation) {
                unsafe Tss2_MU_TPM2B_PUBLIC_Marshal($0, $1, $2, $3)
            }
            return (handle, publicArea)
        } catch {
            _ = unsafe Esys_FlushContext(context, handle)
            throw error
        }
    }

    /// The endorsement key is flushed with the device; one that was kept before, now.
    mutating func keepEndorsementKey(_ handle: ESYS_TR, needsPolicy: Bool, _ nameAlgorithm: HashAlgorithm) {
        if let old = endorsement?.handle { _ = unsafe Esys_FlushContext(context, old) }
        endorsement = (handle, needsPolicy, nameAlgorithm)
    }

    /// TPM2B_PUBLIC without a point (TPM 2.0 Part 2 §12.2.5).
    private static var attestationKeyTemplate: [UInt8] {
        var area = ByteWriter()
        area.be(UInt16(0x0023))  // TPM_ALG_ECC
        area.be(UInt16(0x000B))  // name algorithm: SHA-256
        let attributes: TPMPublic.Attributes = [
            .fixedTPM, .fixedParent, .sensitiveDataOrigin, .userWithAuth, .noDA, .restricted, .sign,
        ]
        area.be(attributes.rawValue)
        area.be(UInt16(0))  // no policy
        area.be(UInt16(0x0010))  // no symmetric algorithm
        area.be(UInt16(0x0018))  // ECDSA …
        area.be(UInt16(0x000B))  // … with SHA-256
        area.be(UInt16(0x0003))  // NIST P-256
        area.be(UInt16(0x0010))  // no key derivation
        area.be(UInt16(0))  // x
        area.be(UInt16(0))  // y
        var writer = ByteWriter()
        writer.be(UInt16(clamping: area.bytes.count))
        writer.append(area.bytes)
        return writer.bytes
    }

    /// One TPM2_Quote by the attestation key: TPMS_ATTEST and TPMT_SIGNATURE.
    func sign(
        nonce: [UInt8], _ selections: [PCRSelection]
    ) throws(TPMDeviceError) -> (attest: [UInt8], signature: [UInt8]) {
        let operation = "TPM2_Quote"
        guard let key else { throw TPMDeviceError(operation, "there is no attestation key yet") }
        guard nonce.count <= 32 else { throw TPMDeviceError(operation, "nonce of \(nonce.count) bytes, at most 32") }
        var list = try Marshalling.selection(selections)
        var qualifying = TPM2B_DATA()
        try unsafe Marshalling.read([0, UInt8(nonce.count)] + nonce, into: &qualifying, operation) {
            unsafe Tss2_MU_TPM2B_DATA_Unmarshal($0, $1, $2, $3)
        }
        var scheme = TPMT_SIG_SCHEME()
        scheme.scheme = 0x0010  // the key's own
        var quoted: UnsafeMutablePointer<TPM2B_ATTEST>?
        var signature: UnsafeMutablePointer<TPMT_SIGNATURE>?
        try TPMDeviceError.check(
            unsafe Esys_Quote(
                context, key, ESYS_TR(ESYS_TR_PASSWORD), Self.none, Self.none, &qualifying, &scheme, &list, &quoted,
                &signature), selections.count > 1 ? "\(operation) over \(selections.count) banks at once" : operation)
        defer {
            unsafe Esys_Free(quoted)
            unsafe Esys_Free(signature)
        }
        guard let quoted = unsafe quoted, let signature = unsafe signature else {
            throw TPMDeviceError(operation, "no answer")
        }
        let attest = try unsafe Marshalling.bytes(quoted, operation) {
            unsafe Tss2_MU_TPM2B_ATTEST_Marshal($0, $1, $2, $3)
        }
        let signed = try unsafe Marshalling.bytes(signature, operation) {
            unsafe Tss2_MU_TPMT_SIGNATURE_Marshal($0, $1, $2, $3)
        }
        return (Array(attest.dropFirst(2)), signed)
    }

    /// The bytes of a TPM2B_DIGEST.
    static func contents(_ digest: UnsafePointer<TPM2B_DIGEST>) throws(TPMDeviceError) -> [UInt8] {
        let bytes = try unsafe Marshalling.bytes(digest, "TPM2B_DIGEST") {
            unsafe Tss2_MU_TPM2B_DIGEST_Marshal($0, $1, $2, $3)
        }
        return Array(bytes.dropFirst(2))
    }

    static var none: ESYS_TR { ESYS_TR(ESYS_TR_NONE) }
}
