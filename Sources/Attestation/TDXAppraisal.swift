import Bytes
import TDX

extension TDXPolicy {
    /// Throws the first reason why `quote` is not wanted: attributes, registers, platform, floors, status, advisories.
    ///
    /// Families: `policy` for everything but the status, which is `status-<Status>`.
    public func appraise(_ quote: VerifiedQuote) throws(Finding) {
        try appraiseAttributes(quote.body)
        for register in Register.allCases {
            guard let accepted = registers[register] else { continue }
            try Self.require(register.value(in: quote.body), among: accepted, register.rawValue)
        }
        for id in PlatformID.allCases {
            guard let accepted = platforms[id] else { continue }
            try Self.require(id.value(in: quote.platform), among: accepted, id.rawValue)
        }
        try appraiseFloors(quote)
        try appraiseStatus(quote.tcb)
    }

    private func appraiseAttributes(_ body: TDBody) throws(Finding) {
        let attributes = body.attributes
        func refusal(_ detail: String, _ claim: String, _ expected: String, _ key: String) -> Finding {
            Finding(
                "policy-\(detail)", claim: "td_attributes.\(claim)", expected: expected,
                actual: Hex.encode(attributes.bytes), source: "policy \(key)", next: "launch the TD otherwise")
        }
        if !allowDebug, !attributes.isDisjoint(with: .underDebug) {
            throw refusal("debug", "DEBUG", "clear: the host can read this TD", "allow_debug")
        }
        if requireSEPTVEDisable, !attributes.contains(.septVEDisable) {
            throw refusal("sept-ve-disable", "SEPT_VE_DISABLE", "set", "require_sept_ve_disable")
        }
        if allowPerfmon == false, attributes.contains(.perfmon) {
            throw refusal("perfmon", "PERFMON", "clear", "allow_perfmon")
        }
        if allowMigratable == false, attributes.contains(.migratable) {
            throw refusal("migratable", "MIGRATABLE", "clear", "allow_migratable")
        }
        // A pinned service TD is named on purpose; any other one could move or alter this TD.
        if !allowServiceTD, registers[.mrServiceTD] == nil, let service = body.extended?.mrServiceTD,
            service.contains(where: { $0 != 0 })
        {
            throw Finding(
                "policy-service-td", claim: "mr_service_td", expected: "zero: no service TD",
                actual: Hex.encode(service), source: "policy allow_service_td")
        }
    }

    private static func require(_ value: [UInt8]?, among accepted: Set<[UInt8]>, _ key: String) throws(Finding) {
        if let value, accepted.contains(value) { return }
        throw Finding(
            "policy-\(key.replacing("_", with: "-"))", claim: key,
            expected: accepted.map { Hex.encode($0) }.sorted().joined(separator: " or "),
            actual: value.map { Hex.encode($0) } ?? "not in this evidence", source: "policy \(key)")
    }

    private func appraiseFloors(_ quote: VerifiedQuote) throws(Finding) {
        if let minimum = minimumEvaluationNumber, quote.evaluationDataNumber < minimum {
            throw Finding(
                "policy-min-tcb-eval", claim: "tcb_eval", expected: "at least \(minimum)",
                actual: "\(quote.evaluationDataNumber)", source: "policy min_tcb_eval", next: "fetch newer collateral")
        }
        if let minimum = minimumTEETCBSVN, !zip(quote.body.teeTCBSVN, minimum).allSatisfy({ $0 >= $1 }) {
            throw Finding(
                "policy-min-tee-tcb-svn", claim: "tee_tcb_svn", expected: "each at least \(Hex.encode(minimum))",
                actual: Hex.encode(quote.body.teeTCBSVN), source: "policy min_tee_tcb_svn")
        }
        let qeSVN = Int(quote.quote.signature.qeReport.isvSVN)
        if let minimum = minimumQESVN, qeSVN < minimum {
            throw Finding(
                "policy-min-qe-svn", claim: "qe_svn", expected: "at least \(minimum)", actual: "\(qeSVN)",
                source: "policy min_qe_svn")
        }
        if let minimum = minimumPCESVN, Int(quote.platform.pceSVN) < minimum {
            throw Finding(
                "policy-min-pce-svn", claim: "pce_svn", expected: "at least \(minimum)",
                actual: "\(quote.platform.pceSVN)", source: "policy min_pce_svn")
        }
    }

    private func appraiseStatus(_ tcb: TCBAppraisal) throws(Finding) {
        guard tcb.status != .revoked, allowedStatuses.contains(tcb.status) else {
            throw Finding(
                "status-\(tcb.status.rawValue)", claim: "tcb_status",
                expected: allowedStatuses.subtracting([.revoked]).map(\.rawValue).sorted().joined(separator: " or "),
                actual: tcb.status.rawValue, source: "policy allow_statuses",
                next: tcb.advisories.isEmpty
                    ? "update the platform" : "update the platform (\(tcb.advisories.joined(separator: ", ")))")
        }
        if let forbidden = tcb.advisories.first(where: { forbiddenAdvisories.contains($0) }) {
            throw Finding(
                "policy-advisory", claim: "advisory_ids", expected: "without \(forbidden)",
                actual: tcb.advisories.joined(separator: ", "), source: "policy forbidden_advisories")
        }
    }

    /// Claims that the evidence makes and this policy says nothing about.
    public func unchecked(_ body: TDBody) -> [String] {
        var names = Register.allCases.filter { register in
            guard register.value(in: body) != nil, registers[register] == nil else { return false }
            return register != .mrServiceTD || allowServiceTD
        }.map(\.rawValue)
        if platforms.isEmpty { names.append("platform") }
        if minimumEvaluationNumber == nil { names.append("tcb_eval") }
        if allowPerfmon == nil { names.append("td_attributes.PERFMON") }
        if allowMigratable == nil { names.append("td_attributes.MIGRATABLE") }
        return names
    }
}
