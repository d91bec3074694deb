import Bytes
import Crypto
import SEVSNP
import TestKit

/// Genuine reports with their certificates: the one that ships with the tests, and those of shared/vectors.
struct Sample: Sendable, CustomStringConvertible {
    let name: String
    let report: [UInt8]
    let vek: [UInt8]
    let time: Instant

    var description: String { name }

    static let shipped: Sample = {
        let folder = "/" + #filePath.split(separator: "/").dropLast().joined(separator: "/") + "/Fixtures"
        return Sample(
            name: "milan-debug (shipped)", report: (try? readFile("\(folder)/milan-debug-report.bin")) ?? [],
            vek: (try? readFile("\(folder)/milan-debug-vcek.der")) ?? [], time: Instant(seconds: 1667260800))
    }()

    /// Each machine once: cases marked authentic whose report lies under `snp/`.
    static let all: [Sample] = {
        var seen: Set<String> = []
        let recorded = Vectors.cases("snp").compactMap { vector -> Sample? in
            guard let path = vector.inputs["report"]?.string, path.hasPrefix("snp/"),
                vector.expect["authentic"]?.bool == true, seen.insert(path).inserted,
                let report = try? vector.read("report"), let vek = try? vector.read("vek")
            else { return nil }
            return Sample(name: path, report: report, vek: vek, time: vector.time)
        }
        return [shipped] + recorded
    }()

    /// The chain under AMD's shipped keys.
    func chain() throws -> VerifiedChain {
        let endorsement = try EndorsementKey(vek)
        let signer = try AMDAnchors.signer(endorsement.product, endorsement.kind).certificate()
        let root = try AMDAnchors.root(endorsement.product).certificate()
        return try VerifiedChain(endorsement: endorsement, chain: [signer, root], roots: [root], revocationList: nil)
    }
}

/// The reason that `body` is refused with, `accepted` if it is not.
func reason(_ body: () throws -> Void) -> String {
    do {
        try body()
        return "accepted"
    } catch let finding as Finding {
        return finding.reason
    } catch let error as ParseError {
        return error.finding.reason
    } catch {
        return "\(error)"
    }
}
