import Bytes
import Crypto
import Manifest
import TPM

extension Appraisal {
    /// The reasons of the room TPM under the families of a node's verdict.
    static let families = [
        "ak": "key", "ek": "key-ek", "sig": "signature", "attest": "signature", "pcr": "register", "replay": "eventlog",
        "event": "eventlog", "log": "eventlog",
    ]

    /// Runs a check of the room TPM, its error as a finding of this appraisal.
    private static func tpm<T>(_ body: () throws(TPMError) -> T) throws(Finding) -> T {
        do { return try body() } catch { throw error.finding.family(families) }
    }

    /// Key, quote, logs, registers.
    mutating func checkTPM() throws(Finding) {
        let demanded = demandedRegisters
        try checkDemands(demanded)
        guard let tpm = evidence.tpm else {
            // Registers that the policy itself names are wanted whatever else shows the image.
            let isCovered = hardwareCoversImage && policy.registers == nil && policy.banks == nil
            guard demanded.isEmpty || isCovered else {
                throw Finding(
                    "register-missing", claim: "tpm", expected: "a quote over \(Self.names(demanded))",
                    actual: "no TPM evidence", source: registerSource,
                    next: "a register that the manifest names and the evidence lacks cannot be accepted")
            }
            if isCovered, !demanded.isEmpty {
                unchecked.append("tpm: this node has none; the hardware report covers the same boot")
            } else {
                listRegistersNotDemanded()
            }
            return
        }
        let key = try Self.tpm { () throws(TPMError) in try AttestationKey(parsing: tpm.attestationKey) }
        // Only TPM2B_PUBLIC shows whether the key signs nothing but what the TPM wrote.
        guard let area = key.area else {
            throw Finding(
                "key-attributes", claim: "evidence.tpm.attestationKey", expected: "TPM2B_PUBLIC",
                actual: "a bare public key", source: Evidence.schema)
        }
        let quote = try Self.tpm { () throws(TPMError) in try Quote(attest: tpm.attest, signature: tpm.signature) }
        let shown: PCRBank
        do { shown = try PCRBank(values: tpm.registers, path: "evidence.tpm.pcrs") } catch { throw error.finding }
        let covered = try Self.tpm { () throws(TPMError) in
            try quote.verify(ak: key, nonce: evidence.nonce, pcrs: shown)
        }
        held("tpm quote", "\(quote.signature.name) by key \(Hex.encode(area.name).prefix(20))…, nonce and values agree")
        try checkRoot(key, tpm)
        try checkLogs(tpm, covered)
        try checkRegisters(demanded, quote, covered, tpm)
        guard account == .full else { return }
        claims["tpm"] = [
            "attestationKey": .hex(area.name), "resetCount": .integer(Int128(quote.attest.resetCount)),
            "clock": .integer(Int128(quote.attest.clock)), "pcrs": covered.json,
        ]
    }

    /// That something is demanded at all: without registers a quote shows no image, whatever signed it.
    private func checkDemands(_ demanded: [(bank: HashAlgorithm, index: Int)]) throws(Finding) {
        let predicted = reference.manifest.measurements.tpm
        for bank in policy.banks ?? [] where predicted[bank, default: [:]].isEmpty {
            throw Finding(
                "register-missing", claim: "tpm/\(bank.rawValue)", expected: "registers of this bank in the manifest",
                actual: predicted.isEmpty
                    ? "none of any bank" : predicted.keys.map(\.rawValue).sorted().joined(separator: ", "),
                source: "policy.banks", next: "name banks that the manifest predicts, or measure the image with --bank")
        }
        guard demanded.isEmpty, !hardwareCoversImage else { return }
        throw Finding(
            "register-missing", claim: "tpm", expected: "registers that the manifest predicts", actual: "none",
            source: registerSource, next: "a manifest without registers shows no image: measure it and publish it anew")
    }

    /// Who vouches for the attestation key.
    private mutating func checkRoot(_ key: AttestationKey, _ tpm: Evidence.TPMEvidence) throws(Finding) {
        if !tpm.certificates.isEmpty, !policy.tpmRoots.isEmpty, policy.allowTPMRoot >= .certified {
            try checkCertificates(key, tpm.certificates)
            claims["tpmRoot"] = "certified"
            return
        }
        let endorsement = endorsement(tpm)
        do throws(Finding) {
            if let endorsement, try checkEndorsement(endorsement, tpm) {
                claims["tpmRoot"] = "certified"
                return
            }
        } catch {
            // Where something else decides, a certificate of nobody's is as good as none; a wrong answer never is.
            guard hardwareCoversImage || policy.allowTPMRoot == .development, error.reason != "key-activation" else {
                throw error
            }
            unchecked.append("tpm endorsement key: \(error.reason): nobody that the policy trusts certified it")
        }
        // The report names this key, and what asked for the report is the manifest's own image.
        if hardwareCoversImage {
            held("tpm attestation key", "named by the hardware report of the measured image")
            claims["tpmRoot"] = "report"
            return
        }
        guard policy.allowTPMRoot == .development else { throw rootMissing(tpm, endorsement != nil) }
        mark("development")
        claims["tpmRoot"] = "development"
        unchecked.append(
            endorsement == nil
                ? "tpm attestation key: nobody vouches for it; the host may have made it up"
                : "tpm attestation key: activation; saved evidence cannot show that it is in the TPM of the "
                    + "endorsement key")
    }

    /// Nobody that the policy trusts vouches for the attestation key.
    private func rootMissing(_ tpm: Evidence.TPMEvidence, _ isEndorsed: Bool) -> Finding {
        if isEndorsed {
            return Finding(
                "key-activation", claim: "tpm attestation key",
                expected: "an activation in this session: that the key is in the TPM of the endorsement key",
                actual: "none; saved evidence has none, or the TPM refused", source: "policy.endorsementRoots",
                next: "ask the node itself: nacre verify ENDPOINT")
        }
        return Finding(
            "policy-tpm-root", claim: "tpm attestation key",
            expected: policy.allowTPMRoot == .certified
                ? "certificates up to one of policy.tpmRoots, or an endorsement key's up to one of "
                    + "policy.endorsementRoots"
                : "no TPM without a policy for its root",
            actual: tpm.certificates.isEmpty && tpm.endorsementKey == nil
                ? "a key that nobody vouches for" : "certificates that the policy has no root for",
            source: "policy.allowTPMRoot",
            next: evidence.platform == .tpm
                ? "a TPM of the host proves nothing against that host: verify a confidential VM, or say in the "
                    + "policy that this is development"
                : "the launch digest covers the firmware only, and what it started is known from the host's TPM: "
                    + "boot the UKI directly with firmware that takes kernel hashes, or have the TPM certified")
    }

    private mutating func checkCertificates(_ key: AttestationKey, _ chain: [[UInt8]]) throws(Finding) {
        let certificates: [Certificate]
        let roots: [Certificate]
        do throws(CryptoError) {
            certificates = try chain.map { der throws(CryptoError) in try Certificate(der: der) }
            roots = try policy.tpmRoots.map { der throws(CryptoError) in try Certificate(der: der) }
        } catch {
            throw Finding("parse-form", claim: "evidence.tpm.certificates", actual: error.message)
        }
        do throws(Finding) {
            let trust = try AttestationKeyTrust(chain: certificates, roots: roots, at: time)
            try trust.checkKey(key.publicKey)
            try trust.checkProduction()
            if trust.leaf.instance != nil { unchecked.append("tpm attestation key: which instance it belongs to") }
            held("tpm attestation key", "certified by \(trust.issuer)")
        } catch {
            throw error.family(Self.families)
        }
    }

    /// Both logs, replayed to every value that the quote covers.
    private mutating func checkLogs(_ tpm: Evidence.TPMEvidence, _ covered: PCRBank) throws(Finding) {
        // SHA-1 values may be quoted, but nothing is judged by them.
        var judged = PCRBank()
        for (bank, index, value) in covered.sorted where bank != .sha1 { judged[bank, index] = value }
        let key = LogCache.key(tpm.eventLog, tpm.userspaceLog)
        let replay: LogReplay
        let unexplained: [String]
        if let known = LogCache.shared[key] {
            replay = known
            unexplained = try Self.tpm { () throws(TPMError) in try known.verify(replaysTo: judged) }
        } else {
            let logs = try Self.logs(tpm)
            let new = LogReplay(logs.firmware, userspace: logs.userspace)
            replay = new
            unexplained = try Self.tpm { () throws(TPMError) in
                let unexplained = try new.verify(replaysTo: judged)
                try logs.firmware.verifyEventData()
                try logs.firmware.verifySeparators()
                return unexplained
            }
            LogCache.shared.keep(new, key)
        }
        unchecked += unexplained.map { "\($0): no log explains its value" }
        held(
            "event log",
            "\(replay.firmwareEvents) firmware and \(replay.userspaceRecords) userspace events replay to the quoted values"
        )
    }

    private static func logs(
        _ tpm: Evidence.TPMEvidence
    ) throws(Finding) -> (firmware: EventLog, userspace: UserspaceLog?) {
        do {
            return (
                try EventLog(parsing: tpm.eventLog),
                tpm.userspaceLog.isEmpty ? nil : try UserspaceLog(parsing: tpm.userspaceLog)
            )
        } catch { throw EventLog.finding(for: error).family(families) }
    }

    /// Every demanded register, quoted and equal; the first that differs is explained event by event.
    private mutating func checkRegisters(
        _ demanded: [(bank: HashAlgorithm, index: Int)], _ quote: Quote, _ covered: PCRBank,
        _ tpm: Evidence.TPMEvidence
    ) throws(Finding) {
        let manifest = reference.manifest
        var failure: Finding?
        var explanations: [JSON] = []
        for (bank, index) in demanded {
            // Only for messages.
            func claim() -> String { PCRBank.claim(bank, index) }
            guard var expected = manifest.measurements.expected(bank, index, phase: manifest.phase) else {
                throw Finding(
                    "policy-register", claim: claim(), expected: "a value in the manifest", actual: "none",
                    source: "policy.registers", next: "the manifest says nothing about this register: leave it out")
            }
            guard let actual = covered[bank, index] else {
                throw Finding(
                    "register-missing", claim: claim(), expected: Hex.encode(expected), actual: "not quoted",
                    source: registerSource, next: "have the node quote this register in this bank")
            }
            var parts: [Measurements.EventPart] = []
            if index == ClusterIdentity.register {
                isClusterProved = true
                if let cluster = evidence.cluster {
                    expected = cluster.extending(expected, bank)
                    parts.append(cluster.part)
                }
            }
            if constantTimeEqual(actual, expected) { continue }
            let events = manifest.expectedEvents(index) + parts
            let logs = try Self.logs(tpm)
            let explanation = RegisterExplanation(
                bank: bank, index: index, expected: events, firmware: logs.firmware, userspace: logs.userspace)
            explanations.append(explanation.json)
            if failure == nil {
                failure = Finding(
                    "register-mismatch", claim: claim(), expected: Hex.encode(expected), actual: Hex.encode(actual),
                    source: registerSource, next: explanation.text)
            }
        }
        listRegistersNotDemanded(covered)
        if let failure {
            claims["explanations"] = .array(explanations)
            throw failure
        }
        if !demanded.isEmpty { held("tpm registers", "\(Self.names(demanded)) as the manifest predicts") }
    }

    private var registerSource: String {
        "manifest \(reference.manifest.version), phase \(reference.manifest.phase ?? "–")"
    }

    /// Registers that must agree, in order of bank and index.
    private var demandedRegisters: [(bank: HashAlgorithm, index: Int)] {
        let measurements = reference.manifest.measurements
        let banks = policy.banks ?? Array(measurements.tpm.keys)
        var demanded: [(bank: HashAlgorithm, index: Int)] = []
        for bank in banks.sorted(by: { $0.size < $1.size }) {
            for index in (policy.registers ?? Array(measurements.tpm[bank, default: [:]].keys)).sorted() {
                demanded.append((bank, index))
            }
        }
        return demanded
    }

    /// What the manifest predicts or the quote covers and the policy leaves out.
    private mutating func listRegistersNotDemanded(_ covered: PCRBank = PCRBank()) {
        guard account == .full else { return }
        struct Register: Hashable {
            let bank: HashAlgorithm
            let index: Int
        }
        let demanded = Set(demandedRegisters.map { Register(bank: $0.bank, index: $0.index) })
        var others = Set(covered.sorted.map { Register(bank: $0.hash, index: $0.index) })
        for (bank, registers) in reference.manifest.measurements.tpm {
            for index in registers.keys { others.insert(Register(bank: bank, index: index)) }
        }
        others.subtract(demanded)
        guard !others.isEmpty else { return }
        let listed = Set(unchecked.map { String($0.prefix { $0 != ":" }) })
        unchecked += others.sorted { ($0.bank.size, $0.index) < ($1.bank.size, $1.index) }
            .map { PCRBank.claim($0.bank, $0.index) }.filter { !listed.contains($0) }
    }

    private static func names(_ registers: [(bank: HashAlgorithm, index: Int)]) -> String {
        let banks = Set(registers.map(\.bank)).sorted { $0.size < $1.size }
        return banks.map { bank in
            "\(bank.rawValue) " + registers.filter { $0.bank == bank }.map { String($0.index) }.joined(separator: ",")
        }.joined(separator: "; ")
    }
}

extension Manifest {
    /// The events that lead to register `index` at the manifest's phase, in order.
    func expectedEvents(_ index: Int) -> [Measurements.EventPart] {
        measurements.events.filter { $0.register == "tpm/\(index)" }
    }
}
