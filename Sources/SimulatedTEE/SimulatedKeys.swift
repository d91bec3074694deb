import Bytes
import Crypto
import SEVSNP
import TDX

/// What a simulated TEE signs with, and the certificates and collateral that lead to its own two roots.
///
/// The authorities' private keys are gone once the certificates are made: nothing else is ever signed by them.
public struct SimulatedKeys: Sendable {
    /// Signs SEV-SNP reports.
    public let vcek: PrivateKey
    /// VCEK, ASK, ARK as `auxblob` carries them.
    public let certificateTable: [UInt8]
    /// The machine that the VCEK certifies.
    public let snpShape: SNPAuthority.Shape
    public let quoter: TDXQuoter
    /// What a verifier of the quotes needs beside them, in the form of `TDX.Collateral`.
    public let collateral: [UInt8]
    /// SHA-256 of the public keys of both roots, ARK first: what a policy names.
    public let roots: [[UInt8]]

    /// A new hierarchy.
    public init(generating shape: SNPAuthority.Shape = SNPAuthority.Shape()) throws(CryptoError) {
        let authority = try SNPAuthority()
        try self.init(authority, shape, try TDXPlatform())
    }

    /// The hierarchy of authorities at hand.
    public init(
        _ authority: SNPAuthority, _ shape: SNPAuthority.Shape, _ platform: TDXPlatform
    ) throws(CryptoError) {
        let hierarchy = try authority.hierarchy(shape)
        vcek = authority.vekKey
        certificateTable =
            CertificateTable(entries: [
                .init(name: shape.kind == .vcek ? .vcek : .vlek, contents: hierarchy.vek.der),
                .init(name: .ask, contents: hierarchy.ask.der), .init(name: .ark, contents: hierarchy.ark.der),
            ]).serialize()
        snpShape = shape
        quoter = try platform.quoter()
        collateral = try platform.collateral()
        roots = [authority.arkKey.publicKey, platform.root.key.publicKey].map {
            HashAlgorithm.sha256.hash($0.spki)
        }
    }

    // MARK: Files

    private enum File: String {
        case vcek = "vcek.key"
        case certificates = "certificates.bin"
        case pck = "pck.key"
        case attestation = "attestation.key"
        case chain = "pck-chain.pem"
        case collateral = "collateral.json"
        case roots = "roots.json"
    }

    /// The files of a key directory; those that are secret want mode 0600.
    public func files() throws(CryptoError) -> [(name: String, isSecret: Bool, bytes: [UInt8])] {
        let roots = JSON.array(roots.map { .hex($0) }).pretty
        return [
            (File.vcek.rawValue, true, try vcek.pem()),
            (File.certificates.rawValue, false, certificateTable),
            (File.pck.rawValue, true, try quoter.pckKey.pem()),
            (File.attestation.rawValue, true, try quoter.attestationKey.pem()),
            (File.chain.rawValue, false, quoter.certificateChain),
            (File.collateral.rawValue, false, collateral),
            (File.roots.rawValue, false, Array(roots.utf8)),
        ]
    }

    /// Reads a key directory.
    /// - Throws: `FileError`, `CryptoError`, `ParseError` or `Finding`, naming the file or field.
    public init(directory: String) throws {
        func read(_ file: File) throws -> [UInt8] {
            try Files.read("\(directory)/\(file.rawValue)", limit: 1 << 20)
        }
        vcek = try PrivateKey(pem: read(.vcek))
        certificateTable = try read(.certificates)
        let table = try CertificateTable(certificateTable)
        let endorsement = try EndorsementKey(table[.vcek] ?? table[.vlek] ?? [])
        var shape = SNPAuthority.Shape()
        shape.kind = endorsement.kind
        shape.product = endorsement.product
        shape.tcb = endorsement.tcb
        shape.hardwareID = endorsement.hardwareID
        shape.cspID = endorsement.cspID
        snpShape = shape
        quoter = TDXQuoter(
            pckKey: try PrivateKey(pem: read(.pck)), attestationKey: try PrivateKey(pem: read(.attestation)),
            certificateChain: try read(.chain))
        collateral = try read(.collateral)
        let list = try JSON(parsing: read(.roots), limit: 4096).array ?? []
        roots = try list.map { try JSONFields.hex($0, path: File.roots.rawValue, count: 32) }
    }
}
