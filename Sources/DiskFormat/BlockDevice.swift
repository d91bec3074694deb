/// A whole disk or a partition that could hold the node's state.
public struct BlockDevice: Equatable, Sendable {
    /// The kernel's name: `vdb`.
    public let name: String
    /// Bytes.
    public let size: Int
    /// Serial number and world-wide name, as far as the disk has them.
    public let ids: [String]
    /// Label of the GPT partition; `nil` for whole disks.
    public let label: String?
    /// Why this one is never taken; `nil` for a candidate.
    package let excluded: String?

    public var path: String { "/dev/\(name)" }

    package init(name: String, size: Int, ids: [String], label: String?, excluded: String?) {
        self.name = name
        self.size = size
        self.ids = ids
        self.label = label
        self.excluded = excluded
    }

    /// For people: `vdb (30 GiB, id state)`.
    package var summary: String {
        let what = label.map { "partition \($0)" } ?? (ids.isEmpty ? "no id" : "id \(ids.joined(separator: ", "))")
        return "\(name) (\(size >> 20) MiB, \(what)\(excluded.map { ", \($0)" } ?? ""))"
    }
}
