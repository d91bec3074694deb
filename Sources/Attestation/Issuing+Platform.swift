import Bytes
import Linux

/// What this machine is, as far as its own kernel can tell. Detected once, then never changed: a platform that stops
/// answering is a failure, not another platform.
public struct DetectedPlatform: Equatable, Sendable {
    public let platform: Evidence.Platform
    /// configfs-tsm's provider; `nil` for a machine that has a TPM only.
    public let provider: String?

    private static let providers: [String: Evidence.Platform] = ["sev_guest": .snp, "tdx_guest": .tdx]

    /// Traces of a confidential machine that the kernel leaves whether or not configfs-tsm works.
    private static let traces = ["/dev/sev-guest", "/dev/tdx_guest", "/sys/devices/system/cpu/sev/vmpl"]

    /// - Parameters:
    ///   - issuer: asks configfs-tsm.
    ///   - root: put before every path; empty on a real machine.
    /// - Throws: `TSMError` where the machine is confidential but cannot prove it: evidence from a TPM alone would then
    ///   pass for less than the owner pays for, so there must be none.
    public static func detect(_ issuer: TSMIssuer, root: String = "") throws(TSMError) -> DetectedPlatform {
        if let provider = try issuer.provider() {
            guard let platform = providers[provider] else {
                throw TSMError(message: "unknown provider \(provider)")
            }
            return DetectedPlatform(platform: platform, provider: provider)
        }
        if let trace = traces.first(where: { File.exists(root + $0) }) {
            throw TSMError(message: "\(trace) is there, but no provider answers")
        }
        let flags = (try? File.text("\(root)/proc/cpuinfo", limit: 16 << 20)) ?? ""
        if flags.split(separator: "\n").contains(where: { $0.split(separator: " ").contains("tdx_guest") }) {
            throw TSMError(message: "the processor says tdx_guest, but no provider answers")
        }
        return DetectedPlatform(platform: .tpm, provider: nil)
    }
}
