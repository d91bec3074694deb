import Bytes
import Crypto
import Manifest
import TPM

extension AppraisalPolicy {
    /// What an appraisal under this policy would check (`held`), refuse outright (`failed`) and not look at
    /// (`unchecked`), for people.
    public func outline(_ manifest: Manifest?) -> [Appraisal.Step] {
        var rows: [Appraisal.Step] = []
        func add(_ claim: String, _ mark: Appraisal.Step.Mark, _ detail: String) {
            rows.append(Appraisal.Step(claim: claim, mark: mark, detail: detail))
        }
        for platform in Evidence.Platform.allCases {
            let accepted = platforms.contains(platform)
            add("platform \(platform.rawValue)", accepted ? .held : .failed, accepted ? "accepted" : "refused")
        }
        switch allowTPMRoot {
        case .none: add("tpm root", .failed, "a TPM is refused: no root is accepted")
        case .certified:
            add("tpm root", .held, "certificates up to \(tpmRoots.count + endorsementRoots.count) given roots")
        case .development: add("tpm root", .unchecked, "anybody's TPM, marked development")
        }
        for root in tpmRoots { add("tpm attestation root", rootMark, Self.describe(root)) }
        for root in endorsementRoots {
            add("tpm endorsement root", rootMark, "\(Self.describe(root)), with activation in the session")
        }
        add("debug profile", allowDebugProfile ? .unchecked : .held, allowDebugProfile ? "let through" : "refused")
        add(
            "development key", allowDevelopmentKey ? .unchecked : .held, allowDevelopmentKey ? "let through" : "refused"
        )
        add(
            "release counter", minimumRelease > 0 ? .held : .unchecked,
            minimumRelease > 0 ? "at least \(minimumRelease)" : "no floor")
        add("nonce", .held, "equal at full length, 16 to 32 bytes")
        add("event log", .held, "replayed to every value quoted, event data and separators checked")
        for root in simulatedRoots.map({ Hex.encode($0) }).sorted() {
            add("simulated root", .unchecked, "\(root): let through, proves nothing, marked simulated")
        }
        for kind in ["snp", "tdx"] {
            let demands = kind == "snp" ? snp : tdx
            for (key, value) in demands.sorted(by: { $0.key < $1.key }) { add("\(kind) \(key)", .held, value.compact) }
        }
        if let manifest { outlineRegisters(manifest, add) }
        return rows
    }

    /// Roots count for nothing where no TPM is accepted.
    private var rootMark: Appraisal.Step.Mark { allowTPMRoot < .certified ? .unchecked : .held }

    private static func describe(_ root: [UInt8]) -> String {
        let subject = (try? Certificate(der: root))?.subject ?? "unreadable"
        return "\(subject), sha256 \(Hex.encode(HashAlgorithm.sha256.hash(root)).prefix(16))…"
    }

    private func outlineRegisters(_ manifest: Manifest, _ add: (String, Appraisal.Step.Mark, String) -> Void) {
        let isRefused =
            switch manifest.profile {
            case .production: false
            case .debug: !allowDebugProfile
            case .simulated: simulatedRoots.isEmpty
            }
        add(
            "manifest", isRefused ? .failed : .held,
            "\(manifest.product) \(manifest.version), \(manifest.profile.rawValue), until \(manifest.notAfter)")
        for (bank, values) in manifest.measurements.tpm.sorted(by: { $0.key.size < $1.key.size }) {
            for index in values.keys.sorted() {
                let isChecked = (banks?.contains(bank) ?? true) && (registers?.contains(index) ?? true)
                let value = manifest.measurements.expected(bank, index, phase: manifest.phase) ?? []
                add(PCRBank.claim(bank, index), isChecked ? .held : .unchecked, Hex.encode(value))
            }
            let missing = (0...23).filter { values[$0] == nil }.map(String.init).joined(separator: ",")
            add("tpm/\(bank.rawValue)/{\(missing)}", .unchecked, "the manifest says nothing about these")
        }
        for launch in manifest.measurements.snp {
            let boot = launch.boot == .direct ? ", direct boot" : ""
            add("snp \(launch.vmm) \(launch.vcpus) × \(launch.vcpuType)\(boot)", .held, Hex.encode(launch.digest))
        }
        for (name, value) in manifest.measurements.tdx.sorted(by: { $0.key < $1.key }) {
            add("tdx \(name)", .held, Hex.encode(value))
        }
    }
}
