import Attestation
import Bytes

/// Judges every case of an index; a case that cannot be read is a rejection like any other and ends nothing.
struct Batch {
    /// Largest index, bytes.
    static let maximumSize = 8 << 20

    /// Other names for kinds.
    static let aliases = ["tpm": "tpmquote"]

    private let folder: String
    private let cases: [JSON]

    /// - Parameter index: `{"format":1,"cases":[{"id","kind","inputs","time","policy",…}]}`; paths are relative to its
    ///   folder and may not lead out of it.
    init(index: String) throws(Finding) {
        folder = Files.folder(of: index)
        let document = try Input.parse(index, limit: Self.maximumSize) { bytes in try JSON(parsing: bytes) }
        guard document["format"]?.integer == 1, let cases = document["cases"]?.array else {
            throw ParseError(
                "form", field: index, offset: 0, "must be {\"format\":1,\"cases\":[…]}"
            ).finding
        }
        self.cases = cases
    }

    func run(_ output: OutputOptions) throws {
        for (number, json) in cases.enumerated() {
            let id = json["id"]?.string ?? "#\(number)"
            let verdict: Verdict
            do throws(Finding) {
                verdict = Judge.judge(try read(json))
            } catch {
                verdict = .reject(error)
            }
            switch output.output {
            case .json: Report.out(verdict.json(id: id).compact + "\n")
            case .text:
                let sign = Report.sign(verdict.isAccepted ? .held : .failed)
                Report.out("\(sign) \(Report.plain(id))  \(Report.plain(verdict.finding?.description ?? "ok"))\n")
            }
        }
    }

    /// A case with its files read: those that its kind takes. Of a kind that is not known none is.
    private func read(_ json: JSON) throws(Finding) -> EvidenceCase {
        guard let name = json["kind"]?.string, let files = json["inputs"]?.object else {
            throw Finding("parse-form", claim: "case", expected: "kind and inputs", actual: "missing")
        }
        guard let time = json["time"]?.string.flatMap({ Instant($0) }) else {
            throw Finding("parse-form", claim: "case.time", expected: "an RFC 3339 time", actual: "none")
        }
        let kind = Self.aliases[name] ?? name
        if let stray = Judge.unused(Set(files.keys), of: kind) {
            throw Finding(
                "parse-form", claim: "case.inputs.\(stray.name)", expected: stray.why, actual: stray.name,
                source: "kind \(kind)", next: "leave \(stray.name) out")
        }
        var reader = CaseReader(kind: kind)
        for (name, value) in files.sorted(by: { $0.key < $1.key }) {
            guard let relative = value.string else {
                throw Finding("parse-form", claim: "case.inputs.\(name)", expected: "a path", actual: "another type")
            }
            guard reader.takes(name) else { continue }
            let path: String
            do throws(FileError) {
                path = try Files.resolve(relative, within: folder)
            } catch { throw error.finding }
            try reader.read(name, path)
        }
        let known: Set<String> = [
            "id", "kind", "inputs", "time", "policy", "expect", "why", "provenance", "confirmed_by",
        ]
        return EvidenceCase(
            kind: kind, inputs: reader.inputs, policy: json["policy"] ?? .object([:]), time: time,
            options: (json.object ?? [:]).filter { !known.contains($0.key) })
    }
}
