import Attestation
import Bytes
import Crypto
import SyntheticNode
import Testing

/// Policies and evidence say nothing that is passed over: what is not of its form is refused when the document is read.
@Suite struct StrictDocumentTests {
    /// The field that reading `json` as a policy objects to.
    static func policyField(_ members: [String: JSON]) -> String? {
        var object = members
        object["schema"] = .string(AppraisalPolicy.schema)
        do {
            _ = try AppraisalPolicy(json: .object(object))
            return nil
        } catch { return error.field }
    }

    @Test func `demands on reports are read with the policy, and refused with their path`() {
        #expect(Self.policyField(["snp": ["bogus": 1]]) == "policy.snp.bogus")
        #expect(Self.policyField(["snp": ["min_tcb": ["bl": 256]]]) == "policy.snp.bl")
        #expect(Self.policyField(["snp": ["min_tcb_launch": true]]) == "policy.snp.min_tcb_launch")
        #expect(Self.policyField(["tdx": ["nonsense": []]]) == "policy.tdx.nonsense")
        #expect(Self.policyField(["tdx": ["min_tcb_eval": .integer(-1)]]) == "policy.tdx.min_tcb_eval")
        #expect(Self.policyField(["snp": ["vmpl": 0], "tdx": ["min_tcb_eval": 20]]) == nil)
        #expect(Self.policyField(["minimumRelease": .integer(-5)]) == "policy.minimumRelease")
        #expect(Self.policyField(["minimumRelease": 0]) == nil)
    }

    @Test func `a root is one certificate and nothing else`() throws {
        let key = try PrivateKey(generating: .p256)
        let certificate = try Certificate.selfSigned(
            key: key, commonName: "root", notBefore: Instant(seconds: 0), notAfter: Instant(seconds: 1 << 33))
        let pem = certificate.pem
        func field(_ text: String) -> String? { Self.policyField(["tpmRoots": [.string(text)]]) }
        #expect(field(pem) == nil)
        #expect(field(pem.replacing("\n", with: "\r\n") + "\n") == nil)
        let broken = "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"
        for text in ["", "junk", "subject=root\n" + pem, pem + "junk", pem + pem, pem + broken] {
            #expect(field(text) == "policy.tpmRoots", "\(text)")
        }
        #expect(Self.policyField(["simulatedRoots": ["00"]]) == "policy.simulatedRoots")
    }

    /// Genuine evidence with one member replaced, and the field that reading it objects to.
    static func evidenceField(tpm isTPM: Bool = false, _ key: String, _ value: JSON) throws -> String? {
        var object = try SyntheticNode().evidence().json.object ?? [:]
        if isTPM {
            var tpm = object["tpm"]?.object ?? [:]
            tpm[key] = value
            object["tpm"] = .object(tpm)
        } else {
            object[key] = value
        }
        do {
            _ = try Evidence(json: .object(object))
            return nil
        } catch { return error.field }
    }

    @Test func `evidence is read whole or not at all`() throws {
        let stage: JSON = ["name": "a", "milliseconds": 1]
        func stages(_ count: Int) -> JSON { .array([JSON](repeating: stage, count: count)) }
        func certificates(_ count: Int) -> JSON { .array([JSON](repeating: "AA==", count: count)) }
        #expect(try Self.evidenceField("stages", stages(64)) == nil)
        #expect(try Self.evidenceField("stages", stages(65)) == "evidence.stages")
        #expect(try Self.evidenceField(tpm: true, "certificates", certificates(8)) == nil)
        #expect(try Self.evidenceField(tpm: true, "certificates", certificates(9)) == "evidence.tpm.certificates")
        #expect(try Self.evidenceField(tpm: true, "pcrs", []) == "evidence.tpm.pcrs")
        #expect(try Self.evidenceField("collateral", [1, 2]) == "evidence.collateral")
        #expect(try Self.evidenceField("collateral", "x") == "evidence.collateral")
    }

    @Test func `a TPM by itself has no hardware report`() throws {
        let tee: JSON = ["report": "AA==", "auxiliary": "", "eventLog": ""]
        #expect(try Self.evidenceField("tee", tee) == "evidence.tee")
        var object = try SyntheticNode().evidence().json.object ?? [:]
        object["tee"] = tee
        object["platform"] = "sev-snp"
        #expect(try Evidence(json: .object(object)).tee?.report == [0])
    }
}
