import Attestation
import Bytes
import Crypto
import HTTP
import Manifest
import SyntheticNode
import TestKit
import Testing

/// `nacre verify` with a policy that names vendors of TPMs, against a node with an endorsement key.
@Suite struct EndorsementCommandTests {
    let release: Release
    let endorsement: SyntheticEndorsement
    let certificate: [UInt8]

    init() throws {
        release = try Release()
        endorsement = try SyntheticEndorsement()
        let root = try TestAuthority(root: "vendor")
        certificate = try root.issue("ek", endorsement.key.publicKey, extensions: TestAuthority.endorsement).der
        var policy = AppraisalPolicy(platforms: [.tpm], allowTPMRoot: .certified)
        policy.endorsementRoots = [root.certificate.der]
        _ = try release.folder.file("policy.json", policy.json.pretty)
    }

    static func evidence(_ nonce: [UInt8], _ node: SyntheticNode, _ certificate: [UInt8], _ area: [UInt8]) throws
        -> Evidence
    {
        var node = node
        node.nonce = nonce
        var evidence = try node.evidence()
        evidence.tpm?.endorsementKey = .init(
            certificate: certificate, chain: [], publicArea: area)
        return evidence
    }

    func verify(
        _ activate: @escaping @Sendable (ActivationRequest) throws -> HTTPResponse
    ) async throws -> (status: Int32, verdict: JSON) {
        let (synthetic, certificate, area) = (release.node, certificate, endorsement.area())
        let node = try serve(2, activate: activate) {
            .json(try Self.evidence($0, synthetic, certificate, area).json)
        }
        let arguments = [
            Nacre.path, "verify", node.endpoint, "--manifest", release.file("manifest.json"), "--policy",
            release.file("policy.json"), "--at", "2026-01-01T00:00:00Z", "-o", "json",
        ]
        let result = try await onThread { Result { try Tool.run(arguments) } }.get()
        await node.done.value
        return (result.status, try Nacre.json(result))
    }

    @Test func `an activated key is certified, and no mark remains`() async throws {
        let (endorsement, key) = (endorsement, release.node.attestationKey)
        let result = try await verify { request in
            .json(ActivationRequest.answer(try endorsement.activate(request, attestationKey: key)))
        }
        #expect(result.status == 0, "\(result.verdict.compact)")
        #expect(result.verdict["marks"] == nil)
        #expect(result.verdict["claims"]?["tpmRoot"] == "certified")
        #expect(result.verdict["claims"]?["endorsement"]?["model"] == "model")
    }

    @Test func `a key that is not activated is refused, whatever the node says`() async throws {
        let answers: [@Sendable (ActivationRequest) throws -> HTTPResponse] = [
            { _ in .json(ActivationRequest.answer([UInt8](repeating: 7, count: 32))) },
            { _ in .json(["schema": "nacre.error.v1", "error": "no"], status: 422) },
        ]
        for answer in answers {
            let result = try await verify(answer)
            #expect(result.status == 3)
            #expect(result.verdict["reason"] == "key-activation", "\(result.verdict.compact)")
        }
    }

    @Test func `saved evidence has no activation, and is explained`() throws {
        let nonce = [UInt8](repeating: 9, count: 32)
        let evidence = try Self.evidence(nonce, release.node, certificate, endorsement.area())
        let saved = try release.folder.file("saved.json", evidence.json.compact)
        let result = try Nacre.run(
            "verify", "--evidence", saved, "--manifest", release.file("manifest.json"), "--policy",
            release.file("policy.json"), "--at", "2026-01-01T00:00:00Z", "-o", "json")
        #expect(result.status == 3)
        #expect(try Nacre.json(result)["reason"]?.string == "key-activation")
        let explained = try Nacre.run("evidence", "explain", saved)
        #expect(explained.text.contains("tpm.endorsement.manufacturer") && explained.text.contains("IBM"))
        let shown = try Nacre.run("policy", "show", "--policy", release.file("policy.json"))
        #expect(shown.text.contains("tpm endorsement root") && shown.text.contains("CN=vendor"))
    }
}
