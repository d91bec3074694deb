import Bytes
import Glibc
import Measurement
import TestKit
import Testing

/// What the host of a virtual machine can hand its guest beside the disk: nothing of it is part of the image, and the
/// firmware measures little of it.
struct HostInputs: Sendable {
    /// systemd's variables of UEFI (https://systemd.io/BOOT_LOADER_INTERFACE, `SystemdOptions`).
    static let systemdVendor: GUID = "8cf2644b-4b0b-428f-9387-6d876050dc67"

    /// Words for PID 1 in the EFI variable `SystemdOptions`, a second kernel command line.
    var systemdOptions: String?
    /// SMBIOS type 11, "OEM strings".
    var oemStrings: [String] = []
    /// Files of QEMU's fw_cfg by name.
    var firmwareFiles: [(name: String, contents: String)] = []
    /// Who certifies the TPM, as the vendor of a real one would.
    var authority: SoftwareTPM.Authority?
    /// A machine whose folder holds this file boots it instead of the image.
    var otherImage: String?
    /// A machine whose folder holds this file writes what its state disk is told, in order, to the file that it names
    /// (`WriteLog`).
    var recordsWrites: String?
    /// A machine whose folder holds this file gets it as one disk more.
    var secondDisk: String?
    /// Everything on the cluster's segment is written to this file of each machine's folder (pcap).
    var capture: String?

    /// The folder of the firmware to start with.
    func firmware(in folder: TemporaryFolder) throws -> String {
        guard let systemdOptions else { return Built.firmware }
        let place = folder.path + "/firmware"
        try #require(unsafe mkdir(place, 0o755) == 0)
        let code = "/OVMF_CODE_4M.fd"
        try writeFile(place + code, readFile(Built.firmware + code))
        let variables = "/OVMF_VARS_4M.fd"
        let store = try Self.store(readFile(Built.firmware + variables), with: systemdOptions)
        try #require(Self.systemdOptions(of: store) == systemdOptions)
        try writeFile(place + variables, store)
        return place
    }

    /// The words of `SystemdOptions` in a file of variables.
    static func systemdOptions(of store: [UInt8]) throws -> String? {
        let units = try VariableStore(store)["SystemdOptions", systemdVendor].map { data in
            stride(from: 0, to: data.count - 1, by: 2).map { UInt16(data[$0]) | UInt16(data[$0 + 1]) << 8 }
        }
        return units.map { String(decoding: $0.prefix { $0 != 0 }, as: UTF16.self) }
    }

    /// `store` with `SystemdOptions` behind its last variable: AUTHENTICATED_VARIABLE_HEADER of edk2's
    /// `VariableFormat.h`, name, data.
    private static func store(_ store: [UInt8], with options: String) throws -> [UInt8] {
        func little(_ value: Int, _ count: Int) -> [UInt8] {
            (0..<count).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
        }
        func units(_ text: String) -> [UInt8] { (Array(text.utf16) + [0]).flatMap { little(Int($0), 2) } }
        let (name, data) = (units("SystemdOptions"), units(options))
        // Non-volatile, for boot services and the running system; added; no authentication.
        var variable: [UInt8] = [0xAA, 0x55, 0x3F, 0] + little(7, 4) + [UInt8](repeating: 0, count: 28)
        variable += little(name.count, 4) + little(data.count, 4) + systemdVendor.bytes + name + data
        // Variables follow the headers of volume and store, each at a multiple of four bytes.
        let headerLength = Int(store[48]) | Int(store[49]) << 8
        var offset = headerLength + 28
        while store[offset...].starts(with: [0xAA, 0x55]) {
            let sizes = [36, 40].map { field in
                (0..<4).reduce(0) { $0 | Int(store[offset + field + $1]) << (8 * $1) }
            }
            offset += (60 + sizes[0] + sizes[1] + 3) & ~3
        }
        let free = store[offset..<(offset + variable.count)]
        try #require(free.allSatisfy { $0 == 0xFF }, "room for another variable")
        return Array(store[..<offset]) + variable + store[(offset + variable.count)...]
    }

    /// Lines of a shell: words of the command that fit a pattern are others in a folder that holds `file`.
    private static func replacing(where file: String, _ words: [(pattern: String, word: String)]) -> String {
        let cases = words.map { "\($0.pattern)) word=\"\($0.word)\" ;;\n" }.joined()
        return "if [ -f \(file) ]; then for word; do shift; case \"$word\" in\n\(cases)"
            + "esac; set -- \"$@\" \"$word\"; done; fi\n"
    }

    /// What to put before a command so that the programs it starts get these inputs too.
    func environment(in folder: TemporaryFolder) throws -> [String] {
        func escaped(_ text: String) -> String {
            text.split(separator: ",", omittingEmptySubsequences: false).joined(separator: ",,")
        }
        var arguments = oemStrings.flatMap { ["-smbios", "type=11,value=" + escaped($0)] }
        for (index, file) in firmwareFiles.enumerated() {
            let path = try folder.file("fw_cfg-\(index)", file.contents)
            arguments += ["-fw_cfg", "name=\(escaped(file.name)),file=\(path)"]
        }
        // Lines before the program is started, and words at the end of its command.
        var wrapped: [(program: String, before: String, arguments: [String])] = []
        if let capture { arguments += ["-object", "filter-dump,id=capture,netdev=net1,file=\(capture)"] }
        if !arguments.isEmpty || secondDisk != nil || otherImage != nil || recordsWrites != nil {
            var before = ""
            if let name = secondDisk {
                before +=
                    "[ -f \(name) ] && set -- \"$@\" -drive if=none,id=second,format=raw,file=\(name) "
                    + "-device virtio-blk-pci,drive=second,serial=second\n"
            }
            if let name = otherImage {
                before += Self.replacing(
                    where: name,
                    [
                        (
                            "driver=raw,node-name=system,*",
                            "driver=raw,node-name=system,read-only=on,file.driver=file,file.filename=\(name)"
                        )
                    ])
            }
            if let name = recordsWrites {
                before += "[ -f \(name) ] && : >\"$(cat \(name))\"\n"
                before += Self.replacing(
                    where: name,
                    [
                        (
                            "driver=raw,node-name=state,*",
                            "driver=blklogwrites,node-name=state,log-sector-size=512,file.driver=file,"
                                + "file.filename=state.img,log.driver=file,log.filename=$(cat \(name))"
                        ),
                        // Merged requests have more pieces than blklogwrites can hand on with its own added.
                        ("virtio-blk-pci,drive=state,*", "$word,request-merging=off"),
                    ])
            }
            wrapped.append(("qemu-system-x86_64", before, arguments))
        }
        if let authority { wrapped.append(("swtpm_setup", "", authority.setupOptions)) }
        guard !wrapped.isEmpty else { return [] }
        let programs = folder.path + "/programs"
        try #require(unsafe mkdir(programs, 0o755) == 0)
        for (program, before, arguments) in wrapped {
            let tool = try #require(Tool.find(program))
            let words = arguments.map { "'" + $0.split(separator: "'").joined(separator: "'\\''") + "'" }
            let script = "\(programs)/\(program)"
            try writeFile(
                script,
                Array("#!/bin/sh\n\(before)exec \(tool) \"$@\" \(words.joined(separator: " "))\n".utf8))
            try #require(unsafe chmod(script, 0o755) == 0)
        }
        let path = unsafe getenv("PATH").map { unsafe String(cString: $0) } ?? "/usr/bin:/bin"
        return ["env", "PATH=\(programs):\(path)"]
    }
}
