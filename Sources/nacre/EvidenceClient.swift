import ArgumentParser
import Attestation
import Bytes
import Crypto
import HTTP

/// Asks a node for evidence over HTTPS. The channel is not authenticated: evidence proves itself or nothing.
enum EvidenceClient {
    /// Where a node answers.
    struct Endpoint: ExpressibleByArgument {
        let host: String
        let port: UInt16

        /// `HOST:PORT`, `[v6]:PORT` or `HOST` with the default port 9000; `https://` before it is allowed.
        init?(argument: String) {
            var text = argument[...]
            if text.hasPrefix("https://") { text = text.dropFirst(8) }
            if text.hasSuffix("/") { text = text.dropLast() }
            var port = "9000"[...]
            if text.hasPrefix("["), let end = text.firstIndex(of: "]") {
                let rest = text[text.index(after: end)...]
                guard rest.isEmpty || rest.hasPrefix(":") else { return nil }
                if !rest.isEmpty { port = rest.dropFirst() }
                text = text[text.index(after: text.startIndex)..<end]
            } else if let colon = text.lastIndex(of: ":") {
                port = text[text.index(after: colon)...]
                text = text[..<colon]
                guard !text.contains(":") else { return nil }
            }
            guard let number = UInt16(port), number > 0, !text.isEmpty, text.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F })
            else { return nil }
            host = String(text)
            self.port = number
        }

        var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
    }

    static let timeout = 60

    /// The node's answer for `nonce`: the document's bytes and its parsed form.
    static func fetch(
        _ endpoint: Endpoint, nonce: [UInt8], timeout: Int = timeout
    ) throws(Finding) -> (bytes: [UInt8], evidence: Evidence) {
        let request = HTTPRequest(target: "/v1/evidence?nonce=\(Hex.encode(nonce))")
        let response = try send(request, to: endpoint, limit: Evidence.maximumSize, timeout: timeout)
        guard response.status == 200 else {
            throw Finding(
                "connection-refused", claim: endpoint.description, expected: "HTTP status 200",
                actual: status(response))
        }
        do {
            return (response.body, try Evidence(parsing: response.body))
        } catch { throw error.finding }
    }

    /// The node's answer to `challenge`, which it was sent for the evidence that it just gave.
    static func activate(
        _ endpoint: Endpoint, _ challenge: ActivationChallenge, timeout: Int = timeout
    ) throws(Finding) -> Activation {
        let request = HTTPRequest(
            method: "POST", target: "/v1/activate", fields: ["content-type": "application/json"],
            body: Array(challenge.request.json.compact.utf8))
        let response = try send(request, to: endpoint, limit: ActivationRequest.maximumSize, timeout: timeout)
        // 422: the TPM was asked and refuses. Everything else says nothing of it.
        guard response.status == 200 else {
            throw Finding(
                response.status == 422 ? "key-activation" : "connection-refused",
                claim: response.status == 422 ? "tpm attestation key" : endpoint.description,
                expected: "an activation: that the key is in the TPM of the endorsement key", actual: status(response),
                source: "policy.endorsementRoots")
        }
        do {
            return Activation(challenge: challenge, proof: try ActivationRequest.proof(parsing: response.body))
        } catch { throw error.finding }
    }

    private static func status(_ response: HTTPResponse) -> String {
        "HTTP status \(response.status) \(Report.plain(String(decoding: response.body.prefix(200), as: UTF8.self)))"
    }

    private static func send(
        _ request: HTTPRequest, to endpoint: Endpoint, limit: Int, timeout: Int
    ) throws(Finding) -> HTTPResponse {
        do {
            let connection = try TLSClient.connect(
                endpoint.host, port: endpoint.port, deadline: .seconds(timeout), authentication: .unauthenticated)
            defer { connection.close() }
            let http = HTTPConnection(connection)
            try http.write(request, host: endpoint.description)
            return try http.readResponse(bodyLimit: limit)
        } catch {
            throw Finding(
                "connection-failed", claim: endpoint.description, actual: "\(error)",
                next: "is the node up and its port 9000 reachable?")
        }
    }

    /// The caller's nonce, or a fresh one of 32 bytes.
    static func nonce(_ given: HexArgument?) throws -> [UInt8] {
        guard let given else { return randomBytes(32) }
        guard (16...32).contains(given.bytes.count) else { throw ValidationError("--nonce must be 16 to 32 bytes.") }
        return given.bytes
    }
}
