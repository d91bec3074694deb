import Bytes
import CTSS2
import Crypto
import TPM

extension TPMDevice {
    /// A quote with the values that it covers.
    public struct QuotedRegisters: Equatable, Sendable {
        /// TPMS_ATTEST.
        public let attest: [UInt8]
        /// TPMT_SIGNATURE.
        public let signature: [UInt8]
        public let registers: PCRBank
    }

    /// The banks in use and the registers that each holds (TPM2_GetCapability, TPM_CAP_PCRS).
    public func activeBanks() throws(TPMDeviceError) -> [PCRSelection] {
        let operation = "TPM2_GetCapability"
        var more = TPMI_YES_NO(0)
        var output: UnsafeMutablePointer<TPMS_CAPABILITY_DATA>?
        try TPMDeviceError.check(
            unsafe Esys_GetCapability(context, Self.none, Self.none, Self.none, 5, 0, 1, &more, &output), operation)
        defer { unsafe Esys_Free(output) }
        guard let output = unsafe output, unsafe output.pointee.capability == 5 else {
            throw TPMDeviceError(operation, "no answer")
        }
        return try unsafe withUnsafePointer(to: &output.pointee.data.assignedPCR) {
            (list) throws(TPMDeviceError) in try unsafe Marshalling.selections(list)
        }
    }

    /// Register values (TPM2_PCR_Read), in as many calls as the TPM needs: it answers with at most eight values each. A
    /// value may change between two calls; `quote` shows whether one did.
    public func read(_ selections: [PCRSelection]) throws(TPMDeviceError) -> PCRBank {
        let operation = "TPM2_PCR_Read"
        var values = PCRBank()
        var rest = selections.filter { !$0.indices.isEmpty }
        while !rest.isEmpty {
            var list = try Marshalling.selection(rest)
            var counter: UInt32 = 0
            var found: UnsafeMutablePointer<TPML_PCR_SELECTION>?
            var digests: UnsafeMutablePointer<TPML_DIGEST>?
            try TPMDeviceError.check(
                unsafe Esys_PCR_Read(context, Self.none, Self.none, Self.none, &list, &counter, &found, &digests),
                operation)
            defer {
                unsafe Esys_Free(found)
                unsafe Esys_Free(digests)
            }
            guard let found = unsafe found, let digests = unsafe digests else {
                throw TPMDeviceError(operation, "no answer")
            }
            let names = try unsafe Marshalling.selections(found).flatMap { bank in bank.indices.map { (bank.hash, $0) }
            }
            let contents = try unsafe Self.digests(digests)
            guard !names.isEmpty, names.count == contents.count else {
                throw TPMDeviceError(operation, "\(contents.count) values for \(names.count) registers")
            }
            for ((hash, index), value) in zip(names, contents) {
                guard value.count == hash.size, rest.contains(where: { $0.hash == hash && $0.indices.contains(index) })
                else { throw TPMDeviceError(operation, "a value for \(PCRBank.claim(hash, index)) was not asked for") }
                values[hash, index] = value
            }
            rest = rest.compactMap { bank in
                let left = bank.indices.filter { values[bank.hash, $0] == nil }
                return left.isEmpty ? nil : PCRSelection(hash: bank.hash, indices: left)
            }
        }
        return values
    }

    /// One quote over `selections`, and values that hash to what it signs.
    ///
    /// Values are read first, then quoted. Where something was extended in between they do not hash to the quote, and both
    /// are done again.
    /// - Parameter nonce: at most 32 bytes.
    public func quote(nonce: [UInt8], _ selections: [PCRSelection]) throws(TPMDeviceError) -> QuotedRegisters {
        let operation = "TPM2_Quote"
        var reason = ""
        for _ in 0..<8 {
            let values = try read(selections)
            let (attest, signature) = try sign(nonce: nonce, selections)
            do {
                let quote = try Quote(attest: attest, signature: signature)
                guard quote.attest.selections == selections else {
                    throw TPMDeviceError(operation, "the TPM left out registers that were asked for")
                }
                let registers = try quote.verifyDigest(values, allowSHA1: true)
                return QuotedRegisters(attest: attest, signature: signature, registers: registers)
            } catch let error as TPMDeviceError {
                throw error
            } catch { reason = "\(error)" }
        }
        throw TPMDeviceError(operation, "register values never agreed with the quote: \(reason)")
    }

    /// Has the TPM hash `data` (at most 1024 bytes) into every bank of `register` (TPM2_PCR_Event).
    /// - Returns: what was extended, by bank; every active bank that Nacre knows is there.
    public func extend(
        register: Int, with data: [UInt8]
    ) throws(TPMDeviceError) -> [(bank: HashAlgorithm, digest: [UInt8])] {
        let operation = "TPM2_PCR_Event"
        guard PCRBank.indices.contains(register), data.count <= 1024 else {
            throw TPMDeviceError(operation, "register \(register), \(data.count) bytes")
        }
        let banks = try activeBanks().filter { $0.indices.contains(register) }.map(\.hash)
        guard !banks.isEmpty else { throw TPMDeviceError(operation, "no bank holds register \(register)") }
        var event = TPM2B_EVENT()
        let size = UInt16(data.count)
        try unsafe Marshalling.read([UInt8(size >> 8), UInt8(size & 0xFF)] + data, into: &event, operation) {
            unsafe Tss2_MU_TPM2B_EVENT_Unmarshal($0, $1, $2, $3)
        }
        var output: UnsafeMutablePointer<TPML_DIGEST_VALUES>?
        // ESYS numbers the registers' handles as the registers themselves.
        try TPMDeviceError.check(
            unsafe Esys_PCR_Event(
                context, ESYS_TR(register), ESYS_TR(ESYS_TR_PASSWORD), Self.none, Self.none, &event, &output),
            operation)
        defer { unsafe Esys_Free(output) }
        guard let output = unsafe output else { throw TPMDeviceError(operation, "no answer") }
        let extended = try unsafe Self.digestValues(output)
        return try banks.map { bank throws(TPMDeviceError) in
            guard let digest = extended[bank] else {
                throw TPMDeviceError(operation, "the bank \(bank.rawValue) was not extended")
            }
            return (bank, digest)
        }
    }

    private static func digests(_ list: UnsafePointer<TPML_DIGEST>) throws(TPMDeviceError) -> [[UInt8]] {
        let operation = "TPML_DIGEST"
        let bytes = try unsafe Marshalling.bytes(list, operation) { unsafe Tss2_MU_TPML_DIGEST_Marshal($0, $1, $2, $3) }
        do {
            var reader = ByteReader(bytes)
            var found: [[UInt8]] = []
            for _ in 0..<min(8, try reader.be(UInt32.self, "count")) {
                found.append(try reader.take(Int(try reader.be(UInt16.self, "size")), "digest"))
            }
            return found
        } catch { throw TPMDeviceError(operation, "\(error)") }
    }

    private static func digestValues(
        _ list: UnsafePointer<TPML_DIGEST_VALUES>
    ) throws(TPMDeviceError) -> [HashAlgorithm: [UInt8]] {
        let operation = "TPML_DIGEST_VALUES"
        let bytes = try unsafe Marshalling.bytes(list, operation) {
            unsafe Tss2_MU_TPML_DIGEST_VALUES_Marshal($0, $1, $2, $3)
        }
        // Algorithms beside SHA-1 and SHA-2 that a TPM may implement, with their digest lengths.
        let others: [UInt16: Int] = [0x0012: 32, 0x0027: 32, 0x0028: 48, 0x0029: 64]
        do {
            var reader = ByteReader(bytes)
            var found: [HashAlgorithm: [UInt8]] = [:]
            for _ in 0..<min(16, try reader.be(UInt32.self, "count")) {
                let algorithm = try reader.be(UInt16.self, "hashAlg")
                if let hash = Marshalling.hash(algorithm) {
                    found[hash] = try reader.take(hash.size, "digest")
                } else {
                    guard let size = others[algorithm] else {
                        throw TPMDeviceError(operation, "unknown algorithm \(algorithm)")
                    }
                    try reader.skip(size, "digest")
                }
            }
            return found
        } catch { throw TPMDeviceError(operation, "\(error)") }
    }
}
