import Bytes
import Glibc
import Linux

/// Asks the AMD secure processor for reports through `/dev/sev-guest`, for kernels without configfs-tsm
/// (Linux `include/uapi/linux/sev-guest.h`, `Documentation/virt/coco/sev-guest.rst`; messages: SEV-SNP ABI §7.3, §8.4).
///
/// The report is the same that configfs-tsm hands out, so what it proves is the same: this is another door, not a lesser
/// proof.
public struct SEVGuestIssuer: Sendable {
    public static let path = "/dev/sev-guest"
    /// configfs-tsm's name for what answers here.
    public static let provider = "sev_guest"

    /// SNP_GET_EXT_REPORT: _IOWR('S', 2, 32 bytes). SNP_GET_REPORT has nothing that this lacks.
    static let getExtendedReport: UInt = 0xC020_5302

    /// `snp_guest_request_ioctl`: msg_version u8 @0, req_data u64 @8, resp_data u64 @16, exitinfo2 u64 @24.
    static let argumentSize = 32
    /// `snp_report_req`: user_data 64 @0, vmpl u32 @64, 28 reserved bytes.
    static let requestSize = 96
    /// `snp_ext_report_req`: `snp_report_req`, certs_address u64 @96, certs_len u32 @104, padding.
    static let extendedRequestSize = 112
    static let certificateLengthOffset = 104
    /// `snp_report_resp`; in it MSG_REPORT_RSP: status u32, size u32, 24 reserved bytes, the report.
    static let responseSize = 4000
    static let responseHeader = 32

    /// The kernel's own limit (SEV_FW_BLOB_MAX_SIZE), and the unit that lengths are given in.
    static let maximumCertificates = 0x4000
    static let page = 0x1000

    /// Upper half of exitinfo2 (GHCB specification, SNP Guest Request).
    static let vmmInvalidLength: UInt32 = 1
    static let vmmBusy: UInt32 = 2

    private static let transient: Set<Int32> = [EBUSY, EINTR, EAGAIN, ETIMEDOUT]

    private let device: any GuestDevice
    private let pause: @Sendable (UInt32) -> Void

    public init(_ device: some GuestDevice = DeviceFile(Self.path)) {
        self.device = device
        pause = { BootClock.sleep(milliseconds: $0) }
    }

    init(_ device: some GuestDevice, pause: @escaping @Sendable (UInt32) -> Void) {
        self.device = device
        self.pause = pause
    }

    /// A report that carries `data`, with the certificates that the host has for it.
    ///
    /// The first request offers no room for certificates: a host that has none answers it, another says how much room it
    /// needs, and is asked again with just that.
    /// - Parameters:
    ///   - data: report data, exactly 64 bytes.
    ///   - privilegeLevel: VMPL that asks, 0 to 3. Kernels that run at a lower privilege, under an SVSM, all have
    ///     configfs-tsm.
    public func report(data: [UInt8], privilegeLevel: Int = 0) throws(TSMError) -> TSMReport {
        guard data.count == 64 else { throw TSMError(message: "report data of \(data.count) bytes, must be 64") }
        guard (0...3).contains(privilegeLevel) else {
            throw TSMError(message: "privilege level \(privilegeLevel), must be 0 to 3")
        }
        var room = 0
        var failure = ""
        for attempt in 0..<TSMIssuer.attempts {
            switch try request(data, UInt32(privilegeLevel), room: room) {
            case .report(let report, let certificates):
                return TSMReport(
                    provider: Self.provider, report: report,
                    auxiliary: certificates.allSatisfy { $0 == 0 } ? [] : certificates, manifest: [])
            case .moreRoom(let length):
                guard length > room, length <= Self.maximumCertificates, length.isMultiple(of: Self.page) else {
                    throw TSMError(
                        message: """
                            \(Self.path): the host wants \(length) bytes for certificates where it was given \(room), \
                            at most \(Self.maximumCertificates) in pages of \(Self.page)
                            """)
                }
                room = length
                failure = "the host's certificates keep growing"
            case .busy(let reason):
                failure = reason
                pause(UInt32(50 << attempt))
            }
        }
        throw TSMError(message: "\(Self.path): no report after \(TSMIssuer.attempts) attempts: \(failure)")
    }

    private enum Answer {
        case report([UInt8], certificates: [UInt8])
        case moreRoom(Int)
        case busy(String)
    }

    private func request(_ data: [UInt8], _ level: UInt32, room: Int) throws(TSMError) -> Answer {
        var blocks = Self.blocks(data: data, level: level, room: room)
        // Without an address the driver offers the host no room for certificates.
        let links =
            [BlockLink(0, 8, to: 1), BlockLink(0, 16, to: 2)]
            + (room > 0 ? [BlockLink(1, Self.requestSize, to: 3)] : [])
        var failure: SystemError?
        do throws(SystemError) {
            try device.control(Self.getExtendedReport, &blocks, links)
        } catch { failure = error }
        let (firmware, vmm) = try Self.errors(blocks)
        if vmm == Self.vmmInvalidLength { return .moreRoom(try Self.wantedLength(blocks)) }
        if let failure {
            if vmm == Self.vmmBusy || Self.transient.contains(failure.code) { return .busy("\(failure)") }
            throw TSMError(
                message:
                    "\(failure) (firmware error 0x\(String(firmware, radix: 16)), VMM error 0x\(String(vmm, radix: 16)))"
            )
        }
        guard vmm == 0, firmware == 0 else {
            throw TSMError(
                message: "\(Self.path): exitinfo2 0x\(String(vmm, radix: 16)) 0x\(String(firmware, radix: 16))")
        }
        return .report(try Self.report(blocks), certificates: blocks.count > 3 ? blocks[3] : [])
    }

    /// Argument, request, response and, where there is room, certificates.
    static func blocks(data: [UInt8], level: UInt32, room: Int) -> [[UInt8]] {
        var argument = ByteWriter()
        argument.u8(1)  // msg_version
        argument.zeros(argumentSize - 1)
        var request = ByteWriter()
        request.append(data)
        request.le(level)
        request.zeros(requestSize - request.bytes.count)
        request.zeros(8)  // certs_address
        request.le(UInt32(clamping: room))
        request.zeros(extendedRequestSize - request.bytes.count)
        let blocks = [argument.bytes, request.bytes, [UInt8](repeating: 0, count: responseSize)]
        return room > 0 ? blocks + [[UInt8](repeating: 0, count: room)] : blocks
    }

    /// exitinfo2: the firmware's error in the lower half, the VMM's in the upper. Where the firmware was never reached the
    /// kernel leaves all bits set (0xFF in older ones), which says nothing about the VMM.
    private static func errors(_ blocks: [[UInt8]]) throws(TSMError) -> (firmware: UInt32, vmm: UInt32) {
        do {
            var reader = ByteReader(blocks.first ?? [])
            try reader.skip(24, "snp_guest_request_ioctl")
            let firmware = try reader.le(UInt32.self, "fw_error")
            let vmm = try reader.le(UInt32.self, "vmm_error")
            return (firmware, vmm == .max ? 0 : vmm)
        } catch { throw TSMError(message: "\(path): \(error)") }
    }

    private static func wantedLength(_ blocks: [[UInt8]]) throws(TSMError) -> Int {
        do {
            var reader = ByteReader(blocks.count > 1 ? blocks[1] : [])
            try reader.skip(certificateLengthOffset, "snp_ext_report_req")
            return Int(try reader.le(UInt32.self, "certs_len"))
        } catch { throw TSMError(message: "\(path): \(error)") }
    }

    /// The report of MSG_REPORT_RSP.
    static func report(_ blocks: [[UInt8]]) throws(TSMError) -> [UInt8] {
        let status: UInt32
        let report: [UInt8]
        do throws(ParseError) {
            var reader = ByteReader(blocks.count > 2 ? blocks[2] : [])
            status = try reader.le(UInt32.self, "status")
            let size = try reader.le(UInt32.self, "report_size")
            try reader.skip(24, "reserved")
            report = try reader.take(Int(size), "report")
        } catch { throw TSMError(message: "\(path): \(error)") }
        guard status == 0 else {
            throw TSMError(message: "\(path): the firmware answers status 0x\(String(status, radix: 16))")
        }
        guard !report.isEmpty else { throw TSMError(message: "\(path): an empty report") }
        return report
    }
}
