import Bytes
import Crypto
import TestKit
import Testing

@testable import Measurement

/// Debian's OVMF, against what a TPM recorded and what independent tools compute.
@Suite struct FirmwareTests {
    /// The firmware of the recorded boots with its variables, or `nil` where they are not here. Unpacked once.
    static let ovmf: BootPrediction.Inputs? = {
        guard let code = ToolsTree.file("/usr/share/OVMF/OVMF_CODE_4M.fd"),
            let variables = ToolsTree.file("/usr/share/OVMF/OVMF_VARS_4M.fd")
        else { return nil }
        var inputs = BootPrediction.Inputs()
        guard let code = try? readFile(code), let variables = try? readFile(variables),
            (try? inputs.read(firmware: code, variables: variables)) != nil
        else {
            Issue.record("Debian's OVMF cannot be read")
            return nil
        }
        return inputs
    }()

    @Test(arguments: Vectors.cases("pcr-predict")) func firmwareRegistersAreThoseOfTheTPM(_ vector: Vectors.Case) throws
    {
        guard let inputs = Self.ovmf else { return }
        guard inputs.firmware?.version == "2025.02-8+deb13u1" else {
            print("skipped: the recorded boots used OVMF 2025.02-8+deb13u1, not \(inputs.firmware?.version ?? "this")")
            return
        }
        let name = (vector.inputs["dir"]?.string ?? "").split(separator: "/").last ?? ""
        let recorded = try JSON(parsing: try Vectors.read("tpm/boots/\(name)/pcrs.json"))
        let events = try BootPrediction(inputs).events.hashed([.sha256, .sha384])
        for bank in [HashAlgorithm.sha256, .sha384] {
            for index in [0, 2, 3, 6, 7] {
                let digests = events.filter { $0.register == .tpm(index) }.compactMap { $0.digests[bank] }
                #expect(.hex(replay(digests, bank)) == recorded[bank.rawValue]?["\(index)"], "PCR \(index)")
            }
        }
    }

    /// `virt-fw-measure` hashes the PEI volume as it lies in the file; the rest it shares with us.
    @Test func volumesAreThoseOfVirtFirmware() throws {
        guard let volumes = Self.ovmf?.firmware, let tool = ToolsTree.python("virt-fw-measure"),
            let path = ToolsTree.file("/usr/share/OVMF/OVMF_CODE_4M.fd")
        else { return }
        let version = try #require(volumes.version)
        let output = try Tool.run([tool, "--image", path, "--version", version, "--bank", "sha384"])
        let records = try #require(try JSON(parsing: output.output)["records"]?.array)
        let digests = records.compactMap { $0["digests"]?.array?.first?["digest"] }
        #expect(
            digests == [
                .hex(HashAlgorithm.sha384.hash(littleEndian(Array(version.utf16)) + [0, 0])),
                .hex(HashAlgorithm.sha384.hash(volumes.pei)), .hex(HashAlgorithm.sha384.hash(volumes.dxe)),
            ])
    }

    @Test(arguments: ["OVMF_VARS_4M.ms.fd", "OVMF_VARS_4M.snakeoil.fd"])
    func enrolledVariablesAreThoseOfVirtFirmware(_ name: String) throws {
        guard let path = ToolsTree.file("/usr/share/OVMF/\(name)"), let tool = ToolsTree.python("virt-fw-measure")
        else {
            return
        }
        let state = SecureBootState(try VariableStore(try readFile(path)))
        #expect(state.isOn)
        let own = try state.events.hashed([.sha256]).compactMap { $0.digests[.sha256] }
        let output = try Tool.run([tool, "--vars", path, "--bank", "sha256", "--digests"])
        let value = try JSON(parsing: output.output)["values"]?.array?.first?["digest"]
        #expect(.hex(replay(own, .sha256)) == value)
    }

    @Test func secureBootSupportIsSeenInTheFirmware() throws {
        guard let without = Self.ovmf?.firmware, let path = ToolsTree.file("/usr/share/OVMF/OVMF_CODE_4M.secboot.fd")
        else { return }
        #expect(!without.supportsSecureBoot)
        #expect(try FirmwareVolumes(try readFile(path)).supportsSecureBoot)
    }

    /// Known MRTDs, by the SHA-256 of the firmware.
    @Test(arguments: TrustDomainMeasurement.Order.allCases)
    func trustDomainIsThatOfTheList(_ order: TrustDomainMeasurement.Order) throws {
        guard Vectors.root != nil, let path = ToolsTree.file("/usr/share/ovmf/OVMF.fd") else { return }
        let firmware = try readFile(path)
        let known = try JSON(parsing: try Vectors.read("measure/tdx/known-firmware.json")).array ?? []
        let digest = JSON.hex(HashAlgorithm.sha256.hash(firmware))
        guard let entry = known.first(where: { $0["sha256"] == digest }) else {
            print("skipped: \(path) is not in the list of known firmware")
            return
        }
        let key = order == .onePass ? "mrtd_one_pass" : "mrtd_two_pass"
        #expect(try TrustDomainMeasurement.mrtd(firmware, order: order).map { JSON.hex($0) } == entry[key])
    }

    @Test(arguments: LaunchDigest.Host.allCases) func launchIsThatOfSevSnpMeasure(_ host: LaunchDigest.Host) throws {
        guard let path = ToolsTree.file("/usr/share/ovmf/OVMF.fd"), let tool = ToolsTree.python("sev-snp-measure")
        else {
            return
        }
        var parameters = LaunchDigest.Parameters()
        parameters.host = host
        parameters.vcpus = 3
        parameters.vcpuSignature = try #require(LaunchDigest.signature(ofType: "EPYC-Genoa"))
        parameters.guestFeatures = 0x21
        let output = try Tool.run([
            tool, "--mode", "snp", "--vcpus", "3", "--vcpu-type", "EPYC-Genoa", "--ovmf", path, "--guest-features",
            "0x21", "--vmm-type", host == .qemu ? "QEMU" : host.rawValue,
        ])
        let own = try LaunchDigest.snp(firmware: try readFile(path), parameters)
        #expect(Hex.encode(own) == output.text.split(separator: "\n").first.map(String.init), "\(output.errors)")
    }

    @Test func damagedFirmwareNeverCrashes() throws {
        guard let path = ToolsTree.file("/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd") else { return }
        let enrolled = try readFile(path)
        var generator = SeededGenerator(seed: 5)
        for _ in 0..<100 {
            var damaged = enrolled
            for _ in 0..<3 {
                let limit = Bool.random(using: &generator) ? 160 : 65536
                damaged[Int.random(in: 0..<limit, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
            }
            guard let store = try? VariableStore(damaged) else { continue }
            _ = SecureBootState(store).events
        }
        for count in 0..<160 { #expect(throws: ParseError.self) { try VariableStore(Array(enrolled[..<count])) } }
    }
}

@Suite struct LZMATests {
    /// What `xz --format=lzma` packs, with the size that firmware tools put into the header.
    static func packed(_ bytes: [UInt8]) throws -> [UInt8]? {
        guard let tool = Tool.find("xz") else { return nil }
        var packed = try Tool.run([tool, "--format=lzma", "--stdout", "-"], input: bytes).output
        packed.replaceSubrange(5..<13, with: (0..<8).map { UInt8(truncatingIfNeeded: bytes.count >> (8 * $0)) })
        return packed
    }

    static var sample: [UInt8] {
        var generator = SeededGenerator(seed: 11)
        var bytes: [UInt8] = []
        for _ in 0..<400 {
            if Bool.random(using: &generator), !bytes.isEmpty {
                let start = Int.random(in: 0..<bytes.count, using: &generator)
                bytes += bytes[start..<min(bytes.count, start + 100)]
            } else {
                for _ in 0..<20 { bytes.append(UInt8.random(in: 0...15, using: &generator)) }
            }
        }
        return bytes
    }

    @Test func unpacksWhatXZPacks() throws {
        for bytes in [[], [1], [UInt8](repeating: 0xFF, count: 100_000), Self.sample] {
            guard let packed = try Self.packed(bytes) else { return }
            #expect(try LZMADecoder.decode(packed, limit: 1 << 20) == bytes)
        }
    }

    @Test func sizesAboveTheLimitAreRefusedUnread() throws {
        guard let packed = try Self.packed(Self.sample) else { return }
        #expect(throws: ParseError.self) { try LZMADecoder.decode(packed, limit: 100) }
    }

    @Test func truncationIsRefusedAndMutationsNeverCrash() throws {
        guard let packed = try Self.packed(Self.sample) else { return }
        for count in stride(from: 0, to: packed.count - 16, by: 7) {
            #expect(throws: ParseError.self) { try LZMADecoder.decode(Array(packed[..<count]), limit: 1 << 20) }
        }
        var generator = SeededGenerator(seed: 12)
        for _ in 0..<300 { _ = try? LZMADecoder.decode(mutate(packed, with: &generator), limit: 1 << 20) }
    }
}
