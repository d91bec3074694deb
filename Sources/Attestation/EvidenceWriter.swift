import Bytes
import Crypto

extension Evidence {
    /// The document as it is sent: the bytes of `json.compact`, for a plain TPM written without building that tree, which
    /// takes as long as a signature does.
    public var bytes: [UInt8] {
        var writer = EvidenceWriter()
        return writer.write(self) ? writer.bytes : Array(json.compact.utf8)
    }
}

/// Writes evidence of a TPM in the order in which `JSON.compact` does.
struct EvidenceWriter {
    private(set) var bytes: [UInt8] = []

    /// Registers in the order of their names' characters (RFC 8785).
    private static let registerOrder = (0...23).sorted { String($0) < String($1) }
    private static let bankOrder: [HashAlgorithm] = [.sha1, .sha256, .sha384, .sha512]

    /// - Returns: `false` where the evidence has parts that are not written here; `bytes` is then of no use.
    mutating func write(_ evidence: Evidence) -> Bool {
        guard let tpm = evidence.tpm, evidence.tee == nil, evidence.collateral == nil, tpm.endorsementKey == nil else {
            return false
        }
        bytes.reserveCapacity(4096 + (tpm.eventLog.count + tpm.userspaceLog.count + 2) / 3 * 4)
        add("{")
        if let cluster = evidence.cluster {
            add("\"cluster\":{\"id\":")
            hex(cluster.clusterID)
            add(",\"owner\":")
            hex(cluster.owner)
            add("},")
        }
        if let imageDigest = evidence.imageDigest {
            add("\"imageDigest\":")
            hex(imageDigest)
            add(",")
        }
        add("\"nonce\":")
        hex(evidence.nonce)
        add(",\"platform\":\"")
        bytes += evidence.platform.rawValue.utf8
        add("\",\"schema\":\"nacre.evidence.v1\",\"stages\":[")
        for (number, stage) in evidence.stages.enumerated() {
            add(number == 0 ? "{\"milliseconds\":" : ",{\"milliseconds\":")
            bytes += String(stage.milliseconds).utf8
            add(",\"name\":")
            bytes += JSON.string(stage.name).compact.utf8
            add("}")
        }
        add("],\"tpm\":")
        guard write(tpm) else { return false }
        add("}")
        return true
    }

    private mutating func write(_ tpm: Evidence.TPMEvidence) -> Bool {
        add("{\"attest\":")
        base64(tpm.attest)
        add(",\"attestationKey\":")
        base64(tpm.attestationKey)
        add(",\"certificates\":[")
        for (number, certificate) in tpm.certificates.enumerated() {
            if number > 0 { add(",") }
            base64(certificate)
        }
        add("],\"eventLog\":")
        base64(tpm.eventLog)
        add(",\"pcrs\":{")
        var isFirst = true
        for bank in Self.bankOrder {
            guard let registers = tpm.registers[bank] else { continue }
            add(isFirst ? "\"" : ",\"")
            isFirst = false
            bytes += bank.rawValue.utf8
            add("\":{")
            guard write(registers) else { return false }
            add("}")
        }
        add("},\"signature\":")
        base64(tpm.signature)
        add(",\"userspaceLog\":")
        base64(tpm.userspaceLog)
        add("}")
        return true
    }

    private mutating func write(_ registers: [Int: [UInt8]]) -> Bool {
        var count = 0
        for index in Self.registerOrder {
            guard let value = registers[index] else { continue }
            add(count == 0 ? "\"" : ",\"")
            count += 1
            if index > 9 { bytes.append(UInt8(ascii: "0") + UInt8(index / 10)) }
            bytes.append(UInt8(ascii: "0") + UInt8(index % 10))
            add("\":")
            hex(value)
        }
        // A number that is none of a register's.
        return count == registers.count
    }

    private mutating func add(_ text: StaticString) {
        text.withUTF8Buffer { unsafe bytes.append(contentsOf: $0) }
    }

    private mutating func hex(_ value: [UInt8]) {
        add("\"")
        Hex.append(value, to: &bytes)
        add("\"")
    }

    private mutating func base64(_ value: [UInt8]) {
        add("\"")
        Base64.append(value, to: &bytes)
        add("\"")
    }
}
