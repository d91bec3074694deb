import Bytes
import Crypto
import Glibc
import Linux
import Synchronization
import TDX
import TestKit
import Testing

@testable import Attestation

/// A guest device in memory: notes what it was asked, and answers with what is next in its list.
private final class SimulatedDevice: GuestDevice {
    struct Call: Sendable {
        let number: UInt
        let blocks: [[UInt8]]
        let links: [BlockLink]
    }

    /// What the driver writes into the blocks, and the errno that it returns.
    typealias Answer = @Sendable (inout [[UInt8]]) -> Int32

    let calls = Mutex<[Call]>([])
    private let answers: [Answer]

    /// - Parameter answers: one for each call; the last one for all further calls.
    init(_ answers: Answer...) { self.answers = answers }

    func control(_ number: UInt, _ blocks: inout [[UInt8]], _ links: [BlockLink]) throws(SystemError) {
        let index = calls.withLock { calls in
            calls.append(Call(number: number, blocks: blocks, links: links))
            return min(calls.count, answers.count) - 1
        }
        let code = answers[index](&blocks)
        if code != 0 { throw SystemError("ioctl", code: code) }
    }

    static func put(_ value: [UInt8], _ block: inout [UInt8], at offset: Int) {
        block.replaceSubrange(offset..<(offset + value.count), with: value)
    }

    static func little(_ value: UInt32) -> [UInt8] { (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) } }

    /// MSG_REPORT_RSP with a report that starts with the user data, and certificates where there is room.
    static func report(status: UInt32 = 0, size: UInt32 = 1184, certificates: [UInt8] = []) -> Answer {
        { blocks in
            put(little(status) + little(size), &blocks[2], at: 0)
            put(Array(blocks[1].prefix(64)), &blocks[2], at: 32)
            if blocks.count > 3 { put(certificates, &blocks[3], at: 0) }
            return 0
        }
    }

    /// exitinfo2 as the driver copies it back.
    static func failure(_ code: Int32, firmware: UInt32 = 0, vmm: UInt32 = 0, wanted: UInt32? = nil) -> Answer {
        { blocks in
            put(little(firmware) + little(vmm), &blocks[0], at: 24)
            if let wanted { put(little(wanted), &blocks[1], at: 104) }
            return code
        }
    }
}

@Suite("Reports through /dev/sev-guest")
struct SEVGuestTests {
    static let data = [UInt8](0..<64)

    private func issuer(_ device: SimulatedDevice) -> SEVGuestIssuer { SEVGuestIssuer(device, pause: { _ in }) }

    @Test("are asked for in the driver's structures, with user data, level and message version in their places")
    func encoding() throws {
        let device = SimulatedDevice(SimulatedDevice.report())
        let report = try issuer(device).report(data: Self.data, privilegeLevel: 2)
        #expect(report.provider == "sev_guest")
        let whole: [UInt8] = Self.data + [UInt8](repeating: 0, count: 1184 - 64)
        #expect(report.report == whole)
        #expect(report.auxiliary.isEmpty)
        let calls = device.calls.withLock { $0 }
        try #require(calls.count == 1)
        // _IOWR('S', 2, struct snp_guest_request_ioctl): direction 3, size 32, type 0x53.
        #expect(calls[0].number == 0xC020_5302)
        #expect(calls[0].blocks.map(\.count) == [32, 112, 4000])
        let argument: [UInt8] = [1] + [UInt8](repeating: 0, count: 31)
        #expect(calls[0].blocks[0] == argument)
        let level: [UInt8] = [2, 0, 0, 0]
        let request: [UInt8] = Self.data + level + [UInt8](repeating: 0, count: 44)
        #expect(calls[0].blocks[1] == request)
        #expect(calls[0].links == [BlockLink(0, 8, to: 1), BlockLink(0, 16, to: 2)])
    }

    @Test("come with the host's certificates: once without room to learn their length, once with it")
    func certificates() throws {
        let table = [UInt8](repeating: 0xA5, count: 100)
        let device = SimulatedDevice(
            SimulatedDevice.failure(ENOSPC, vmm: 1, wanted: 8192), SimulatedDevice.report(certificates: table))
        let report = try issuer(device).report(data: Self.data)
        let padded: [UInt8] = table + [UInt8](repeating: 0, count: 8192 - 100)
        #expect(report.auxiliary == padded)
        let calls = device.calls.withLock { $0 }
        try #require(calls.count == 2)
        #expect(calls[1].blocks.map(\.count) == [32, 112, 4000, 8192])
        #expect(Array(calls[1].blocks[1][104..<108]) == [0, 0x20, 0, 0])
        #expect(calls[1].links.last == BlockLink(1, 96, to: 3))
    }

    @Test("take an older driver's EIO for the same answer, and an empty table for none")
    func olderDriver() throws {
        let device = SimulatedDevice(
            SimulatedDevice.failure(EIO, vmm: 1, wanted: 4096), SimulatedDevice.report(certificates: []))
        #expect(try issuer(device).report(data: Self.data).auxiliary.isEmpty)
    }

    @Test("are refused where the host asks for more than the kernel passes on", arguments: [0, 100, 0x5000, .max])
    func lengths(wanted: UInt32) {
        let device = SimulatedDevice(SimulatedDevice.failure(ENOSPC, vmm: 1, wanted: wanted))
        #expect(throws: TSMError.self) { try issuer(device).report(data: Self.data) }
        #expect(device.calls.withLock { $0.count } == 1)
    }

    @Test("are given up when the host never has enough room")
    func growing() {
        let device = SimulatedDevice { blocks in
            let room = blocks.count > 3 ? UInt32(blocks[3].count) : 0
            return SimulatedDevice.failure(ENOSPC, vmm: 1, wanted: room + 4096)(&blocks)
        }
        #expect(throws: TSMError.self) { try issuer(device).report(data: Self.data) }
        #expect(device.calls.withLock { $0.count } == 5)
    }

    @Test("are asked for again when the host is busy, a bounded number of times")
    func busy() throws {
        let once = SimulatedDevice(SimulatedDevice.failure(EIO, vmm: 2), SimulatedDevice.report())
        #expect(try issuer(once).report(data: Self.data).report.prefix(64).elementsEqual(Self.data))
        let interrupted = SimulatedDevice(
            SimulatedDevice.failure(EINTR, firmware: .max, vmm: .max), SimulatedDevice.report())
        #expect(try issuer(interrupted).report(data: Self.data).provider == "sev_guest")
        let always = SimulatedDevice(SimulatedDevice.failure(EAGAIN, vmm: 2))
        #expect(throws: TSMError.self) { try issuer(always).report(data: Self.data) }
        #expect(always.calls.withLock { $0.count } == TSMIssuer.attempts)
    }

    @Test("fail with the firmware's and the VMM's error in words")
    func failures() throws {
        let refused = SimulatedDevice(SimulatedDevice.failure(EIO, firmware: 0x16))
        let error = #expect(throws: TSMError.self) { try issuer(refused).report(data: Self.data) }
        #expect(error?.message.contains("firmware error 0x16") == true)
        #expect(refused.calls.withLock { $0.count } == 1)
        // No error number, but errors in exitinfo2 or in the message itself: no report either.
        for answer in [
            SimulatedDevice.failure(0, firmware: 0x16), SimulatedDevice.failure(0, vmm: 9),
            SimulatedDevice.report(status: 0x16), SimulatedDevice.report(size: 0),
            SimulatedDevice.report(size: 3969), SimulatedDevice.report(size: .max),
        ] {
            #expect(throws: TSMError.self) { try issuer(SimulatedDevice(answer)).report(data: Self.data) }
        }
        let good = SimulatedDevice(SimulatedDevice.report())
        #expect(throws: TSMError.self) { try issuer(good).report(data: [1]) }
        #expect(throws: TSMError.self) { try issuer(good).report(data: Self.data, privilegeLevel: 4) }
    }

    @Test("reach the kernel as addresses of the blocks, and say which device refused")
    func kernel() throws {
        let folder = try TemporaryFolder()
        let path = try folder.file("sev-guest", "not a device")
        let error = #expect(throws: TSMError.self) { try SEVGuestIssuer(DeviceFile(path)).report(data: Self.data) }
        #expect(error?.message.contains(path) == true)
        // A real ioctl with an argument that the kernel fills in: the number of bytes that can be read (FIONREAD).
        var blocks = [[UInt8](repeating: 0xFF, count: 4)]
        try DeviceFile(path).control(0x541B, &blocks, [])
        #expect(blocks == [[12, 0, 0, 0]])
        var linked = [[UInt8](repeating: 0, count: 7)]
        #expect(throws: SystemError.self) { try DeviceFile(path).control(0x541B, &linked, [BlockLink(0, 0, to: 0)]) }
    }

    @Test("make the platform SEV-SNP where configfs-tsm is absent, and nothing at all where they cannot be made")
    func platform() throws {
        let folder = try TemporaryFolder()
        let none = TSMIssuer(ConfigFS(root: "\(folder.path)/none"))
        try #require(unsafe mkdir("\(folder.path)/dev", 0o755) == 0)
        _ = try folder.file("dev/sev-guest", "")
        let found = try DetectedPlatform.detect(
            none, root: folder.path, sevGuest: issuer(SimulatedDevice(SimulatedDevice.report())))
        #expect(found == DetectedPlatform(platform: .snp, interface: .sevGuest))
        #expect(found.interface?.description == "/dev/sev-guest")
        #expect(throws: TSMError.self) {
            try DetectedPlatform.detect(
                none, root: folder.path, sevGuest: issuer(SimulatedDevice(SimulatedDevice.failure(EIO, firmware: 1))))
        }
    }
}

@Suite("/dev/tdx_guest")
struct TDXGuestTests {
    static let data = [UInt8](0..<64)

    private static func device(_ data: [UInt8] = data, flip: Int? = nil) -> SimulatedDevice {
        var body = TDBody()
        body.reportData = data
        body.mrTD = [UInt8](repeating: 0x4D, count: 48)
        var report = TDReport(
            version: 0, cpuSVN: [UInt8](repeating: 0, count: 16), mac: [UInt8](repeating: 9, count: 32), body: body
        ).serialize()
        if let flip { report[flip] ^= 1 }
        let answer = report
        return SimulatedDevice { blocks in
            SimulatedDevice.put(answer, &blocks[0], at: 64)
            return 0
        }
    }

    @Test("answers with this domain's own report")
    func report() throws {
        let device = Self.device()
        let report = try TDXGuestDevice(device).localReport(data: Self.data)
        #expect(report.body.reportData == Self.data)
        let calls = device.calls.withLock { $0 }
        // _IOWR('T', 1, struct tdx_report_req): direction 3, size 1088, type 0x54.
        #expect(calls.map(\.number) == [0xC440_5401])
        let argument: [UInt8] = Self.data + [UInt8](repeating: 0, count: 1024)
        #expect(calls[0].blocks == [argument])
        #expect(calls[0].links.isEmpty)
    }

    @Test("is not believed with other report data, broken hashes or an error")
    func refusals() {
        let other = [UInt8](repeating: 1, count: 64)
        #expect(throws: TSMError.self) { try TDXGuestDevice(Self.device(other)).localReport(data: Self.data) }
        #expect(throws: TSMError.self) { try TDXGuestDevice(Self.device(flip: 600)).localReport(data: Self.data) }
        #expect(throws: TSMError.self) {
            try TDXGuestDevice(SimulatedDevice { _ in EIO }).localReport(data: Self.data)
        }
        #expect(throws: TSMError.self) { try TDXGuestDevice(Self.device()).localReport(data: [1]) }
    }

    @Test("alone makes no platform: the machine is told from others, but proves nothing")
    func platform() throws {
        let folder = try TemporaryFolder()
        try #require(unsafe mkdir("\(folder.path)/dev", 0o755) == 0)
        _ = try folder.file("dev/tdx_guest", "")
        let none = TSMIssuer(ConfigFS(root: "\(folder.path)/none"))
        let device = TDXGuestDevice(Self.device([UInt8](repeating: 0, count: 64)))
        let error = #expect(throws: TSMError.self) {
            try DetectedPlatform.detect(none, root: folder.path, tdxGuest: device)
        }
        #expect(error?.message.contains(String(repeating: "4d", count: 48)) == true)
        // The real file is no device: still no platform.
        #expect(throws: TSMError.self) { try DetectedPlatform.detect(none, root: folder.path) }
    }
}

@Suite("Runtime registers through tsm-mr")
struct RuntimeRegistersTests {
    static let zero = [UInt8](repeating: 0, count: 48)

    /// A directory that the register files are plain files of: writing replaces, where the kernel's extends.
    private func folder(_ value: [UInt8]) throws -> TemporaryFolder {
        let folder = try TemporaryFolder()
        _ = try folder.file("rtmr3:sha384", value)
        return folder
    }

    @Test("are read as 48 bytes, and no other length is a value")
    func values() throws {
        let value = [UInt8](0..<48)
        let right = try folder(value)
        #expect(try RuntimeRegisters(root: right.path).value(3) == value)
        for wrong in [[], Array(value.dropLast()), value + [0]] {
            let folder = try folder(wrong)
            #expect(throws: TSMError.self) { try RuntimeRegisters(root: folder.path).value(3) }
        }
    }

    @Test("are written the SHA-384 of what is measured, and then hold what the hardware makes of it")
    func extend() throws {
        let folder = try folder(Self.zero)
        let registers = RuntimeRegisters(root: folder.path) { path, digest throws(SystemError) in
            // What the kernel does for a write.
            let before = try File.contents(path, limit: 48)
            try File(path, O_WRONLY).write(HashAlgorithm.sha384.hash(before + digest))
        }
        for phase in ["one", "two"] {
            let digest = try registers.extend(3, with: Array(phase.utf8))
            #expect(digest == HashAlgorithm.sha384.hash(Array(phase.utf8)))
        }
        let one = HashAlgorithm.sha384.hash(Array("one".utf8))
        let two = HashAlgorithm.sha384.hash(Array("two".utf8))
        let expected = HashAlgorithm.sha384.hash(HashAlgorithm.sha384.hash(Self.zero + one) + two)
        #expect(try registers.value(3) == expected)
    }

    @Test("that do not move by what was written are an error")
    func unmoved() throws {
        let folder = try folder(Self.zero)
        let registers = RuntimeRegisters(root: folder.path)
        #expect(throws: TSMError.self) { try registers.extend(3, with: Array("phase".utf8)) }
        // What a plain file kept is exactly what the kernel would have extended by.
        #expect(try registers.value(3) == HashAlgorithm.sha384.hash(Array("phase".utf8)))
    }

    @Test("that are absent or read-only are an error, with the kernel that has them")
    func absent() throws {
        let folder = try TemporaryFolder()
        let error = #expect(throws: TSMError.self) {
            try RuntimeRegisters(root: folder.path).extend(3, with: [1])
        }
        #expect(error?.message.contains("6.16") == true)
    }
}
