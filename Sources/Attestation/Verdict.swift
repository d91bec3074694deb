import Bytes

/// What a judgement came to: accepted, or rejected for a reason; what it established, and what nobody checked.
public struct Verdict: Sendable, Equatable {
    /// Why it was rejected; `nil` when accepted.
    public let finding: Finding?
    /// Facts established from the evidence, by claim name.
    public var claims: [String: JSON]
    /// Claims the evidence makes that the policy says nothing about.
    public var unchecked: [String]
    /// Words every reader must see beside the verdict: `development`, `simulated`.
    public var marks: [String]

    private init(finding: Finding?, claims: [String: JSON], unchecked: [String], marks: [String]) {
        self.finding = finding
        self.claims = claims
        self.unchecked = unchecked
        self.marks = marks
    }

    public static func accept(
        claims: [String: JSON] = [:], unchecked: [String] = [], marks: [String] = []
    ) -> Verdict {
        Verdict(finding: nil, claims: claims, unchecked: unchecked, marks: marks)
    }

    public static func reject(
        _ finding: Finding, claims: [String: JSON] = [:], unchecked: [String] = [], marks: [String] = []
    ) -> Verdict {
        Verdict(finding: finding, claims: claims, unchecked: unchecked, marks: marks)
    }

    public var isAccepted: Bool { finding == nil }
    public var reason: String { finding?.reason ?? "ok" }

    /// `nacre.verdict.v1`; `id` is added for lines of a batch.
    public func json(id: String? = nil) -> JSON {
        func text(_ value: String?) -> JSON? { value.flatMap { $0.isEmpty ? nil : .string($0) } }
        return .fields([
            "schema": "nacre.verdict.v1",
            "id": id.map { .string($0) },
            "verdict": isAccepted ? "accept" : "reject",
            "reason": .string(reason),
            "claim": text(finding?.claim),
            "expected": text(finding?.expected),
            "actual": text(finding?.actual),
            "source": text(finding?.source),
            "next": text(finding?.next),
            "marks": marks.isEmpty ? nil : .array(marks.map { .string($0) }),
            "unchecked": .array(unchecked.map { .string($0) }),
            "claims": .object(claims),
        ])
    }
}
