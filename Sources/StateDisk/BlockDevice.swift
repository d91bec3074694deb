import Bytes
import DiskFormat
import Linux

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
}
