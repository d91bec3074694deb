import Bytes
import CTSS2SoftwareTPM
import Crypto
import Glibc
import TPM
import TestKit
import Testing

@testable import TPMDevice

extension TPMDevice {
    init(_ tpm: SoftwareTPM) throws {
        let settings = "host=127.0.0.1,port=\(tpm.port)"
        self = try unsafe TPMDevice("open swtpm") { unsafe Tss2_Tcti_Swtpm_Init($0, $1, settings) }
    }
}

/// Against a real swtpm, judged by Nacre's own verifier and by tpm2-tools.
@Suite("TPM device")
struct TPMDeviceTests {
    static let all = Array(0...15)

    @Test("lists the active banks")
    func banks() throws {
        guard let tpm = try SoftwareTPM(banks: "sha1,sha256,sha384,sha512") else { return }
        let device = try TPMDevice(tpm)
        #expect(try device.activeBanks().map(\.hash) == [.sha1, .sha256, .sha384, .sha512])
        #expect(try device.activeBanks().allSatisfy { $0.indices == Array(0..<24) })
    }

    @Test("creates a restricted signing key in memory, the same one each time")
    func key() throws {
        guard let tpm = try SoftwareTPM() else { return }
        var keys: [[UInt8]] = []
        for _ in 0..<2 {
            var device = try TPMDevice(tpm)
            keys.append(try device.createAttestationKey())
            #expect(try device.createAttestationKey() == keys.last)
        }
        let key = try AttestationKey(parsing: keys[0])
        try key.checkAttributes()
        let attributes: TPMPublic.Attributes = [
            .fixedTPM, .fixedParent, .sensitiveDataOrigin, .userWithAuth, .noDA, .restricted, .sign,
        ]
        #expect(key.area?.attributes == attributes)
        #expect(keys[0] == keys[1])
        // Flushed when the device was closed: a TPM holds only a few objects.
        if let tool = Tool.find("tpm2_getcap") {
            let handles = try Tool.run([tool, "-T", tpm.tcti, "handles-transient"])
            #expect(handles.status == 0 && !handles.text.contains("0x80"))
        }
    }

    @Test("quotes registers 0 to 15 of two banks at once, as its verifier and tpm2_checkquote agree")
    func quote() throws {
        guard let tpm = try SoftwareTPM(banks: "sha256,sha384") else { return }
        let nonce = Array(UInt8(0)..<32)
        let selections = [
            PCRSelection(hash: .sha256, indices: Self.all), PCRSelection(hash: .sha384, indices: Self.all),
        ]
        let folder = try TemporaryFolder()
        do {
            var device = try TPMDevice(tpm)
            let public_ = try device.createAttestationKey()
            _ = try device.extend(register: 11, with: Array("enter-initrd".utf8))
            let quoted = try device.quote(nonce: nonce, selections)
            let key = try AttestationKey(parsing: public_)
            let quote = try Quote(attest: quoted.attest, signature: quoted.signature)
            let covered = try quote.verify(ak: key, nonce: nonce, pcrs: quoted.registers)
            #expect(covered.sorted.count == 32)
            #expect(covered == quoted.registers)
            #expect(throws: TPMError.self) {
                try quote.verify(ak: key, nonce: nonce.reversed(), pcrs: quoted.registers)
            }
            _ = try folder.file("attest", quoted.attest)
            _ = try folder.file("signature", quoted.signature)
            _ = try folder.file("ak.pem", Array(key.publicKey.pem.utf8))
        }
        guard let tool = Tool.find("tpm2_checkquote") else { return }
        let command = [
            tool, "-u", "\(folder.path)/ak.pem", "-m", "\(folder.path)/attest", "-s", "\(folder.path)/signature", "-g",
            "sha256", "-q",
        ]
        #expect(try Tool.run(command + [Hex.encode(nonce)]).status == 0)
        #expect(try Tool.run(command + ["00"]).status != 0)
    }

    @Test("reads the values that tpm2_pcrread reads, after extending every active bank")
    func read() throws {
        guard let tpm = try SoftwareTPM(banks: "sha256,sha384") else { return }
        let phase = Array("nacre-attestable".utf8)
        let values: PCRBank
        do {
            let device = try TPMDevice(tpm)
            let extended = try device.extend(register: 11, with: phase)
            #expect(extended.map(\.bank) == [.sha256, .sha384])
            #expect(extended.allSatisfy { $0.digest == $0.bank.hash(phase) })
            values = try device.read(try device.activeBanks())
        }
        #expect(values.sorted.count == 48)
        for hash in [HashAlgorithm.sha256, .sha384] {
            #expect(values[hash, 11] == hash.hash([UInt8](repeating: 0, count: hash.size) + hash.hash(phase)))
            #expect(values[hash, 17] == [UInt8](repeating: 0xFF, count: hash.size))
        }
        guard let tool = Tool.find("tpm2_pcrread") else { return }
        let text = try Tool.run([tool, "-T", tpm.tcti, "sha256:all+sha384:all"]).text.lowercased()
        #expect(values.sorted.allSatisfy { text.contains("0x\(Hex.encode($0.digest))") })
    }

    @Test("gives random bytes")
    func random() throws {
        guard let tpm = try SoftwareTPM() else { return }
        let device = try TPMDevice(tpm)
        #expect(try device.random(32).count == 32)
        #expect(try device.random(32) != device.random(32))
        #expect(throws: TPMDeviceError.self) { try device.random(33) }
    }

    @Test("refuses what it cannot do, in words")
    func refusals() throws {
        guard let tpm = try SoftwareTPM(banks: "sha256") else { return }
        let device = try TPMDevice(tpm)
        let bank = [PCRSelection(hash: .sha256, indices: [0])]
        #expect(throws: TPMDeviceError.self) { try device.quote(nonce: [1], bank) }
        #expect(throws: TPMDeviceError.self) { try device.extend(register: 24, with: []) }
        #expect(throws: TPMDeviceError.self) {
            try device.extend(register: 11, with: [UInt8](repeating: 0, count: 1025))
        }
        // A bank that is not active has no values to give.
        #expect(throws: TPMDeviceError.self) { try device.read([PCRSelection(hash: .sha384, indices: [0])]) }
        let error = #expect(throws: TPMDeviceError.self) { _ = try TPMDevice(path: "/dev/there-is-no-tpm") }
        #expect(error?.operation == "open /dev/there-is-no-tpm")
        #expect(error?.message.isEmpty == false)
    }
}
