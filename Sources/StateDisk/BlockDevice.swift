import Bytes
import Glibc
import Linux

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
    let excluded: String?

    public var path: String { "/dev/\(name)" }
}

/// How the owner's configuration names the disk.
public enum DiskRule: Equatable, Sendable, CustomStringConvertible {
    /// A serial number or world-wide name, as in /dev/disk/by-id with or without its `virtio-`, `nvme-`, `scsi-`, `wwn-`.
    case byID(String)
    /// The label of a GPT partition.
    case label(String)
    /// Whole disks of this size, bytes.
    case size(min: Int, max: Int)
    /// The one whole disk that there is beside the system's.
    case only

    public var description: String {
        switch self {
        case .byID(let id): "id \(id)"
        case .label(let label): "label \(label)"
        case .size(let min, let max): "size \(min) to \(max)"
        case .only: "the only one"
        }
    }

    func takes(_ device: BlockDevice) -> Bool {
        switch self {
        case .byID(let id):
            let plain = ["virtio-", "nvme-", "scsi-", "wwn-"].first { id.hasPrefix($0) }.map { id.dropFirst($0.count) }
            return device.label == nil
                && (device.ids.contains(id) || plain.map { device.ids.contains(String($0)) } == true)
        case .label(let label): return !label.isEmpty && device.label == label
        case .size(let min, let max): return device.label == nil && device.size >= min && device.size <= max
        case .only: return device.label == nil
        }
    }
}

extension BlockDevice {
    /// Every disk and labelled partition that sysfs shows, by name.
    ///
    /// Never a candidate: what the kernel uses already (the system's disk under dm-verity, by its own or any of its
    /// partitions' holders) and every partition of such a disk, read-only disks, disks of memory and files, and what is too small.
    static func all(sysfs: String = "/sys") throws(DiskError) -> [BlockDevice] {
        let folder = "\(sysfs)/class/block"
        do throws(SystemError) {
            var devices: [BlockDevice] = []
            for name in try File.names(in: folder) where !File.exists("\(folder)/\(name)/partition") {
                guard isDisk(name, in: folder) else { continue }
                let partitions = try File.names(in: "\(folder)/\(name)").filter {
                    File.exists("\(folder)/\(name)/\($0)/partition")
                }
                let isUsed =
                    isHeld("\(folder)/\(name)") || partitions.contains { isHeld("\(folder)/\(name)/\($0)") }
                let ids = ["serial", "wwid", "device/serial", "device/wwid"].compactMap {
                    text("\(folder)/\(name)/\($0)")
                }
                devices.append(
                    device(name, "\(folder)/\(name)", ids: Array(Set(ids)).sorted(), label: nil, isUsed: isUsed))
                for partition in partitions {
                    let path = "\(folder)/\(name)/\(partition)"
                    let label = text("\(path)/uevent")?.split(separator: "\n")
                        .first { $0.hasPrefix("PARTNAME=") }.map { String($0.dropFirst(9)) }
                    devices.append(device(partition, path, ids: [], label: label ?? "", isUsed: isUsed))
                }
            }
            return devices
        } catch { throw DiskError(error, "list of disks") }
    }

    private static func device(
        _ name: String, _ path: String, ids: [String], label: String?, isUsed: Bool
    ) -> BlockDevice {
        let sectors = text("\(path)/size").flatMap { Int($0) } ?? 0
        let (size, overflow) = sectors.multipliedReportingOverflow(by: 512)
        let excluded: String?
        if isUsed {
            excluded = "in use by this system"
        } else if text("\(path)/ro") != "0" {
            excluded = "read-only"
        } else if overflow || size < DiskLayout.minimumSize {
            excluded = "smaller than \(DiskLayout.minimumSize >> 20) MiB"
        } else {
            excluded = nil
        }
        return BlockDevice(name: name, size: overflow ? 0 : size, ids: ids, label: label, excluded: excluded)
    }

    /// Not memory, files, other mapped devices or optical drives; several paths to one NVMe disk count once.
    private static func isDisk(_ name: String, in folder: String) -> Bool {
        if ["sr", "fd", "loop", "ram", "zram", "dm-", "md", "nbd"].contains(where: { name.hasPrefix($0) }) {
            return false
        }
        return text("\(folder)/\(name)/hidden") != "1"
    }

    private static func isHeld(_ path: String) -> Bool {
        // A folder that cannot be read hides something: the disk is not taken.
        ((try? File.names(in: "\(path)/holders").isEmpty) ?? false) == false
    }

    private static func text(_ path: String) -> String? {
        guard let text = try? File.text(path, limit: 4096), !text.isEmpty else { return nil }
        // SCSI pads its names with blanks.
        return String(text.drop { $0 == " " })
    }

    /// For people: `vdb (30 GiB, id state)`.
    var summary: String {
        let what = label.map { "partition \($0)" } ?? (ids.isEmpty ? "no id" : "id \(ids.joined(separator: ", "))")
        return "\(name) (\(size >> 20) MiB, \(what)\(excluded.map { ", \($0)" } ?? ""))"
    }
}

extension DiskRule {
    /// The one device that the rule takes.
    ///
    /// - Throws: `disk-none` or `disk-several`, with what there is: nothing is ever guessed.
    func choose(among devices: [BlockDevice]) throws(DiskError) -> BlockDevice {
        let named = devices.filter { takes($0) }
        let candidates = named.filter { $0.excluded == nil }
        guard let first = candidates.first else {
            throw DiskError(
                "none", "state disk", expected: "one disk by the rule: \(self)",
                actual: devices.isEmpty ? "no disk at all" : devices.map(\.summary).joined(separator: "; "),
                source: "the owner's configuration", next: "attach the disk, or change the rule")
        }
        guard candidates.count == 1 else {
            throw DiskError(
                "several", "state disk", expected: "one disk by the rule: \(self)",
                actual: candidates.map(\.summary).joined(separator: "; "), source: "the owner's configuration",
                next: "name the disk by its id, or detach the others; none of them was touched")
        }
        return first
    }
}
