import Bytes
import Crypto
import Host
import Manifest
import Measurement

/// The last step of a build: measurements, manifest and signature beside the disk they speak of.
public struct ImageRelease: Sendable {
    public let release: Release
    /// The lock that the image was built from.
    public let lock: String
    /// PEM file of the key that signs.
    public let key: String

    /// How confidential VMs are launched with the image.
    public struct Launches: Sendable {
        /// Code and variables in one file; `nil`: the pinned OVMF.
        public var firmware: String?
        /// SEV-SNP launch digests are published for each of these numbers and types.
        public var vcpus: [Int]
        public var vcpuTypes: [String]

        public init(firmware: String? = nil, vcpus: [Int] = [], vcpuTypes: [String] = []) {
            self.firmware = firmware
            self.vcpus = vcpus
            self.vcpuTypes = vcpuTypes
        }
    }
    public let launches: Launches

    public init(_ release: Release, lock: String, key: String, launches: Launches = Launches()) {
        self.release = release
        self.lock = lock
        self.key = key
        self.launches = launches
    }

    /// Adds the three documents to an image directory that has everything else.
    ///
    /// - Parameter kubernetes: the version inside, as the manifest names it.
    public func write(into directory: String, kubernetes: String) async throws(Finding) {
        typealias File = ImageBuilder.File
        var release = release
        release.kubernetes = kubernetes
        // First what needs no minute of hashing.
        let pem = try HostFiles.read(key, limit: 1 << 16)
        let signer: PrivateKey
        do {
            signer = try PrivateKey(pem: pem)
        } catch {
            throw Finding("image-key", claim: key, expected: "a private key, PEM", actual: "\(error)")
        }
        let document = try await MeasurementRequest(
            image: "\(directory)/\(File.raw)", firmware: "\(directory)/\(File.firmwareCode)",
            launchFirmware: launches.firmware ?? "\(directory)/\(File.firmwareCombined)",
            directKernel: "\(directory)/\(File.uki)", variables: "\(directory)/\(File.firmwareVariables)",
            vcpus: launches.vcpus, vcpuTypes: launches.vcpuTypes
        ).document()
        try HostFiles.create("\(directory)/\(File.measurements)", Array(document.json.pretty.utf8))
        let rootHash = String(decoding: try HostFiles.read("\(directory)/\(File.rootHash)", limit: 128), as: UTF8.self)
        let manifest = try release.manifest(
            measurements: Measurements(document.json), rootHash: Hex.decode(rootHash.filter { !$0.isWhitespace }) ?? [],
            paths: .init(raw: "\(directory)/\(File.raw)", uki: "\(directory)/\(File.uki)", lock: lock))
        try HostFiles.create("\(directory)/\(File.manifest)", manifest.bytes)
        let bundle = try ManifestVerifier.sign(manifest.bytes, name: File.manifest, key: signer)
        try HostFiles.create("\(directory)/\(File.bundle)", bundle.bytes)
    }
}
