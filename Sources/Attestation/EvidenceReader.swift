import Bytes
import Crypto

/// Reads evidence of a plain TPM in exactly the form in which nodes write it: these fields, in this order, without a space
/// and without an escape. `nil` for anything else, which the reader of JSON then accepts or refuses with its reasons:
/// whatever is read here, it would have read too, to the same values, in three times the time.
struct EvidenceReader {
    private var text: TextScanner

    /// - Parameter bytes: at most `Evidence.maximumSize`.
    init(_ bytes: [UInt8]) { text = TextScanner(bytes) }

    mutating func read() -> Evidence? {
        guard text.skip("{") else { return nil }
        var cluster: ClusterIdentity?
        if text.skip("\"cluster\":{\"id\":\"") {
            guard let id = text.hex(32), text.skip(",\"owner\":\""), let owner = text.hex(32), text.skip("},"),
                let identity = try? ClusterIdentity(clusterID: id, owner: owner)
            else { return nil }
            cluster = identity
        }
        var imageDigest: [UInt8]?
        if text.skip("\"imageDigest\":\"") {
            guard let digest = text.hex(32), text.skip(",") else { return nil }
            imageDigest = digest
        }
        guard text.skip("\"nonce\":\""), let nonce = text.hex(), text.skip(",\"platform\":\""),
            let platform = platform(),
            text.skip(",\"schema\":\"nacre.evidence.v1\",\"stages\":["), let stages = stages(), text.skip(",\"tpm\":{"),
            let tpm = tpm(), text.skip("}"), text.isAtEnd
        else { return nil }
        return Evidence(
            platform: platform, nonce: nonce, tpm: tpm, imageDigest: imageDigest, cluster: cluster, stages: stages)
    }

    private mutating func platform() -> Evidence.Platform? {
        guard let name = text.plain() else { return nil }
        return Evidence.Platform(rawValue: name)
    }

    private mutating func stages() -> [Evidence.Stage]? {
        var stages: [Evidence.Stage] = []
        if text.skip("]") { return stages }
        while stages.count < Evidence.maximumStages {
            guard text.skip("{\"milliseconds\":"), let milliseconds = text.number(), text.skip(",\"name\":\""),
                let name = text.plain(),
                text.skip("}")
            else { return nil }
            stages.append(Evidence.Stage(name: name, milliseconds: milliseconds))
            if text.skip("]") { return stages }
            guard text.skip(",") else { return nil }
        }
        return nil
    }

    private mutating func tpm() -> Evidence.TPMEvidence? {
        guard text.skip("\"attest\":\""), let attest = text.base64(), text.skip(",\"attestationKey\":\""),
            let key = text.base64(),
            text.skip(",\"certificates\":["), let certificates = certificates(), text.skip(",\"eventLog\":\""),
            let eventLog = text.base64(), text.skip(",\"pcrs\":{"), let registers = banks(),
            text.skip(",\"signature\":\""),
            let signature = text.base64(), text.skip(",\"userspaceLog\":\""), let userspaceLog = text.base64(),
            text.skip("}")
        else { return nil }
        return Evidence.TPMEvidence(
            attest: attest, signature: signature, attestationKey: key, certificates: certificates,
            registers: registers, eventLog: eventLog, userspaceLog: userspaceLog)
    }

    private mutating func certificates() -> [[UInt8]]? {
        var certificates: [[UInt8]] = []
        if text.skip("]") { return certificates }
        while certificates.count < Evidence.maximumCertificates {
            guard text.skip("\""), let certificate = text.base64() else { return nil }
            certificates.append(certificate)
            if text.skip("]") { return certificates }
            guard text.skip(",") else { return nil }
        }
        return nil
    }

    private mutating func banks() -> [HashAlgorithm: [Int: [UInt8]]]? {
        var banks: [HashAlgorithm: [Int: [UInt8]]] = [:]
        for bank in HashAlgorithm.allCases {
            guard text.skip((banks.isEmpty ? "\"" : ",\"") + bank.rawValue + "\":{") else { continue }
            guard let registers = registers(bank.size) else { return nil }
            banks[bank] = registers
        }
        return text.skip("}") ? banks : nil
    }

    private mutating func registers(_ size: Int) -> [Int: [UInt8]]? {
        var registers: [Int: [UInt8]] = [:]
        if text.skip("}") { return registers }
        registers.reserveCapacity(24)
        while registers.count < 24 {
            guard text.skip("\""), let index = text.number(), index < 24, text.skip("\":\""),
                let value = text.hex(size),
                registers.updateValue(value, forKey: index) == nil
            else { return nil }
            if text.skip("}") { return registers }
            guard text.skip(",") else { return nil }
        }
        return nil
    }
}
