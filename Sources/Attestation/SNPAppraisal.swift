import Bytes
import Crypto
import SEVSNP

/// Everything that one SEV-SNP report is judged by, as bytes from outside.
public struct SNPEvidence: Sendable {
    /// The bare report, 1184 bytes.
    public var report: [UInt8]
    /// VCEK or VLEK, DER or PEM.
    public var vek: [UInt8]
    /// ASK or ASVK, then ARK, PEM; AMD's shipped ones where `nil`.
    public var chain: [UInt8]?
    /// Trusted ARKs, PEM; AMD's shipped ones where `nil`.
    public var roots: [UInt8]?
    /// The ARK's revocation list, DER.
    public var revocationList: [UInt8]?

    public init(
        report: [UInt8], vek: [UInt8], chain: [UInt8]? = nil, roots: [UInt8]? = nil, revocationList: [UInt8]? = nil
    ) {
        self.report = report
        self.vek = vek
        self.chain = chain
        self.roots = roots
        self.revocationList = revocationList
    }

    /// Takes the certificates from an extended report's table; its CRL, which the host chose, is not used.
    public init(
        report: [UInt8], table: CertificateTable, roots: [UInt8]? = nil, revocationList: [UInt8]? = nil
    ) throws(Finding) {
        let signing: SigningKey
        do { signing = try AttestationReport(report).signingKey } catch { throw error.finding }
        let name: CertificateTable.Name = signing == .vlek ? .vlek : .vcek
        guard let vek = table[name] else {
            throw Finding(
                "parse-missing", claim: "auxblob.\(name)", expected: "the \(name) of this report",
                actual: "no such entry",
                source: "report.signing_key", next: "fetch the certificate from AMD's KDS and give it as --vek")
        }
        var chain: [UInt8]?
        if let signer = table[.ask], let root = table[.ark] {
            do {
                let certificates = [try Certificate.read(signer), try Certificate.read(root)]
                chain = certificates.flatMap { Array($0.pem.utf8) }
            } catch {
                throw Finding("parse-certificate", claim: "auxblob", actual: error.message)
            }
        }
        self.init(report: report, vek: vek, chain: chain, roots: roots, revocationList: revocationList)
    }
}

/// A report that is authentic, with what a policy says of it.
public struct SNPAppraisal: Sendable {
    public let verified: VerifiedReport
    public let chain: VerifiedChain
    /// The policy's first objection; `nil` when it accepts.
    public let finding: Finding?
    /// Claims that the report makes and the policy says nothing about.
    public let unchecked: [String]

    public var report: AttestationReport { verified.report }
    /// `simulated` when the root is not AMD's: the report is of a test product, not of AMD hardware.
    public var marks: [String] { chain.isAMDRoot ? [] : ["simulated"] }

    /// The verdict with all claims decoded.
    public var verdict: Verdict {
        if let finding {
            .reject(finding, claims: claims, unchecked: unchecked, marks: marks)
        } else {
            .accept(claims: claims, unchecked: unchecked, marks: marks)
        }
    }

    /// Judges one report. Order: parse, key kind, chain, validity, revocation, signature, TCB and chip, policy.
    ///
    /// Throws why the report is not authentic; what the policy objects to is `finding`.
    public static func appraise(
        _ evidence: SNPEvidence, policy: SNPPolicy, at time: Instant
    ) throws(Finding) -> SNPAppraisal {
        let report: AttestationReport
        do { report = try AttestationReport(evidence.report) } catch { throw error.finding }
        let key = SNPChainCache.Key(evidence)
        let chain: VerifiedChain
        if let known = SNPChainCache.shared[key] {
            chain = known
        } else {
            chain = try Self.chain(evidence, for: report)
            SNPChainCache.shared[key] = chain
        }
        return try appraise(report, chain: chain, policy: policy, at: time)
    }

    /// The same with a chain that is already verified.
    public static func appraise(
        _ report: AttestationReport, chain: VerifiedChain, policy: SNPPolicy, at time: Instant
    ) throws(Finding) -> SNPAppraisal {
        let verified = try chain.verify(report, at: time, allowMaskedChipID: policy.allowsMaskedChipID)
        var objection: Finding?
        do { try policy.check(verified, chain: chain) } catch { objection = error }
        return SNPAppraisal(
            verified: verified, chain: chain, finding: objection, unchecked: policy.unchecked(verified, chain: chain))
    }

    private static func chain(
        _ evidence: SNPEvidence, for report: AttestationReport
    ) throws(Finding) -> VerifiedChain {
        let endorsement = try EndorsementKey(evidence.vek)
        try endorsement.requireKind(of: report.signingKey)
        let shipped = { Array(AMDAnchors.chainPEM(endorsement.product, endorsement.kind).utf8) }
        let chain = try certificates(evidence.chain ?? shipped(), "chain")
        let roots = try certificates(evidence.roots ?? Array(AMDAnchors.rootsPEM.utf8), "roots")
        var list: RevocationList?
        if let bytes = evidence.revocationList {
            do { list = try RevocationList(der: bytes) } catch {
                throw Finding(
                    "parse-crl", claim: "crl", expected: "a revocation list, DER", actual: error.message,
                    source: "RFC 5280 §5", next: "fetch the list from AMD's KDS")
            }
        }
        return try VerifiedChain(endorsement: endorsement, chain: chain, roots: roots, revocationList: list)
    }

    private static func certificates(_ pem: [UInt8], _ name: String) throws(Finding) -> [Certificate] {
        do { return try Certificate.chain(pem: pem) } catch {
            throw Finding(
                "parse-certificate", claim: name, expected: "certificates, PEM", actual: error.message,
                source: "KDS specification", next: "give the file as AMD's KDS serves it")
        }
    }
}
