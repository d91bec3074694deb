import Attestation
import Bytes
import Glibc

/// Instead of the standard library's, which buffers and says nothing of what it could not write.
func print(_ text: String, terminator: String = "\n") { Report.out(text + terminator) }

/// How results look on a terminal and in JSON.
enum Report {
    /// Writes a result to standard output. A result that gets lost is a failure (exit code 1), whatever it said.
    static func out(_ text: String) {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            let count = unsafe rest.withUnsafeBytes { unsafe write(STDOUT_FILENO, $0.baseAddress, $0.count) }
            let code = errno
            if count > 0 {
                rest = rest.dropFirst(count)
            } else if code == EAGAIN {
                var waiting = pollfd(fd: STDOUT_FILENO, events: Int16(POLLOUT), revents: 0)
                _ = unsafe poll(&waiting, 1, -1)
            } else if code != EINTR {
                standardError("nacre: writing the result: \(unsafe String(cString: strerror(code)))")
                exit(Exit.failed.rawValue)
            }
        }
    }

    private static let usesColour = unsafe getenv("NO_COLOR") == nil && isatty(STDOUT_FILENO) == 1

    static func sign(_ mark: Appraisal.Step.Mark) -> String {
        let (sign, colour) =
            switch mark {
            case .held: ("✓", 32)
            case .failed: ("✗", 31)
            case .unchecked: ("–", 33)
            }
        return usesColour ? "\u{1B}[\(colour)m\(sign)\u{1B}[0m" : sign
    }

    /// Lines of a mark, a claim and its detail, claims in one column.
    static func table(_ steps: [Appraisal.Step]) -> String {
        let width = steps.map { min(48, $0.claim.count) }.max() ?? 0
        return steps.map { step in
            let padding = String(repeating: " ", count: max(0, width - step.claim.count))
            return "\(sign(step.mark)) \(plain(step.claim))\(padding)  \(plain(step.detail))\n"
        }.joined()
    }

    /// Nothing from outside reaches a terminal as control characters.
    static func plain(_ text: String) -> String {
        PlainText.line(text, limit: .max)
    }

    /// Claims of a verdict as lines, nested names joined by dots.
    static func steps(_ verdict: Verdict) -> [Appraisal.Step] {
        var steps: [Appraisal.Step] = []
        var listed: Set<String> = []
        func walk(_ name: String, _ value: JSON) {
            let isUnchecked = verdict.unchecked.contains { name == $0 || name.hasPrefix("\($0).") }
            if isUnchecked { listed.formUnion(verdict.unchecked.filter { name == $0 || name.hasPrefix("\($0).") }) }
            let mark: Appraisal.Step.Mark = isUnchecked ? .unchecked : .held
            switch value {
            case .object(let fields):
                for key in fields.keys.sorted() {
                    if let field = fields[key] { walk(name.isEmpty ? key : "\(name).\(key)", field) }
                }
            case .string(let text): steps.append(.init(claim: name, mark: mark, detail: text))
            default: steps.append(.init(claim: name, mark: mark, detail: value.compact))
            }
        }
        walk("", .object(verdict.claims))
        if let finding = verdict.finding {
            steps.append(.init(claim: finding.claim, mark: .failed, detail: finding.reason))
        }
        return steps
            + verdict.unchecked.filter { !listed.contains($0) }.map {
                .init(claim: $0, mark: .unchecked, detail: "not checked")
            }
    }

    /// A verdict with its steps, in the form asked for.
    static func verdict(_ verdict: Verdict, steps: [Appraisal.Step]? = nil, _ options: OutputOptions) {
        guard options.output == .text else {
            out(verdict.json().compact + "\n")
            return
        }
        var text = table(steps ?? Self.steps(verdict))
        text += "\n" + (verdict.isAccepted ? "accepted" : "rejected: \(verdict.reason)")
        if !verdict.marks.isEmpty { text += " [\(verdict.marks.joined(separator: ", "))]" }
        text += "\n"
        if let finding = verdict.finding {
            for (name, value) in [
                ("claim", finding.claim), ("expected", finding.expected), ("found", finding.actual),
                ("source", finding.source), ("next", finding.next),
            ] where !value.isEmpty {
                text += "  \(name): \(plain(value))\n"
            }
        }
        if verdict.marks.contains("development") {
            text += """
                  A TPM that the host provides, such as a local swtpm, proves nothing against that host: whoever controls \
                this machine can make up every value above.\n
                """
        }
        out(text)
    }
}
