import Bytes
import Linux

/// What this machine is, as far as its own kernel can tell. Detected once, then never changed: a platform that stops
/// answering is a failure, not another platform.
public struct DetectedPlatform: Equatable, Sendable {
    /// Where hardware reports come from.
    public enum Interface: Equatable, Sendable, CustomStringConvertible {
        /// configfs-tsm, answered by this provider.
        case configFS(provider: String)
        /// `/dev/sev-guest`: a kernel without configfs-tsm.
        case sevGuest

        public var description: String {
            switch self {
            case .configFS(let provider): "configfs-tsm (\(provider))"
            case .sevGuest: SEVGuestIssuer.path
            }
        }
    }

    public let platform: Evidence.Platform
    /// `nil` for a machine that has a TPM only.
    public let interface: Interface?

    private static let providers: [String: Evidence.Platform] = ["sev_guest": .snp, "tdx_guest": .tdx]

    /// - Parameters:
    ///   - issuer: asks configfs-tsm.
    ///   - root: put before every path; empty on a real machine.
    ///   - sevGuest: `nil` for the device below `root`, as `tdxGuest`.
    /// - Throws: `TSMError` where the machine is confidential but cannot prove it: evidence from a TPM alone would then
    ///   pass for less than the owner pays for, so there must be none.
    public static func detect(
        _ issuer: TSMIssuer, root: String = "", sevGuest: SEVGuestIssuer? = nil, tdxGuest: TDXGuestDevice? = nil
    ) throws(TSMError) -> DetectedPlatform {
        if let provider = try issuer.provider() {
            guard let platform = providers[provider] else {
                throw TSMError(message: "unknown provider \(provider)")
            }
            return DetectedPlatform(platform: platform, interface: .configFS(provider: provider))
        }
        if File.exists(root + SEVGuestIssuer.path) {
            // A device that answers nothing proves nothing: the first report is made here.
            let device = sevGuest ?? SEVGuestIssuer(DeviceFile(root + SEVGuestIssuer.path))
            _ = try device.report(data: [UInt8](repeating: 0, count: 64))
            return DetectedPlatform(platform: .snp, interface: .sevGuest)
        }
        if File.exists(root + TDXGuestDevice.path) {
            throw (tdxGuest ?? TDXGuestDevice(DeviceFile(root + TDXGuestDevice.path))).unattestable()
        }
        let trace = "/sys/devices/system/cpu/sev/vmpl"
        if File.exists(root + trace) { throw TSMError(message: "\(trace) is there, but no provider answers") }
        let flags = (try? File.text("\(root)/proc/cpuinfo", limit: 16 << 20)) ?? ""
        if flags.split(separator: "\n").contains(where: { $0.split(separator: " ").contains("tdx_guest") }) {
            throw TSMError(message: "the processor says tdx_guest, but no provider answers")
        }
        return DetectedPlatform(platform: .tpm, interface: nil)
    }

    /// A hardware report from the interface that was detected, and from no other; `nil` on machines without one.
    public func report(data: [UInt8], issuer: TSMIssuer) throws(TSMError) -> TSMReport? {
        switch interface {
        case nil: nil
        case .configFS(let provider): try issuer.report(data: data, provider: provider)
        case .sevGuest: try SEVGuestIssuer().report(data: data)
        }
    }
}
