import Bytes

/// Why a disk's header is not used. `reason` is `header` or `header-detail`.
public struct HeaderError: Error, Equatable, Sendable {
    public let finding: Finding

    package init(_ detail: String, _ claim: String, expected: String = "", actual: String, next: String = Self.next) {
        finding = Finding(
            "header-\(detail)", claim: claim, expected: expected, actual: actual,
            source: "LUKS2 on-disk format 1.1 and docs/state-disk.md", next: next)
    }

    package init(_ error: ParseError, _ claim: String) {
        finding = Finding(
            "header-\(error.detail)", claim: "\(claim).\(error.field)", actual: error.message,
            source: "LUKS2 on-disk format 1.1 and docs/state-disk.md", next: Self.next)
    }

    package static let next =
        "no key was used; whoever can write to this disk has changed its header: restore the disk, or start over with an empty one"
}
