import Bytes
import GPT
import UnifiedKernelImage

extension BootPrediction.Inputs {
    /// Where firmware looks for a loader on a disk without boot entries (UEFI 2.10 §3.5.1.1).
    public static let fallbackLoader = "EFI/BOOT/BOOTX64.EFI"

    /// Reads a UKI, or a raw disk whose EFI system partition holds one as the fallback loader, with what lies beside it.
    ///
    /// - Throws: `ParseError` naming the first field that is not as it must be.
    public mutating func read(_ file: ByteSource) throws(ParseError) {
        if file.count >= 2, try file.read(at: 0, count: 2, "image") == Array("MZ".utf8) {
            image = try UnifiedKernelImage(file)
            return
        }
        let table = try GPT(file)
        guard let partition = try table.partition(type: GPT.PartitionType.efiSystem) else {
            throw ParseError("missing", field: "disk", offset: 0, "no EFI system partition")
        }
        let volume = try FATVolume(try table.source(of: partition, on: file))
        guard let loader = try volume.file(Self.fallbackLoader) else {
            throw ParseError("missing", field: Self.fallbackLoader, offset: partition.offset, "no fallback loader")
        }
        image = try UnifiedKernelImage(loader)
        companions = try BootCompanions(on: volume, of: Self.fallbackLoader)
        gpt = table
    }

    /// Takes what a firmware image alone determines: its volumes, and its variables where it contains them.
    ///
    /// - Parameter variables: the variable store, where it is a file of its own.
    public mutating func read(firmware bytes: [UInt8]?, variables: [UInt8]?) throws(ParseError) {
        let volumes: FirmwareVolumes? = if let bytes { try FirmwareVolumes(bytes) } else { nil }
        firmware = volumes
        var store = variables
        if store == nil, let bytes, let start = volumes?.variablesOffset { store = Array(bytes[start...]) }
        if let store {
            secureBoot = SecureBootState(try VariableStore(store), supported: volumes?.supportsSecureBoot)
        }
    }
}
