import Bytes
import Crypto
import DiskFormat
import HTTP
import Kubernetes

/// Why a question to the API server has no answer.
public struct APIError: Error, Sendable, Equatable, CustomStringConvertible {
    /// HTTP's status where there was an answer.
    public let status: Int?
    public let message: String

    public init(_ message: String, status: Int? = nil) {
        self.message = PlainText.line(message, limit: 400)
        self.status = status
    }

    public var description: String { message }
}

/// Asks the cluster's API server (Kubernetes API, v1): TLS 1.3 with a certificate of this
/// node, the server known by the cluster's authority and by its address.
public struct APIClient: Sendable {
    /// Longest answer, bytes.
    public static let maximumAnswer = 32 << 20

    private let host: String
    private let port: UInt16
    private let authority: Certificate
    private let identity: TLSIdentity

    public init(host: String, port: UInt16, authority: Certificate, identity: TLSIdentity) {
        self.host = host
        self.port = port
        self.authority = authority
        self.identity = identity
    }

    /// The API server that a node's components ask, by the certificate of one of them.
    public init(_ configuration: NodeConfiguration, as name: NodeCertificate) throws(APIError) {
        guard let certificate = configuration.certificates[name], let key = configuration.keys[name],
            let authority = configuration.authorities[.kubernetes]
        else { throw APIError("no certificate \(name.rawValue)") }
        self.init(
            host: "\(configuration.apiServerIndex.address)", port: NetworkPlan.apiPort, authority: authority,
            identity: TLSIdentity(certificate: certificate, key: key))
    }

    /// The object at `path`.
    public func get(_ path: String, deadline: Deadline) throws(APIError) -> JSON {
        guard let found = try get([path], deadline: deadline).first else { throw APIError("no answer") }
        return found
    }

    /// The objects at `paths`, over one connection: its handshake is most of what a question costs either end.
    public func get(_ paths: [String], deadline: Deadline) throws(APIError) -> [JSON] {
        try ask(paths.map { HTTPRequest(target: $0) }, deadline: deadline)
    }

    /// What the server answers to an object that is sent to it.
    public func post(_ path: String, _ object: JSON, deadline: Deadline) throws(APIError) -> JSON {
        let request = HTTPRequest(
            method: "POST", target: path, fields: ["content-type": "application/json"],
            body: Array(object.compact.utf8))
        guard let found = try ask([request], deadline: deadline).first else { throw APIError("no answer") }
        return found
    }

    private func ask(_ requests: [HTTPRequest], deadline: Deadline) throws(APIError) -> [JSON] {
        var responses: [HTTPResponse] = []
        do {
            let connection = try TLSClient.connect(
                host, port: port, deadline: deadline, authentication: .authority(authority), identity: identity)
            defer { connection.close() }
            let http = HTTPConnection(connection)
            for (number, request) in requests.enumerated() {
                var request = request
                request.fields["accept"] = "application/json"
                if number == requests.count - 1 { request.fields["connection"] = "close" }
                try http.write(request, host: "\(host):\(port)")
                responses.append(try http.readResponse(bodyLimit: Self.maximumAnswer))
            }
        } catch { throw APIError("\(host):\(port): \(error)") }
        var objects: [JSON] = []
        for response in responses { objects.append(try Self.object(response)) }
        return objects
    }

    private static func object(_ response: HTTPResponse) throws(APIError) -> JSON {
        let json: JSON
        do throws(ParseError) { json = try JSON(parsing: response.body, limit: maximumAnswer) } catch {
            throw APIError("an answer that is no JSON: \(error)", status: response.status)
        }
        // 201 for what was made.
        guard [200, 201].contains(response.status) else {
            throw APIError(
                "HTTP status \(response.status): \(json["message"]?.string ?? "no message")", status: response.status)
        }
        return json
    }

    /// Whether the API server says that this node is Ready; `false` for a node that it does not know yet.
    public func isReady(_ node: NodeName, deadline: Deadline) throws(APIError) -> Bool {
        do throws(APIError) {
            return Self.isReady(try get("/api/v1/nodes/\(node)", deadline: deadline))
        } catch {
            if error.status == 404 { return false }
            throw error
        }
    }

    /// By the condition of that name (core/v1 NodeStatus).
    static func isReady(_ node: JSON) -> Bool {
        let conditions = node["status"]?["conditions"]?.array ?? []
        return conditions.contains { $0["type"]?.string == "Ready" && $0["status"]?.string == "True" }
    }
}
