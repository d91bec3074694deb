import Bytes
import Crypto
import TPM

/// What a policy asks of a TPM quote: keys `nonce`, `expected_pcrs`, `required_pcrs`, `ak_name`, `allow_sha1`.
struct QuotePolicy {
    let nonce: [UInt8]?
    let expected: PCRBank
    let required: [PCRSelection]
    let keyName: [UInt8]?
    let allowsSHA1: Bool

    init(_ fields: inout JSONFields) throws(ParseError) {
        nonce = try fields.optionalHex("nonce")
        expected =
            if let value = fields.optional("expected_pcrs") {
                try PCRBank(json: value, path: "policy.expected_pcrs")
            } else { PCRBank() }
        required = try Self.required(fields.optional("required_pcrs"))
        keyName = try fields.optionalHex("ak_name")
        allowsSHA1 = try fields.bool("allow_sha1", default: false)
    }

    /// `{"sha256": [4, 11]}`.
    private static func required(_ value: JSON?) throws(ParseError) -> [PCRSelection] {
        guard let value else { return [] }
        let path = "policy.required_pcrs"
        guard let banks = value.object else {
            throw ParseError("form", field: path, offset: 0, "must be an object of banks")
        }
        var selections: [PCRSelection] = []
        for (name, list) in banks.sorted(by: { $0.key < $1.key }) {
            guard let hash = HashAlgorithm(rawValue: name), let values = list.array else {
                throw ParseError("form", field: "\(path).\(name)", offset: 0, "must be a bank's list of indices")
            }
            let indices = values.compactMap(\.integer)
            guard indices.count == values.count, indices.allSatisfy(PCRBank.indices.contains) else {
                throw ParseError("form", field: "\(path).\(name)", offset: 0, "must be indices 0 to 23")
            }
            selections.append(PCRSelection(hash: hash, indices: indices))
        }
        return selections
    }

    /// Refuses registers that the policy uses and the quote does not cover, SHA-1 registers, and other values.
    ///
    /// - Returns: claims that the quote covers and the policy says nothing about.
    func check(_ quote: Quote, covered: PCRBank) throws(Finding) -> [String] {
        let used = required.flatMap { selection in selection.indices.map { (selection.hash, $0) } }
        for (hash, index) in used + expected.sorted.map({ ($0.hash, $0.index) }) {
            let claim = PCRBank.claim(hash, index)
            guard hash != .sha1 || allowsSHA1 else {
                throw Finding(
                    "pcr-sha1", claim: claim, expected: "a register of SHA-256 or stronger", actual: "SHA-1",
                    source: "this verifier", next: "name the SHA-256 bank, or set allow_sha1")
            }
            guard quote.attest.selects(hash, index) else {
                throw Finding(
                    "pcr-not-quoted", claim: claim, expected: "covered by the quote", actual: "not selected",
                    source: "the policy", next: "quote this register too; a value beside a quote proves nothing")
            }
        }
        for (hash, index, value) in expected.sorted {
            let actual = covered[hash, index] ?? []
            guard constantTimeEqual(actual, value) else {
                throw Finding(
                    "pcr-value", claim: PCRBank.claim(hash, index), expected: Hex.encode(value),
                    actual: Hex.encode(actual), source: "policy.expected_pcrs",
                    next: "compare the event log with that of the expected boot")
            }
        }
        return covered.sorted.filter { expected[$0.hash, $0.index] == nil }
            .map { PCRBank.claim($0.hash, $0.index) }
    }
}

/// What judging a quote with its registers and logs established.
struct QuoteAppraisal {
    var claims: [String: JSON] = [:]
    var unchecked: [String] = []

    /// Judges `quote` in the order of `docs/attestation`: key, signature, nonce, digest, coverage, values, logs.
    init(
        _ quote: Quote, ak: AttestationKey, pcrs: PCRBank, log: EventLog?, userspace: UserspaceLog?,
        policy: QuotePolicy
    ) throws(Finding) {
        let covered: PCRBank
        do {
            covered = try quote.verify(ak: ak, nonce: policy.nonce, pcrs: pcrs, allowSHA1: policy.allowsSHA1)
        } catch { throw error.finding }
        guard !covered.sorted.isEmpty else {
            throw Finding(
                "pcr-not-quoted", claim: "quote.pcrSelect", expected: "at least one register", actual: "none",
                source: "this verifier", next: "quote the registers that the policy is about")
        }
        if policy.nonce == nil { unchecked.append("nonce") }
        if ak.area == nil { unchecked.append("ak.attributes") }
        if let name = policy.keyName {
            do { try ak.checkName(name, source: "policy.ak_name") } catch { throw error.finding }
        }
        unchecked += try policy.check(quote, covered: covered)
        if let log {
            let appraisal = try LogAppraisal(log, pcrs: covered, userspace: userspace)
            unchecked += appraisal.unchecked
            claims.merge(appraisal.claims) { first, _ in first }
        }
        let attest = quote.attest
        claims["signature"] = .string(quote.signature.name)
        claims["nonce"] = .hex(attest.extraData)
        claims["clock"] = .integer(Int128(attest.clock))
        claims["resetCount"] = .integer(Int128(attest.resetCount))
        claims["restartCount"] = .integer(Int128(attest.restartCount))
        claims["clockSafe"] = .bool(attest.isClockSafe)
        claims["firmwareVersion"] = .string("0x" + String(attest.firmwareVersion, radix: 16))
        claims["pcrs"] = covered.json
        if let area = ak.area { claims["akName"] = .hex(area.name) }
    }
}

/// What judging a firmware log against register values established.
struct LogAppraisal {
    var claims: [String: JSON] = [:]
    var unchecked: [String] = []

    /// Replay, then event data, then separators: only then does the log's text count for anything.
    ///
    /// - Parameter pcrs: values that the log has to explain; must not be empty.
    init(_ log: EventLog, pcrs: PCRBank, userspace: UserspaceLog?) throws(Finding) {
        guard !pcrs.sorted.isEmpty else {
            throw Finding(
                "pcr-missing", claim: "pcrs", expected: "register values to replay the log to", actual: "none",
                source: "this verifier", next: "give the registers' values; a log alone proves nothing")
        }
        let secureBoot: Bool?
        do {
            unchecked = try log.verify(replaysTo: pcrs, userspace: userspace)
            try log.verifyEventData()
            try log.verifySeparators()
            secureBoot = try log.secureBoot()
        } catch { throw error.finding }
        let values = log.replay(userspace: userspace)
        for bank in pcrs.banks {
            unchecked += values.values[bank, default: [:]].keys.filter { pcrs[bank, $0] == nil }.sorted()
                .map { "eventlog/\(PCRBank.claim(bank, $0))" }
        }
        // The variable is PCR 7's word, in the strongest kind of bank given; otherwise it is only the log's.
        let strong = pcrs.banks.filter { $0 != .sha1 }
        let isProved = (strong.isEmpty ? pcrs.banks : strong).contains { pcrs[$0, 7] != nil }
        if let secureBoot, isProved { claims["secureBoot"] = .bool(secureBoot) }
        claims["events"] = .integer(Int128(log.events.count))
        claims["banks"] = .array(log.algorithms.map { .string($0.rawValue) })
    }
}

extension EvidenceCase {
    /// The first of `names` that is there.
    func optionalInput(_ names: String...) -> [UInt8]? { names.lazy.compactMap { inputs[$0] }.first }

    /// Reads `name` by `parse`, whose error becomes a finding that says which input it was.
    func parse<T>(_ name: String, _ parse: ([UInt8]) throws(ParseError) -> T) throws(Finding) -> T {
        let bytes = try input(name)
        do { return try parse(bytes) } catch {
            throw ParseError(error.detail, field: "\(name): \(error.field)", offset: error.offset, error.message)
                .finding
        }
    }

    /// The firmware log in input `log` or `eventlog`; `nil` when neither is there.
    func eventLog(_ registers: EventLog.Registers = .tpm) throws(Finding) -> EventLog? {
        guard let bytes = optionalInput("log", "eventlog") else { return nil }
        do {
            return try EventLog(parsing: bytes, registers: registers)
        } catch { throw EventLog.finding(for: error) }
    }

    func requiredEventLog(_ registers: EventLog.Registers = .tpm) throws(Finding) -> EventLog {
        guard let log = try eventLog(registers) else {
            throw Finding(
                "parse-missing", claim: "log", expected: "an input called log", actual: "none", source: "kind \(kind)",
                next: "give --log FILE")
        }
        return log
    }

    /// systemd's log in input `userspace-log`; `nil` when it is not there.
    func userspaceLog() throws(Finding) -> UserspaceLog? {
        guard let bytes = optionalInput("userspace-log") else { return nil }
        do {
            return try UserspaceLog(parsing: bytes)
        } catch { throw EventLog.finding(for: error) }
    }

    /// Reads the policy's fields; a key that `read` does not ask for is refused, for nobody would enforce it.
    func readPolicy<T>(_ read: (inout JSONFields) throws(ParseError) -> T) throws(Finding) -> T {
        do {
            var fields = try JSONFields(policy, path: "policy")
            let value = try read(&fields)
            try fields.end()
            return value
        } catch { throw error.finding }
    }
}
