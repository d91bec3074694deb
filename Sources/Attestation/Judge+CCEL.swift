import Bytes
import Crypto
import TDX
import TPM

extension Judge {
    /// Kind `ccel`: a confidential computing event log against runtime measurement registers.
    ///
    /// Inputs `log`, and `quote` (a TDX quote, whose own authenticity is the kind `tdx`'s business) or `rtmrs`
    /// (`{"rtmr0": "<hex>", …}`). Policy `rtmrs`: the registers to compare, as a list of numbers, or as expected
    /// values in the form of the input. Default: 0 to 2, as RTMR 3 is the workload's; with an input `rtmrs`, those
    /// that it lists.
    static func ccel(_ evidence: EvidenceCase) throws(Finding) -> Verdict {
        let policy = try evidence.readPolicy { (fields) throws(ParseError) in
            try fields.optional("rtmrs").map { value throws(ParseError) in try RTMRPolicy(value) }
        }
        let log = try evidence.requiredEventLog(.confidentialComputing)
        let shown = try rtmrs(evidence, policy: policy)
        var compared = shown.values
        if let numbers = policy?.numbers {
            compared = compared.filter { numbers.contains($0.key) }
            if let missing = numbers.first(where: { shown.values[$0] == nil }) {
                throw Finding(
                    "replay-missing", claim: "rtmr/\(missing)", expected: "a value", actual: "none",
                    source: "policy.rtmrs")
            }
        } else if shown.isQuote {
            compared = compared.filter { $0.key <= 2 }
        }
        guard !compared.isEmpty, log.algorithms.contains(.sha384) else {
            throw Finding(
                "replay-missing", claim: "rtmrs", expected: "registers to replay a SHA-384 log to",
                actual:
                    "\(compared.count) registers, a log of \(log.algorithms.map(\.rawValue).joined(separator: ", "))")
        }
        try verify(log, replaysTo: compared)
        do { try log.verifyEventData() } catch { throw error.finding }
        var claims: [String: JSON] = ["events": .integer(Int128(log.events.count))]
        for (number, value) in compared { claims["rtmr\(number)"] = .hex(value) }
        if compared[0] != nil, let secureBoot = try secureBoot(log) { claims["secureBoot"] = .bool(secureBoot) }
        var unchecked = Set(log.events.filter(\.isExtended).map(\.register)).sorted()
            .filter { compared[$0 - 1] == nil }.map { "eventlog/\(log.claim($0))" }
        if shown.isQuote { unchecked.append("quote.signature") }
        return .accept(claims: claims, unchecked: unchecked)
    }

    private static func secureBoot(_ log: EventLog) throws(Finding) -> Bool? {
        do { return try log.secureBoot() } catch { throw error.finding }
    }

    /// RTMR n is register n + 1 of the log, and starts with zeros.
    private static func verify(_ log: EventLog, replaysTo rtmrs: [Int: [UInt8]]) throws(Finding) {
        let replayed = log.replay(.sha384)
        for (number, expected) in rtmrs.sorted(by: { $0.key < $1.key }) {
            let actual = replayed[number + 1] ?? log.start(.sha384, number + 1)
            guard constantTimeEqual(actual, expected) else {
                throw Finding(
                    "replay-mismatch", claim: "rtmr/\(number)", expected: Hex.encode(expected),
                    actual: Hex.encode(actual), source: "the register's value; found: what the log's events extend to",
                    next: "an event is missing, added, changed or out of order; read the log again")
            }
        }
    }

    /// The registers that the case shows.
    private static func rtmrs(
        _ evidence: EvidenceCase, policy: RTMRPolicy?
    ) throws(Finding) -> (values: [Int: [UInt8]], isQuote: Bool) {
        if let values = policy?.values { return (values, false) }
        if evidence.inputs["rtmrs"] != nil {
            let values = try evidence.parse("rtmrs") { (bytes) throws(ParseError) in
                try RTMRPolicy.values(try JSON(parsing: bytes, limit: 1 << 16), path: "rtmrs")
            }
            return (values, false)
        }
        let quote = try evidence.parse("quote") { (bytes) throws(ParseError) in try TDX.Quote(parsing: bytes) }
        return (Dictionary(uniqueKeysWithValues: quote.body.rtmrs.enumerated().map { ($0, $1) }), true)
    }
}

/// Which runtime measurement registers a log has to explain.
struct RTMRPolicy {
    var numbers: [Int]?
    var values: [Int: [UInt8]]?

    init(_ json: JSON) throws(ParseError) {
        guard let list = json.array else {
            values = try Self.values(json, path: "policy.rtmrs")
            return
        }
        let numbers = list.compactMap(\.integer)
        guard numbers.count == list.count, !numbers.isEmpty, numbers.allSatisfy({ (0...3).contains($0) }) else {
            throw ParseError("form", field: "policy.rtmrs", offset: 0, "must be numbers 0 to 3, or values by name")
        }
        self.numbers = numbers
    }

    /// `{"rtmr0": "<48 bytes of hex>", …}`.
    static func values(_ json: JSON, path: String) throws(ParseError) -> [Int: [UInt8]] {
        var fields = try JSONFields(json, path: path)
        var values: [Int: [UInt8]] = [:]
        for number in 0...3 {
            values[number] = try fields.optionalHex("rtmr\(number)", count: 48)
        }
        try fields.end()
        return values
    }
}
