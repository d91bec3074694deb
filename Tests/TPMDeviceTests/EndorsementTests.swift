import Bytes
import CTSS2SoftwareTPM
import Crypto
import TPM
import TestKit
import Testing

@testable import TPMDevice

/// Endorsement keys of a real swtpm and credentials both ways between Nacre and tpm2-tools.
@Suite("Endorsement key")
struct EndorsementTests {
    /// What tpm2-tools call a credential: a magic number, a version, then the two TPM2B.
    private static let header: [UInt8] = [0xBA, 0xDC, 0xC0, 0xDE, 0, 0, 0, 1]

    private func tool(_ name: String, _ tpm: SoftwareTPM?, _ arguments: [String]) throws -> Tool.Output? {
        guard let path = Tool.find(name) else { return nil }
        let done = try Tool.run([path] + (tpm.map { ["-T", $0.tcti] } ?? ["-T", "none"]) + arguments)
        return done
    }

    private func flush(_ tpm: SoftwareTPM) throws {
        for kind in ["-t", "-s", "-l"] { _ = try tool("tpm2_flushcontext", tpm, [kind]) }
    }

    @Test("is absent from a TPM without a certificate")
    func absent() throws {
        guard let tpm = try SoftwareTPM() else { return }
        var device = try TPMDevice(tpm)
        #expect(try device.findEndorsementKey() == nil)
        try device.createAttestationKey()
        let credential = try Credential(blob: [0, 1, 7], seed: [0, 1, 7])
        #expect(throws: TPMDeviceError.self) { _ = try device.activate(credential).count }
    }

    @Test("is made from the template of its certificate, RSA and elliptic curve", arguments: [true, false])
    func found(hasECC: Bool) throws {
        guard let authority = try SoftwareTPM.Authority(), let tpm = try SoftwareTPM(authority: authority) else {
            return
        }
        if !hasECC {
            // The high range's P-384 is preferred; without it, the low range's RSA.
            guard let removed = try tool("tpm2_nvundefine", tpm, ["-C", "p", "0x1c00016"]) else { return }
            #expect(removed.status == 0, "\(removed.errors)")
        }
        var device = try TPMDevice(tpm)
        try device.createAttestationKey()
        let key = try #require(try device.findEndorsementKey())
        let area = try TPMPublic(parsing: key.publicArea)
        let certificate = try EndorsementCertificate(Certificate(der: key.certificate))
        #expect(try area.publicKey() == certificate.certificate.publicKey())
        #expect(try area.publicKey().kind == (hasECC ? .p384 : .rsa(bits: 2048)))
        #expect(certificate.vendor == nil && certificate.manufacturer == "id:00001014")
        #expect(certificate.model == "swtpm" && certificate.version.hasPrefix("id:"))

        // Made by Nacre, activated by the device.
        let name = try TPMPublic(parsing: device.attestationKey).name
        let secret = Secret(random: 32)
        let credential = try Credential(secret, for: name, to: area)
        for _ in 0..<5 { #expect(try device.activate(credential).equals(secret)) }
        // For another attestation key, another TPM, or damaged: refused, and good ones still are activated.
        let other = try Credential(secret, for: [0, 0x0B] + HashAlgorithm.sha256.hash([1]), to: area)
        #expect(throws: TPMDeviceError.self) { _ = try device.activate(other).count }
        var generator = SeededGenerator(seed: 7)
        for _ in 0..<mutations(400, quick: 40) {
            let isBlob = Bool.random(using: &generator)
            let damaged = mutate(isBlob ? credential.blob : credential.seed, with: &generator)
            guard damaged != (isBlob ? credential.blob : credential.seed),
                let wrong = try? Credential(
                    blob: isBlob ? damaged : credential.blob, seed: isBlob ? credential.seed : damaged)
            else { continue }
            #expect(throws: TPMDeviceError.self) { _ = try device.activate(wrong).count }
        }
        #expect(try device.activate(credential).equals(secret))
    }

    @Test("of another TPM activates nothing")
    func anotherTPM() throws {
        guard let authority = try SoftwareTPM.Authority(), let first = try SoftwareTPM(authority: authority),
            let second = try SoftwareTPM(authority: authority)
        else { return }
        var mine = try TPMDevice(first)
        var other = try TPMDevice(second)
        try mine.createAttestationKey()
        try other.createAttestationKey()
        let key = try #require(try mine.findEndorsementKey())
        _ = try other.findEndorsementKey()
        // Its own endorsement key, the other's attestation key: the other TPM has that key and not this one.
        let name = try TPMPublic(parsing: other.attestationKey).name
        let credential = try Credential(Secret(random: 32), for: name, to: TPMPublic(parsing: key.publicArea))
        #expect(throws: TPMDeviceError.self) { _ = try mine.activate(credential).count }
        #expect(throws: TPMDeviceError.self) { _ = try other.activate(credential).count }
    }

    @Test("tpm2_activatecredential reads what Nacre makes", arguments: ["ecc", "rsa"])
    func made(algorithm: String) throws {
        guard let tpm = try SoftwareTPM(), Tool.find("tpm2_activatecredential") != nil else { return }
        let folder = try TemporaryFolder()
        let path = { (name: String) in "\(folder.path)/\(name)" }
        let keys = try makeKeys(tpm, algorithm, path)
        let secret = randomBytes(32)
        var copy = secret
        let credential = try Credential(Secret(wiping: &copy), for: keys.name, to: keys.endorsement)
        _ = try folder.file("credential", Self.header + credential.blob + credential.seed)
        let session = try tool("tpm2_startauthsession", tpm, ["--policy-session", "-S", path("session")])
        #expect(session?.status == 0)
        #expect(try tool("tpm2_policysecret", tpm, ["-S", path("session"), "-c", "e"])?.status == 0)
        let activated = try #require(
            try tool(
                "tpm2_activatecredential", tpm,
                [
                    "-c", path("ak.ctx"), "-C", path("ek.ctx"), "-i", path("credential"), "-o", path("secret"), "-P",
                    "session:\(path("session"))",
                ]))
        #expect(activated.status == 0, "\(activated.errors)")
        #expect(try readFile(path("secret")) == secret)
    }

    /// tpm2_createek and tpm2_createak: keys that Nacre did not make.
    private func makeKeys(
        _ tpm: SoftwareTPM, _ algorithm: String, _ path: (String) -> String
    ) throws -> (endorsement: TPMPublic, name: [UInt8]) {
        let endorsement = try tool(
            "tpm2_createek", tpm, ["-c", path("ek.ctx"), "-G", algorithm, "-u", path("ek.pub")])
        #expect(endorsement?.status == 0, "\(endorsement?.errors ?? "")")
        try flush(tpm)
        let attestation = try tool(
            "tpm2_createak", tpm,
            [
                "-C", path("ek.ctx"), "-c", path("ak.ctx"), "-G", "ecc", "-s", "ecdsa", "-g", "sha256", "-n",
                path("name"),
            ])
        #expect(attestation?.status == 0, "\(attestation?.errors ?? "")")
        try flush(tpm)
        return (try TPMPublic(parsing: try readFile(path("ek.pub"))), try readFile(path("name")))
    }

    @Test("the device activates what tpm2_makecredential makes", arguments: [true, false])
    func activated(hasECC: Bool) throws {
        guard let authority = try SoftwareTPM.Authority(), let tpm = try SoftwareTPM(authority: authority),
            Tool.find("tpm2_makecredential") != nil
        else { return }
        if !hasECC { _ = try tool("tpm2_nvundefine", tpm, ["-C", "p", "0x1c00016"]) }
        var device = try TPMDevice(tpm)
        try device.createAttestationKey()
        let key = try #require(try device.findEndorsementKey())
        let folder = try TemporaryFolder()
        let secret = randomBytes(32)
        let name = try TPMPublic(parsing: device.attestationKey).name
        let made = try #require(
            try tool(
                "tpm2_makecredential", nil,
                [
                    "-u", try folder.file("ek.pub", key.publicArea), "-s", try folder.file("secret", secret), "-n",
                    Hex.encode(name), "-o", "\(folder.path)/credential",
                ]))
        #expect(made.status == 0, "\(made.errors)")
        let bytes = try readFile("\(folder.path)/credential")
        #expect(bytes.starts(with: Self.header))
        let blob = 2 + (Int(bytes[8]) << 8 | Int(bytes[9]))
        let credential = try Credential(
            blob: Array(bytes.dropFirst(8).prefix(blob)), seed: Array(bytes.dropFirst(8 + blob)))
        var copy = secret
        let expected = Secret(wiping: &copy)
        #expect(try device.activate(credential).equals(expected))
    }
}
