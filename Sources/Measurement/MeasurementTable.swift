import Bytes
import Crypto

extension MeasurementDocument {
    /// The document as a table for people.
    ///
    /// - Parameter explain: adds below each register the events that lead to it.
    public func table(explain: Bool) -> String {
        var lines = ["image digest  \(Hex.encode(imageDigest))"]
        for bank in banks {
            guard let registers = tpm[bank], !registers.isEmpty else { continue }
            lines += ["", "TPM, bank \(bank.rawValue)"]
            for index in registers.keys.sorted() {
                lines += rows(index, registers[index] ?? [])
                if explain { lines += parts(.tpm(index), bank) }
            }
        }
        if !launches.isEmpty {
            lines += ["", "SEV-SNP launch digests"]
            for launch in launches {
                let boot = launch.boot == .direct ? ", direct" : ""
                let name = Self.padded("\(launch.host.rawValue), \(launch.vcpus) × \(launch.vcpuType)\(boot)", 28)
                lines.append("  \(name)\(Hex.encode(launch.digest))")
            }
        }
        if !tdx.isEmpty {
            lines += ["", "TDX"]
            for name in tdx.keys.sorted() {
                lines.append("  \(Self.padded(name, 7))\(Hex.encode(tdx[name] ?? []))")
                if explain, let index = Int(name.dropFirst(4)) { lines += parts(.rtmr(index), .sha384) }
            }
        }
        if !unpredicted.isEmpty {
            lines += ["", "Not predicted, for want of"]
            for name in unpredicted.keys.sorted(by: Self.naturally) {
                lines.append("  \(Self.padded(name, 11))\(unpredicted[name] ?? "")")
            }
        }
        return lines.joined(separator: "\n")
    }

    private func rows(_ index: Int, _ values: [Value]) -> [String] {
        values.map { value in
            let isZero = value.value.allSatisfy { $0 == 0 } ? "  (stays zero)" : ""
            let phase = value.phase.map { "  after \($0)" } ?? ""
            return "  \(Self.padded("\(index)", 4))\(Hex.encode(value.value))\(isZero)\(phase)"
        }
    }

    private func parts(_ register: Register, _ bank: HashAlgorithm) -> [String] {
        events.filter { $0.register == register }.map { event in
            let digest = Hex.encode((event.digests[bank] ?? []).prefix(8))
            return "      \(digest)…  \(Self.padded(event.type, 34))\(event.what)"
        }
    }

    private static func padded(_ text: String, _ width: Int) -> String {
        text + String(repeating: " ", count: max(1, width - text.count))
    }

    /// `tpm/2` before `tpm/10`.
    private static func naturally(_ one: String, _ other: String) -> Bool {
        one.count == other.count || one.prefix(4) != other.prefix(4) ? one < other : one.count < other.count
    }
}
