import Bytes
import Linux
import TDX

/// Asks the TDX module for this domain's own report through `/dev/tdx_guest`
/// (Linux `include/uapi/linux/tdx-guest.h`, `Documentation/virt/coco/tdx-guest.rst`).
///
/// A TDREPORT is no evidence: its MAC is keyed by the processor that made it, so only a quoting enclave on the same host
/// can check it and turn it into a quote. Without configfs-tsm upstream Linux has no way from here to that enclave (what
/// is left is a vsock to the host's quote service, which upstream guests do not have). It serves to say *what* cannot
/// be proved.
public struct TDXGuestDevice: Sendable {
    public static let path = "/dev/tdx_guest"
    /// TDX_CMD_GET_REPORT0: _IOWR('T', 1, reportdata 64 ‖ tdreport 1024).
    static let getReport: UInt = 0xC440_5401

    private let device: any GuestDevice

    public init(_ device: some GuestDevice = DeviceFile(Self.path)) { self.device = device }

    /// The local report that carries `data`, exactly 64 bytes.
    public func localReport(data: [UInt8]) throws(TSMError) -> TDReport {
        guard data.count == 64 else { throw TSMError(message: "report data of \(data.count) bytes, must be 64") }
        var blocks = [data + [UInt8](repeating: 0, count: TDReport.size)]
        do throws(SystemError) {
            try device.control(Self.getReport, &blocks, [])
        } catch { throw TSMError(message: "\(error)") }
        do throws(ParseError) {
            let report = try TDReport(parsing: Array(blocks[0].dropFirst(64)))
            guard report.body.reportData == data else {
                throw ParseError("form", field: "tdreport.report_data", offset: 128, "is not what was asked for")
            }
            return report
        } catch { throw TSMError(message: "\(Self.path): \(error)") }
    }

    /// Why a machine with this device and nothing else cannot prove what it is.
    func unattestable() -> TSMError {
        let what: String
        do throws(TSMError) {
            let report = try localReport(data: [UInt8](repeating: 0, count: 64))
            what = "a trust domain with MRTD \(Hex.encode(report.body.mrTD))"
        } catch { what = "no readable TDREPORT (\(error.message))" }
        return TSMError(
            message: """
                \(Self.path) is there, but no provider makes quotes: \(what); a TDREPORT can be checked on this host \
                only, and a quote needs configfs-tsm (Linux 6.7 or newer)
                """)
    }
}
