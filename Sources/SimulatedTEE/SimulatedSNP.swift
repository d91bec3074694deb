import Bytes
import Crypto
import Glibc
import Linux
import SEVSNP

/// Answers as a SEV-SNP guest's kernel does (`drivers/virt/coco/sev-guest`).
public struct SimulatedSNP: ReportProvider {
    public let name = "sev_guest"
    public let hasPrivilegeLevels = true
    public var hasServices = false

    private let keys: SimulatedKeys
    /// 2 to 5.
    public var reportVersion: UInt32 = 3
    /// Launch digest.
    public var measurement = [UInt8](repeating: 0, count: 48)
    /// Guest policy; bit 17 is added.
    public var policy: UInt64 = 0x30000
    public var hostData = [UInt8](repeating: 0, count: 32)
    public var guestSVN: UInt32 = 0
    public var platformInfo: UInt64 = 0
    /// What `manifestblob` holds under an SVSM.
    public var serviceManifest = Array("Nacre Simulated TEE: no services\n".utf8)
    /// Changes a report before it is signed.
    public var change: @Sendable (inout AttestationReport) -> Void = { _ in }

    public init(_ keys: SimulatedKeys) { self.keys = keys }

    public func registers() -> [[UInt8]] { [] }

    public func report(_ request: ReportTree.Request) throws(SystemError) -> ReportTree.Answer {
        guard request.data.count == 64 else { throw SystemError("inblob", code: EINVAL) }
        let asksServices = !request.serviceProvider.isEmpty
        // The kernel knows one service provider, and only under an SVSM.
        guard !asksServices || (hasServices && request.serviceProvider == "svsm") else {
            throw SystemError("service_provider", code: EINVAL)
        }
        var report = keys.snpShape.report(version: reportVersion)
        report.policy = GuestPolicy(rawValue: policy | 1 << 17)
        report.platformInfo = PlatformInfo(rawValue: platformInfo)
        report.guestSVN = guestSVN
        report.measurement = measurement
        report.hostData = hostData
        report.vmpl = UInt32(clamping: request.privilegeLevel)
        // An SVSM binds its manifest in: SHA-512 (data ‖ manifest).
        report.reportData =
            asksServices ? HashAlgorithm.sha512.hash(request.data + serviceManifest) : request.data
        change(&report)
        do throws(CryptoError) { try report.sign(with: keys.vcek) } catch {
            throw SystemError("sign: \(error.message)", code: EIO)
        }
        return ReportTree.Answer(
            report: report.serialize(), auxiliary: keys.certificateTable, manifest: asksServices ? serviceManifest : [])
    }
}
