import Bytes
import Crypto
import GPT
import Measurement
import UnifiedKernelImage

extension Judge {
    private static func checked<T>(_ body: () throws(ParseError) -> T) throws(Finding) -> T {
        do throws(ParseError) { return try body() } catch { throw error.finding }
    }

    /// `snp-measure`: the launch digest under `digest`; parameters are those of sev-snp-measure.
    static func snpMeasure(_ evidence: EvidenceCase) throws(Finding) -> Verdict {
        let firmware = try evidence.input("ovmf")
        var fields = try checked { () throws(ParseError) in try JSONFields(evidence.policy, path: "policy") }
        let digest: [UInt8]
        let mode = try checked({ () throws(ParseError) in try fields.optionalString("mode") })?.lowercased() ?? "snp"
        if !mode.hasSuffix(":svsm"), let stray = ["svsm", "vars"].first(where: { evidence.inputs[$0] != nil }) {
            throw Finding(
                "parse-form", claim: stray, expected: "policy.mode snp:svsm", actual: mode, source: "kind snp-measure",
                next: "leave \(stray) out, or set the mode")
        }
        switch mode {
        case "snp:ovmf-hash":
            digest = try LaunchDigest.firmwareOnly(firmware)
        case "snp", "sev-snp":
            let launch = try launchParameters(&fields, evidence, needsVCPUs: true)
            digest = try LaunchDigest.snp(firmware: firmware, launch)
        case "snp:svsm", "sev-snp:svsm":
            let launch = try launchParameters(&fields, evidence, needsVCPUs: true)
            guard launch.host == .qemu, launch.kernel == nil else {
                throw parameter("mode", "SVSM is computed for QEMU without a kernel only")
            }
            let size = try checked { () throws(ParseError) in try fields.optionalInteger("vars_size") }
            digest = try LaunchDigest.svsm(
                firmware: firmware, svsm: try evidence.input("svsm"),
                variablesSize: size ?? evidence.inputs["vars"]?.count ?? 0, vcpus: launch.vcpus,
                vcpuSignature: launch.vcpuSignature)
        case "sev":
            let launch = try launchParameters(&fields, evidence, needsVCPUs: false)
            digest = try LaunchDigest.legacy(
                firmware: firmware, kernel: launch.kernel, vcpus: nil, host: launch.host, vcpuSignature: 0)
        case "seves", "sev-es":
            let launch = try launchParameters(&fields, evidence, needsVCPUs: true)
            digest = try LaunchDigest.legacy(
                firmware: firmware, kernel: launch.kernel, vcpus: launch.vcpus, host: launch.host,
                vcpuSignature: launch.vcpuSignature)
        default: throw parameter("mode", mode)
        }
        try checked { () throws(ParseError) in try fields.end() }
        return .accept(claims: ["digest": .hex(digest)])
    }

    private static func parameter(_ name: String, _ value: String) -> Finding {
        Finding("parse-form", claim: "policy.\(name)", actual: value, source: "kind snp-measure")
    }

    private static func launchParameters(
        _ fields: inout JSONFields, _ evidence: EvidenceCase, needsVCPUs: Bool
    ) throws(Finding) -> LaunchDigest.Parameters {
        do throws(ParseError) {
            var launch = LaunchDigest.Parameters()
            let (vmm, vmmType) = (try fields.optionalString("vmm"), try fields.optionalString("vmm_type"))
            let host = vmm ?? vmmType ?? "qemu"
            guard let known = LaunchDigest.Host(rawValue: host.lowercased()) else {
                throw ParseError("form", field: "policy.vmm", offset: 0, "\(host) is not known")
            }
            launch.host = known
            if let vcpus = try fields.optionalInteger("vcpus") {
                launch.vcpus = vcpus
            } else if needsVCPUs {
                throw ParseError("form", field: "policy.vcpus", offset: 0, "missing")
            }
            let signature = try vcpuSignature(&fields)
            if signature == nil, needsVCPUs, known == .qemu {
                throw ParseError("form", field: "policy.vcpu_type", offset: 0, "missing")
            }
            launch.vcpuSignature = signature ?? 0
            if let features = fields.optional("guest_features") {
                guard let features = features.unsigned else {
                    throw ParseError("form", field: "policy.guest_features", offset: 0, "must be an integer")
                }
                launch.guestFeatures = features
            }
            launch.firmwareDigest = try fields.optionalHex("snp_ovmf_hash", count: 48)
            let append = try fields.optionalString("append")
            if let kernel = evidence.inputs["kernel"] {
                launch.kernel = try KernelHashes(
                    kernel: ByteSource(kernel), initrd: evidence.inputs["initrd"].map { ByteSource($0) },
                    append: append ?? "")
            } else if append != nil || evidence.inputs["initrd"] != nil {
                throw ParseError("missing", field: "kernel", offset: 0, "initrd and append go with a kernel")
            }
            return launch
        } catch { throw error.finding }
    }

    private static func vcpuSignature(_ fields: inout JSONFields) throws(ParseError) -> UInt32? {
        let type = try fields.optionalString("vcpu_type")
        let raw = try fields.optionalInteger("vcpu_sig")
        let family = try fields.optionalInteger("vcpu_family")
        let model = try fields.optionalInteger("vcpu_model")
        let stepping = try fields.optionalInteger("vcpu_stepping")
        if let family {
            // What CPUID can say: a base family of 4 bits plus 8 extended, 8 bits of model, 4 of stepping.
            return LaunchDigest.signature(
                family: try bounded(family, 0xF + 0xFF, "vcpu_family"),
                model: try bounded(model ?? 0, 0xFF, "vcpu_model"),
                stepping: try bounded(stepping ?? 0, 0xF, "vcpu_stepping"))
        }
        guard model == nil, stepping == nil else {
            throw ParseError("form", field: "policy.vcpu_family", offset: 0, "missing beside model or stepping")
        }
        if let raw {
            guard let signature = UInt32(exactly: raw) else {
                throw ParseError("form", field: "policy.vcpu_sig", offset: 0, "\(raw) is no 32-bit number")
            }
            return signature
        }
        guard let type else { return nil }
        guard let signature = LaunchDigest.signature(ofType: type) else {
            throw ParseError("form", field: "policy.vcpu_type", offset: 0, "\(type) is not known")
        }
        return signature
    }

    private static func bounded(_ value: Int, _ limit: UInt32, _ name: String) throws(ParseError) -> UInt32 {
        guard let number = UInt32(exactly: value), number <= limit else {
            throw ParseError("range", field: "policy.\(name)", offset: 0, "\(value), must be 0 to \(limit)")
        }
        return number
    }

    /// `mrtd`: the measurement of `firmware` under `mrtd`.
    static func mrtd(_ evidence: EvidenceCase) throws(Finding) -> Verdict {
        let firmware = try evidence.input("firmware")
        return try checked { () throws(ParseError) in
            var fields = try JSONFields(evidence.policy, path: "policy")
            let name = try fields.optionalString("order") ?? TrustDomainMeasurement.Order.onePass.rawValue
            try fields.end()
            guard let order = TrustDomainMeasurement.Order(rawValue: name) else {
                throw ParseError("form", field: "policy.order", offset: 0, "\(name) is not known")
            }
            guard let mrtd = try TrustDomainMeasurement.mrtd(firmware, order: order) else {
                throw ParseError("missing", field: "firmware", offset: firmware.count, "has no TDX metadata")
            }
            return .accept(claims: ["mrtd": .hex(mrtd)])
        }
    }
}
