import Attestation
import Bytes

/// Judges every case of an index; a case that cannot be read is a rejection like any other and ends nothing.
struct Batch {
    /// Other names for kinds.
    static let aliases = ["tpm": "tpmquote"]

    private let folder: String
    private let cases: [JSON]

    /// - Parameter index: `{"format":1,"cases":[{"id","kind","inputs","time","policy",…}]}`; paths are relative to its
    ///   folder and may not lead out of it.
    init(index: String) throws(Finding) {
        folder = Files.folder(of: index)
        let document = try Input.parse(index) { bytes in try JSON(parsing: bytes, limit: Input.limit) }
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

    /// A case with its files read.
    private func read(_ json: JSON) throws(Finding) -> EvidenceCase {
        guard let kind = json["kind"]?.string, let files = json["inputs"]?.object else {
            throw Finding("parse-form", claim: "case", expected: "kind and inputs", actual: "missing")
        }
        guard let time = json["time"]?.string.flatMap({ Instant($0) }) else {
            throw Finding("parse-form", claim: "case.time", expected: "an RFC 3339 time", actual: "none")
        }
        var inputs: [String: [UInt8]] = [:]
        for (name, value) in files {
            guard let relative = value.string else {
                throw Finding("parse-form", claim: "case.inputs.\(name)", expected: "a path", actual: "another type")
            }
            do {
                let path = try Files.resolve(relative, within: folder)
                if name == "dir" {
                    inputs.merge(try RawInputs.folder(path)) { first, _ in first }
                } else {
                    inputs[name] = try Files.read(path, limit: Input.limit)
                }
            } catch let error as FileError {
                throw error.finding
            } catch let error as Finding {
                throw error
            } catch {
                throw Finding("parse-unreadable", claim: relative, actual: "\(error)")
            }
        }
        let known: Set<String> = [
            "id", "kind", "inputs", "time", "policy", "expect", "why", "provenance", "confirmed_by",
        ]
        return EvidenceCase(
            kind: Self.aliases[kind] ?? kind, inputs: inputs, policy: json["policy"] ?? .object([:]), time: time,
            options: (json.object ?? [:]).filter { !known.contains($0.key) })
    }
}
