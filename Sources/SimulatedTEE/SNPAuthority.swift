import Bytes
import Crypto
import SEVSNP

/// A throw-away hierarchy shaped like AMD's: RSA-4096 ARK and ASK, P-384 endorsement keys, signed reports.
public struct SNPAuthority: Sendable {
    public let arkKey: PrivateKey
    public let askKey: PrivateKey
    public let vekKey: PrivateKey

    /// New keys.
    public init() throws(CryptoError) {
        arkKey = try PrivateKey(generatingRSA: 4096)
        askKey = try PrivateKey(generatingRSA: 4096)
        vekKey = try PrivateKey(generating: .p384)
    }

    /// What may be changed before the hierarchy is made.
    public struct Shape: Sendable {
        public var product = Product.milan
        public var kind = EndorsementKey.Kind.vcek
        public var tcb = TCBVersion(bootloader: 4, tee: 0, snp: 27, microcode: 222)
        public var productName: String?
        public var hardwareID: [UInt8]? = (0..<64).map { UInt8($0 + 1) }
        public var cspID: String?
        /// Applied to the builder of each certificate last.
        public var ark: @Sendable (inout CertificateBuilder) -> Void = { _ in }
        public var ask: @Sendable (inout CertificateBuilder) -> Void = { _ in }
        public var vek: @Sendable (inout CertificateBuilder) -> Void = { _ in }
        public init() {}

        /// Turin: FMC, eight bytes of hardware id.
        public static let turin: Shape = {
            var shape = Shape()
            shape.product = .turin
            shape.tcb = TCBVersion(fmc: 1, bootloader: 2, tee: 1, snp: 5, microcode: 90)
            shape.hardwareID = [1, 2, 3, 4, 5, 6, 7, 8]
            return shape
        }()

        /// A VLEK of a cloud.
        public static let vlek: Shape = {
            var shape = Shape()
            shape.kind = .vlek
            shape.hardwareID = nil
            shape.cspID = "CN=cc-test.example.com"
            return shape
        }()
    }

    public struct Hierarchy: Sendable {
        public let shape: Shape
        public let ark: Certificate
        public let ask: Certificate
        public let vek: Certificate
        public var chain: [Certificate] { [ask, ark] }
        public var chainPEM: [UInt8] { Array((ask.pem + ark.pem).utf8) }
        public var rootsPEM: [UInt8] { Array(ark.pem.utf8) }
    }

    public func hierarchy(_ shape: Shape = Shape()) throws(CryptoError) -> Hierarchy {
        let rootName = "ARK-\(shape.product.rawValue)"
        let signerName = shape.kind.issuerCommonName(shape.product)
        var ark = CertificateBuilder(subject: rootName, issuer: rootName, spki: arkKey.publicKey.spki)
        ark.serial = [1]
        ark.extensions = [CertificateBuilder.basicConstraints(ca: true), CertificateBuilder.authorityUsage]
        shape.ark(&ark)
        var ask = CertificateBuilder(subject: signerName, issuer: rootName, spki: askKey.publicKey.spki)
        ask.serial = [1, 1]
        ask.extensions = ark.extensions
        shape.ask(&ask)
        var vek = CertificateBuilder(
            subject: shape.kind.commonName, issuer: signerName, spki: vekKey.publicKey.spki)
        vek.extensions = Self.extensions(shape)
        shape.vek(&vek)
        return Hierarchy(
            shape: shape, ark: try ark.certificate(signedBy: arkKey), ask: try ask.certificate(signedBy: arkKey),
            vek: try vek.certificate(signedBy: askKey))
    }

    /// The ARK's revocation list.
    public func revocationList(
        _ shape: Shape = Shape(), revoked: [[UInt8]] = [], signedBy key: PrivateKey? = nil,
        _ change: (inout CertificateBuilder) -> Void = { _ in }
    ) throws(CryptoError) -> RevocationList {
        let name = "ARK-\(shape.product.rawValue)"
        var builder = CertificateBuilder(subject: name, issuer: name, spki: [])
        change(&builder)
        return try builder.revocationList(revoked: revoked, signedBy: key ?? arkKey)
    }

    /// A report that the hierarchy's key would make, signed; `change` runs before the signature.
    public func report(
        _ shape: Shape = Shape(), version: UInt32 = 3, _ change: (inout AttestationReport) -> Void = { _ in }
    ) throws(CryptoError) -> AttestationReport {
        var report = shape.report(version: version)
        change(&report)
        try sign(&report)
        return report
    }

    public func sign(_ report: inout AttestationReport) throws(CryptoError) { try report.sign(with: vekKey) }

    private static func extensions(_ shape: Shape) -> [CertificateBuilder.Extension] {
        func item(_ name: String, _ value: [UInt8]) -> CertificateBuilder.Extension {
            CertificateBuilder.Extension("1.3.6.1.4.1.3704.1.\(name)", value)
        }
        let tcb = shape.tcb
        let name = shape.productName ?? shape.product.rawValue
        var list = [
            item("1", DER.unsigned([shape.product == .turin ? 1 : 0])), item("2", DER.element(0x16, Array(name.utf8))),
            item("3.1", DER.unsigned([tcb.bootloader])), item("3.2", DER.unsigned([tcb.tee])),
            item("3.3", DER.unsigned([tcb.snp])), item("3.8", DER.unsigned([tcb.microcode])),
        ]
        for index in 4...7 { list.append(item("3.\(index)", DER.unsigned([0]))) }
        if let fmc = tcb.fmc { list.append(item("3.9", DER.unsigned([fmc]))) }
        if let id = shape.hardwareID { list.append(item("4", id)) }
        if let csp = shape.cspID { list.append(item("5", DER.element(0x16, Array(csp.utf8)))) }
        return list
    }
}

extension SNPAuthority.Shape {
    /// A report of this machine with nothing but what the machine itself puts into it, not signed.
    public func report(version: UInt32) -> AttestationReport {
        let processor: ProcessorID? =
            switch (version, product) {
            case (2, _): nil
            case (_, .milan): ProcessorID(family: 0x19, model: 1, stepping: 1)
            case (_, .genoa): ProcessorID(family: 0x19, model: 0x11, stepping: 1)
            case (_, .turin): ProcessorID(family: 0x1A, model: 2, stepping: 1)
            }
        var report = AttestationReport(
            version: version, policy: GuestPolicy(rawValue: 0x30000), processor: processor)
        let tcb = tcb.raw(product)
        report.reportedTCB = tcb
        report.currentTCB = tcb
        report.committedTCB = tcb
        report.launchTCB = tcb
        report.currentFirmware = FirmwareVersion(major: 1, minor: 55, build: 40)
        report.committedFirmware = report.currentFirmware
        report.signingKey = kind == .vcek ? .vcek : .vlek
        if let id = hardwareID { report.chipID = id + [UInt8](repeating: 0, count: max(0, 64 - id.count)) }
        return report
    }
}

extension AttestationReport {
    /// Signs as the security processor does: ECDSA P-384 over the first 672 bytes.
    public mutating func sign(with key: PrivateKey) throws(CryptoError) {
        signature = ReportSignature(bigEndian: try key.signRaw(signedBytes, .sha384, size: 48))
    }
}

extension PrivateKey {
    /// r ‖ s, big-endian, `size` bytes each: how reports and quotes carry ECDSA signatures.
    func signRaw(_ message: [UInt8], _ hash: HashAlgorithm, size: Int) throws(CryptoError) -> [UInt8] {
        let encoded = try sign(message, scheme: .ecdsa(hash))
        let parts: [DER.Element]
        do { parts = try DER.single(encoded, "signature").children("signature") } catch {
            throw CryptoError(.form, error.message)
        }
        return parts.flatMap { part in
            let magnitude = DER.unsignedInteger(part.content) ?? []
            return [UInt8](repeating: 0, count: max(0, size - magnitude.count)) + magnitude
        }
    }
}
