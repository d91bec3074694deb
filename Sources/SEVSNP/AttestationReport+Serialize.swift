import Bytes

extension AttestationReport {
    /// A report with everything zero but what must not be: for whoever builds reports (the simulated TEE, tests).
    ///
    /// - Parameters:
    ///   - version: 2 to 5.
    ///   - policy: bit 17 is added.
    ///   - processor: required by versions 3 and later, refused by version 2; see `signedBytes`.
    public init(version: UInt32, policy: GuestPolicy, processor: ProcessorID?) {
        func zeros(_ count: Int) -> [UInt8] { [UInt8](repeating: 0, count: count) }
        self.version = version
        self.policy = GuestPolicy(rawValue: policy.rawValue | GuestPolicy.mustBeOne)
        self.processor = processor
        guestSVN = 0
        familyID = zeros(16)
        imageID = zeros(16)
        vmpl = 0
        signatureAlgorithm = 1
        currentTCB = RawTCBVersion(0)
        platformInfo = PlatformInfo(rawValue: 0)
        hasAuthorKey = false
        masksChipKey = false
        signingKey = .vcek
        reportData = zeros(64)
        measurement = zeros(48)
        hostData = zeros(32)
        idKeyDigest = zeros(48)
        authorKeyDigest = zeros(48)
        reportID = zeros(32)
        reportIDMA = [UInt8](repeating: 0xFF, count: 32)
        reportedTCB = RawTCBVersion(0)
        chipID = zeros(64)
        committedTCB = RawTCBVersion(0)
        currentFirmware = FirmwareVersion(major: 0, minor: 0, build: 0)
        committedFirmware = currentFirmware
        launchTCB = RawTCBVersion(0)
        launchMitigationVector = 0
        currentMitigationVector = 0
        signature = .zero
    }

    /// The 672 bytes that are signed. Fields longer than their place are cut and shorter ones filled with zeros, so
    /// the length is always right; a report that `init(_:)` gave comes back byte for byte.
    public var signedBytes: [UInt8] {
        // Plain appends rather than `ByteWriter`: every verification comes through here.
        var bytes: [UInt8] = []
        bytes.reserveCapacity(Self.size)
        func zeros(_ count: Int) { for _ in 0..<count { bytes.append(0) } }
        func field(_ value: [UInt8], _ count: Int) {
            bytes += value.prefix(count)
            zeros(max(0, count - value.count))
        }
        func le(_ value: UInt64, _ width: Int) {
            for index in 0..<width { bytes.append(UInt8(truncatingIfNeeded: value >> UInt64(8 * index))) }
        }
        func firmware(_ version: FirmwareVersion) { bytes += [version.build, version.minor, version.major, 0] }
        le(UInt64(version), 4)
        le(UInt64(guestSVN), 4)
        le(policy.rawValue, 8)
        field(familyID, 16)
        field(imageID, 16)
        le(UInt64(vmpl), 4)
        le(UInt64(signatureAlgorithm), 4)
        le(currentTCB.value, 8)
        le(platformInfo.rawValue, 8)
        le((hasAuthorKey ? 1 : 0) | (masksChipKey ? 2 : 0) | UInt64(signingKey.rawValue) << 2, 8)
        field(reportData, 64)
        field(measurement, 48)
        field(hostData, 32)
        field(idKeyDigest, 48)
        field(authorKeyDigest, 48)
        field(reportID, 32)
        field(reportIDMA, 32)
        le(reportedTCB.value, 8)
        let cpu = processor ?? ProcessorID(family: 0, model: 0, stepping: 0)
        bytes += [cpu.family, cpu.model, cpu.stepping]
        zeros(21)
        field(chipID, 64)
        le(committedTCB.value, 8)
        firmware(currentFirmware)
        firmware(committedFirmware)
        le(launchTCB.value, 8)
        le(launchMitigationVector, 8)
        le(currentMitigationVector, 8)
        zeros(Self.signedSize - bytes.count)
        return bytes
    }

    /// The whole report, 1184 bytes.
    public func serialize() -> [UInt8] {
        var writer = ByteWriter()
        writer.append(signedBytes)
        for part in [signature.r, signature.s] {
            writer.append(part.prefix(72))
            writer.zeros(max(0, 72 - part.count))
        }
        writer.zeros(Self.size - writer.bytes.count)
        return writer.bytes
    }
}
