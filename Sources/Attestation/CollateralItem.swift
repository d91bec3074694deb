import Bytes
import Crypto
import SEVSNP
import TDX

/// One thing a maker of processors publishes that verification needs, verified before it is kept and when it is used.
public enum CollateralItem: Sendable, Equatable {
    /// Intel: chains, CRLs, TCB info and QE identity for one platform type.
    case intel(CollateralSource, Collateral)
    /// AMD: VCEK or VLEK certificate, DER.
    case endorsement([UInt8])
    /// AMD: ASK or ASVK, then ARK, PEM.
    case chain(Product, EndorsementKey.Kind, [UInt8])
    /// AMD: the ARK's revocation list, DER.
    case revocationList(Product, EndorsementKey.Kind, [UInt8])

    /// What it is looked up by; also a file name: lower-case letters, digits and `-` only.
    public func key() throws(Finding) -> String {
        switch self {
        case .intel(let source, _): Self.intelKey(source)
        case .endorsement(let bytes): try Self.endorsementKey(EndorsementKey(bytes))
        case .chain(let product, let kind, _): Self.key("chain", product, kind)
        case .revocationList(let product, let kind, _): Self.key("crl", product, kind)
        }
    }

    static func intelKey(_ source: CollateralSource) -> String {
        "intel-\(Hex.encode(source.fmspc))-\(source.authority.rawValue)"
    }

    static func key(_ what: String, _ product: Product, _ kind: EndorsementKey.Kind) -> String {
        "amd-\(what)-\(kind.rawValue)-\(product.rawValue.lowercased())"
    }

    /// A VCEK is for one chip at one TCB; a VLEK names no chip, so its digest tells it apart.
    private static func endorsementKey(_ key: EndorsementKey) -> String {
        guard key.kind == .vcek, let hardwareID = key.hardwareID else {
            return "amd-vlek-\(Hex.encode(HashAlgorithm.sha256.hash(key.certificate.der)))"
        }
        return vcekKey(key.product, hardwareID: hardwareID, tcb: key.tcb)
    }

    static func vcekKey(_ product: Product, hardwareID: [UInt8], tcb: TCBVersion) -> String {
        let id = Hex.encode(hardwareID.prefix(product.hardwareIDLength))
        return "amd-vcek-\(product.rawValue.lowercased())-\(id)-\(Hex.encode(tcb.raw(product).littleEndian))"
    }

    /// Verifies it under the pinned roots at `time`.
    ///
    /// - Parameter intel: verifier under Intel's root, or under that of a test product. AMD's are the shipped ARKs.
    /// - Returns: when it lapses.
    public func verify(intel: QuoteVerifier, at time: Instant) throws(Finding) -> Instant {
        switch self {
        case .intel(let source, let collateral):
            return try intel.verify(collateral, of: source, at: time)
        case .endorsement(let bytes):
            let key = try EndorsementKey(bytes)
            let chain = try Self.certificates(Array(AMDAnchors.chainPEM(key.product, key.kind).utf8))
            let verified = try VerifiedChain(
                endorsement: key, chain: chain, roots: [AMDAnchors.root(key.product).certificate()],
                revocationList: nil)
            try verified.requireValid(at: time)
            return Self.lapse([key.certificate] + chain)
        case .chain(let product, let kind, let pem):
            let chain = try Self.certificates(pem)
            let root = try AMDAnchors.root(product).certificate()
            guard chain.count == 2, let signer = chain.first, Self.sameKey(chain.last, root),
                signer.commonName == kind.issuerCommonName(product)
            else {
                throw Finding(
                    "chain-form", claim: "chain", expected: "\(kind.issuerCommonName(product)), then the pinned ARK",
                    actual: chain.map(\.subject).joined(separator: ", "))
            }
            for certificate in chain {
                try Self.signed { () throws(CryptoError) in try certificate.verify(issuedBy: root) }
                guard certificate.isValid(at: time) else {
                    throw Finding("cert-expired", claim: certificate.subject, actual: "\(time)")
                }
            }
            return Self.lapse(chain)
        case .revocationList(let product, _, let bytes):
            let root = try AMDAnchors.root(product).certificate()
            let list: RevocationList
            do { list = try RevocationList(der: bytes) } catch {
                throw Finding("crl-form", claim: "crl", expected: "a CRL in DER", actual: error.message)
            }
            try Self.signed { () throws(CryptoError) in try list.verify(issuedBy: root) }
            guard list.unknownCriticalExtensions.isEmpty, list.isCurrent(at: time), let end = list.nextUpdate else {
                throw Finding(
                    "crl-expired", claim: "crl", expected: "a complete list, current at \(time)",
                    actual: "until \(list.nextUpdate.map(\.description) ?? "never")")
            }
            return end
        }
    }

    private static func sameKey(_ certificate: Certificate?, _ root: Certificate) -> Bool {
        guard let key = try? certificate?.publicKey(), let pinned = try? root.publicKey() else { return false }
        return key == pinned
    }

    private static func signed(_ check: () throws(CryptoError) -> Void) throws(Finding) {
        do { try check() } catch {
            throw Finding("chain-signature", claim: "collateral", expected: "AMD's signature", actual: error.message)
        }
    }

    private static func certificates(_ pem: [UInt8]) throws(Finding) -> [Certificate] {
        do { return try Certificate.chain(pem: pem, limit: 4) } catch {
            throw Finding("parse-form", claim: "chain", expected: "certificates in PEM", actual: error.message)
        }
    }

    private static func lapse(_ certificates: [Certificate]) -> Instant {
        certificates.compactMap(\.notAfter).min() ?? Instant(seconds: 0)
    }
}
