import Bytes
import Crypto

/// A TPM quote: the statement and its signature (TPM 2.0 Part 3 §18.4), checked in the order of RFC 9683 and
/// `docs/attestation`: form, key attributes, signature, nonce, PCR digest.
public struct Quote: Equatable, Sendable {
    public let attest: Attest
    public let signature: TPMSignature
    /// The signed bytes.
    public let bytes: [UInt8]

    /// - Parameters:
    ///   - attest: TPMS_ATTEST.
    ///   - signature: TPMT_SIGNATURE.
    /// - Throws: reasons `attest-magic`, `attest-type`, `parse-…`.
    public init(attest bytes: [UInt8], signature: [UInt8]) throws(TPMError) {
        do {
            attest = try Attest(parsing: bytes)
        } catch {
            switch error.detail {
            case "magic", "type":
                throw TPMError(
                    Finding(
                        "attest-\(error.detail)", claim: error.field,
                        expected: error.detail == "magic" ? "a structure that a TPM made" : "a quote",
                        actual: error.message, source: "TPM 2.0 Part 2 §10.12"))
            default: throw TPMError(error.finding)
            }
        }
        do { self.signature = try TPMSignature(parsing: signature) } catch { throw TPMError(error.finding) }
        self.bytes = bytes
    }

    /// Verifies the quote and returns the values it covers.
    ///
    /// - Parameters:
    ///   - ak: the key; whether it is to be trusted is decided elsewhere, its attributes are checked here.
    ///   - nonce: the qualifying data asked for, compared whole. `nil`: not compared, the caller says so.
    ///   - pcrs: values shown; those that the quote selects must be there, others are dropped.
    ///   - allowSHA1: accept SHA-1 signatures, and a quote that covers nothing but SHA-1 banks.
    /// - Returns: the selected values, proved.
    /// - Throws: reasons `ak-attributes`, `sig-sha1`, `signature`, `nonce`, `pcr-sha1`, `pcr-missing`, `pcr-digest`.
    @discardableResult
    public func verify(
        ak: AttestationKey, nonce: [UInt8]?, pcrs: PCRBank, allowSHA1: Bool = false
    ) throws(TPMError) -> PCRBank {
        try ak.checkAttributes()
        try verifySignature(ak: ak, allowSHA1: allowSHA1)
        if let nonce { try verifyNonce(nonce) }
        return try verifyDigest(pcrs, allowSHA1: allowSHA1)
    }

    /// The signature over the statement's bytes, by the key's own scheme.
    public func verifySignature(ak: AttestationKey, allowSHA1: Bool = false) throws(TPMError) {
        guard signature.hash != .sha1 || allowSHA1 else {
            throw TPMError(
                Finding(
                    "sig-sha1", claim: "quote.signature", expected: "SHA-256 or stronger", actual: signature.name,
                    source: "this verifier", next: "use an attestation key with a SHA-256 scheme"))
        }
        if let scheme = ak.area?.scheme, scheme.algorithm != signature.algorithm || scheme.hash != signature.hash {
            throw TPMError(
                Finding(
                    "signature", claim: "quote.signature",
                    expected: "the key's scheme 0x\(Hex.encode(scheme.algorithm)) \(scheme.hash?.rawValue ?? "")",
                    actual: signature.name, source: "TPM2B_PUBLIC", next: "give the key that made this quote"))
        }
        do {
            try signature.verify(bytes, by: ak.publicKey)
        } catch {
            throw TPMError(
                Finding(
                    "signature", claim: "quote.signature", expected: "a signature by the attestation key",
                    actual: error.message, source: "the attestation key",
                    next: "the quote was changed, or another key made it"))
        }
    }

    /// The qualifying data, at full length: a prefix or padding is another nonce.
    public func verifyNonce(_ nonce: [UInt8]) throws(TPMError) {
        guard constantTimeEqual(attest.extraData, nonce) else {
            throw TPMError(
                Finding(
                    "nonce", claim: "quote.extraData", expected: Hex.encode(nonce),
                    actual: Hex.encode(attest.extraData),
                    source: "the verifier's nonce", next: "ask for a fresh quote; this one answers another question"))
        }
    }

    /// The values shown hash to the signed digest: H_sig over the selections in order, indices ascending.
    public func verifyDigest(_ pcrs: PCRBank, allowSHA1: Bool = false) throws(TPMError) -> PCRBank {
        let banks = attest.selections.filter { !$0.indices.isEmpty }.map(\.hash)
        guard allowSHA1 || banks.isEmpty || banks.contains(where: { $0 != .sha1 }) else {
            throw TPMError(
                Finding(
                    "pcr-sha1", claim: "quote.pcrSelect", expected: "a bank of SHA-256 or stronger",
                    actual: "only SHA-1 registers", source: "this verifier", next: "quote the SHA-256 bank"))
        }
        var covered = PCRBank()
        var digest = Digest(signature.hash)
        for selection in attest.selections {
            for index in selection.indices {
                guard let value = pcrs[selection.hash, index] else {
                    throw TPMError(
                        Finding(
                            "pcr-missing", claim: PCRBank.claim(selection.hash, index), expected: "a value",
                            actual: "none in the list", source: "the quote's selection"))
                }
                digest.update(value)
                covered[selection.hash, index] = value
            }
        }
        let actual = digest.finish()
        guard constantTimeEqual(actual, attest.pcrDigest) else {
            throw TPMError(
                Finding(
                    "pcr-digest", claim: "quote.pcrDigest", expected: Hex.encode(attest.pcrDigest),
                    actual: Hex.encode(actual), source: "the signed quote",
                    next: "the list of register values is not the one that was quoted"))
        }
        return covered
    }
}
