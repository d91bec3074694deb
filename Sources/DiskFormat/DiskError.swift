import Bytes

/// Why a disk is not found, made, opened or mounted; `reason` is `disk-…`, or `header-…` where its header is at fault.
public struct DiskError: Error, Equatable, Sendable {
    public let finding: Finding

    package init(
        _ detail: String, _ claim: String, expected: String = "", actual: String = "", source: String = "", next: String
    ) {
        finding = Finding(
            "disk-\(detail)", claim: claim, expected: expected, actual: actual, source: source, next: next)
    }

    package init(_ finding: Finding) { self.finding = finding }

    package init(_ error: HeaderError) { finding = error.finding }
}
