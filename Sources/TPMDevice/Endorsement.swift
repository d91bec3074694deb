import Bytes
import CTSS2
import Crypto
import TPM

extension TPMDevice {
    /// A key of this TPM that its vendor vouches for.
    public struct EndorsementKey: Equatable, Sendable {
        /// X.509, DER.
        public let certificate: [UInt8]
        /// Certificates of authorities that the TPM brings, DER.
        public let chain: [[UInt8]]
        /// TPM2B_PUBLIC.
        public let publicArea: [UInt8]
    }

    /// Most bytes that are read of one NV index, and most certificates of authorities.
    static let maximumIndex = 8192
    static let maximumChain = 7

    /// Finds a certificate in the TPM and makes the key that it is for (TCG EK Credential Profile 2.6): the first of
    /// `EndorsementTemplate.all` that has both. The key stays in the TPM's memory for `activate`.
    ///
    /// - Returns: `nil` where the TPM has no certificate, or none for a key that it makes.
    public mutating func findEndorsementKey() throws(TPMDeviceError) -> EndorsementKey? {
        let present = Set(try nvIndices(0x01C0_0000...0x01C0_01FF))
        for template in EndorsementTemplate.all where present.contains(template.certificate) {
            guard let stored = try readNV(template.certificate, limit: Self.maximumIndex),
                let der = try? AttestationKeyCertificate.trimmed(stored),
                let certified = try? Certificate(der: der).publicKey()
            else { continue }
            var area = template.area
            if present.contains(template.template), let own = try readNV(template.template, limit: 1024) {
                area = TPMPublic.sized(own)
            } else if let index = template.nonce, present.contains(index), let nonce = try readNV(index, limit: 256),
                let filled = template.filled(with: nonce)
            {
                area = filled
            }
            let (handle, publicArea) = try createPrimary(area, ESYS_TR(ESYS_TR_RH_ENDORSEMENT))
            guard let key = try? TPMPublic(parsing: publicArea), (try? key.publicKey()) == certified else {
                _ = unsafe Esys_FlushContext(context, handle)
                continue
            }
            keepEndorsementKey(handle, needsPolicy: !key.attributes.contains(.userWithAuth), key.nameAlgorithm)
            return EndorsementKey(
                certificate: der, chain: try certificateChain(present), publicArea: publicArea)
        }
        return nil
    }

    /// The certificates that lie one after the other over the indices of the chain, however these cut them.
    private func certificateChain(_ present: Set<UInt32>) throws(TPMDeviceError) -> [[UInt8]] {
        var bytes: [UInt8] = []
        for index in EndorsementTemplate.chain {
            guard present.contains(index), bytes.count < 4 * Self.maximumIndex,
                let part = try readNV(index, limit: Self.maximumIndex)
            else { break }
            bytes += part
        }
        var reader = ByteReader(bytes)
        var chain: [[UInt8]] = []
        // What does not parse ends it: zeros up to the index's size, or a part that is missing.
        while chain.count < Self.maximumChain, let element = try? DER.element(&reader, "certificate"),
            element.tag == 0x30
        {
            chain.append(DER.element(element.tag, element.content))
        }
        return chain
    }

    /// The secret of a credential that was made for this endorsement key and this attestation key
    /// (TPM2_ActivateCredential, TPM 2.0 Part 3 §12.5). The TPM refuses every other one.
    public func activate(_ credential: Credential) throws(TPMDeviceError) -> Secret {
        let operation = "TPM2_ActivateCredential"
        guard let endorsement, let key else { throw TPMDeviceError(operation, "there is no endorsement key") }
        var blob = TPM2B_ID_OBJECT()
        try unsafe Marshalling.read(credential.blob, into: &blob, operation) {
            unsafe Tss2_MU_TPM2B_ID_OBJECT_Unmarshal($0, $1, $2, $3)
        }
        var seed = TPM2B_ENCRYPTED_SECRET()
        try unsafe Marshalling.read(credential.seed, into: &seed, operation) {
            unsafe Tss2_MU_TPM2B_ENCRYPTED_SECRET_Unmarshal($0, $1, $2, $3)
        }
        var session = ESYS_TR(ESYS_TR_PASSWORD)
        if endorsement.needsPolicy { session = try endorsementPolicy(endorsement.nameAlgorithm) }
        defer { if endorsement.needsPolicy { _ = unsafe Esys_FlushContext(context, session) } }
        var output: UnsafeMutablePointer<TPM2B_DIGEST>?
        try TPMDeviceError.check(
            unsafe Esys_ActivateCredential(
                context, key, endorsement.handle, ESYS_TR(ESYS_TR_PASSWORD), session, Self.none, &blob, &seed, &output),
            operation)
        guard let output = unsafe output else { throw TPMDeviceError(operation, "no answer") }
        defer {
            unsafe nacre_wipe(output, MemoryLayout<TPM2B_DIGEST>.size)
            unsafe Esys_Free(output)
        }
        var bytes = try unsafe Self.contents(output)
        return Secret(wiping: &bytes)
    }

    /// A session in which PolicySecret(endorsement) holds; the hierarchy's password is empty.
    private func endorsementPolicy(_ hash: HashAlgorithm) throws(TPMDeviceError) -> ESYS_TR {
        let operation = "TPM2_PolicySecret"
        var symmetric = TPMT_SYM_DEF()
        symmetric.algorithm = 0x0010
        var session = ESYS_TR(0)
        try TPMDeviceError.check(
            unsafe Esys_StartAuthSession(
                context, Self.none, Self.none, Self.none, Self.none, Self.none, nil, 1, &symmetric,
                Marshalling.algorithm(hash), &session), "TPM2_StartAuthSession")
        // continueSession: it is flushed by hand, whatever happens.
        var code = unsafe Esys_TRSess_SetAttributes(context, session, 1, 0xFF)
        if code == 0 {
            code = unsafe Esys_PolicySecret(
                context, ESYS_TR(ESYS_TR_RH_ENDORSEMENT), session, ESYS_TR(ESYS_TR_PASSWORD), Self.none, Self.none, nil,
                nil, nil, 0, nil, nil)
        }
        guard code == 0 else {
            _ = unsafe Esys_FlushContext(context, session)
            throw TPMDeviceError(operation, code: code)
        }
        return session
    }
}
