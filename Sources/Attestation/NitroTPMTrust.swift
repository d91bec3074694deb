import Bytes
import Crypto
import TPM

/// Whether AWS's Nitro hypervisor signed a NitroTPM attestation document.
///
/// The document speaks for a TPM that the host provides. It says which software an instance runs to somebody who trusts
/// AWS; it proves nothing against AWS, so every verdict about it is marked `development`.
public struct NitroTPMTrust: Sendable {
    public let document: NitroTPMDocument
    /// The root is AWS's own.
    public let isGenuineRoot: Bool

    /// SHA-256 of the SubjectPublicKeyInfo of "aws.nitro-enclaves" G1, which signs for enclaves and for NitroTPM. The
    /// certificate's published SHA-256 fingerprint is 641a0321a3e244efe456463195d606317ed7cdcc3c1756e09893f3c68f79bb5b.
    public static let rootKey = "f2caf5ecc6190b4a8399b78bc58a2bbcd0382375db8a1bfd78a82743874fd225"

    /// - Parameters:
    ///   - roots: other roots to accept, for tests of the whole path; empty: AWS's only.
    /// - Throws: reasons `parse-…`, `chain`, `expired`, `signature`.
    public init(_ bytes: [UInt8], roots: [Certificate], at time: Instant) throws(Finding) {
        do { document = try NitroTPMDocument(parsing: bytes) } catch { throw error.finding }
        let leaf: Certificate
        var bundle: [Certificate] = []
        do {
            leaf = try Certificate(der: document.certificate)
            for der in document.bundle { bundle.append(try Certificate(der: der)) }
        } catch {
            throw Finding("parse-form", claim: "cabundle", expected: "X.509 certificates", actual: error.message)
        }
        var genuine = false
        let anchors = bundle.filter { certificate in
            guard let key = try? certificate.publicKey() else { return false }
            if Hex.encode(HashAlgorithm.sha256.hash(key.spki)) == Self.rootKey { genuine = true }
            return Hex.encode(HashAlgorithm.sha256.hash(key.spki)) == Self.rootKey
        }
        isGenuineRoot = genuine && roots.isEmpty
        do {
            try leaf.verifyPath(intermediates: bundle, roots: roots.isEmpty ? anchors : roots, at: time)
        } catch {
            throw Finding(
                error.isExpired ? "expired" : "chain", claim: "nitrotpm.certificate",
                expected: error.isExpired ? "valid at \(time)" : "a path to the root of AWS Nitro attestation",
                actual: error.message, source: roots.isEmpty ? "AWS's published root" : "the given roots",
                next: error.isExpired ? "documents live three hours: ask for a new one" : "")
        }
        do throws(CryptoError) {
            let key = try leaf.publicKey()
            guard key.kind == .p384 else { throw CryptoError(.signature, "a \(key.kind) key does not sign ES384") }
            try key.verifyECDSA(raw: document.signature, of: document.signed, hash: .sha384)
        } catch {
            throw Finding(
                "signature", claim: "nitrotpm.signature", expected: "a signature by the document's certificate",
                actual: error.message, source: "RFC 9052 §4.4", next: "the document was changed")
        }
    }
}
