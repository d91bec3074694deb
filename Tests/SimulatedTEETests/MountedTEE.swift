import Attestation
import Bytes
import Crypto
import Glibc
import Linux
import SimulatedTEE
import TestKit
import Testing

/// A simulated TEE in this process: the kernel's FUSE between it and whoever asks, as in a node.
final class MountedTEE: Sendable {
    private let folder: TemporaryFolder
    private let mount: SimulatedMount
    /// Where requests are made.
    let reports: String

    init(_ provider: some ReportProvider) throws {
        folder = try TemporaryFolder()
        mount = try SimulatedMount(ReportTree(provider), at: folder.path, path: SimulatedMount.configFSPath)
        reports = "\(folder.path)/tsm/report"
        let mount = mount
        try #require(Self.start { try? mount.run() })
    }

    deinit { mount.unmount() }

    var issuer: TSMIssuer { TSMIssuer(ConfigFS(root: reports)) }

    /// Keys made once per run.
    static let keys: SimulatedKeys? = SNPTestPKI.shared.flatMap { authority in
        do { return try SimulatedKeys(authority, SNPTestPKI.Shape(), TDXPlatform()) } catch {
            print("skipped: no simulated keys (\(error))")
            return nil
        }
    }

    /// Why nothing can be mounted here; `nil` where it can.
    static let refusal: String? = {
        guard let keys else { return "no keys" }
        do {
            let folder = try TemporaryFolder()
            try SimulatedMount(ReportTree(SimulatedSNP(keys)), at: folder.path).unmount()
            return nil
        } catch { return "\(error)" }
    }()

    static let possible = ConditionTrait.enabled("mounting takes root and a kernel with FUSE") {
        if let refusal { print("skipped: no simulated TEE is mounted here: \(refusal)") }
        return refusal == nil
    }

    private final class Body: Sendable {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }

    /// A thread of its own: Swift's pool must not wait for itself through the kernel.
    private static func start(_ body: @escaping @Sendable () -> Void) -> Bool {
        let box = unsafe Unmanaged.passRetained(Body(body))
        var thread = pthread_t()
        let code = unsafe pthread_create(
            &thread, nil,
            { argument in
                if let argument = unsafe argument {
                    unsafe Unmanaged<Body>.fromOpaque(argument).takeRetainedValue().run()
                }
                return nil
            }, unsafe box.toOpaque())
        guard code == 0 else {
            unsafe box.release()
            return false
        }
        _ = pthread_detach(thread)
        return true
    }
}
