import Attestation
import Bytes
import HTTP
import Synchronization

/// The node's public requests and what answers them; knows nothing of sockets.
///
/// | request | answer |
/// |---|---|
/// | `GET /v1/evidence?nonce=HEX` (16 to 32 bytes) | `nacre.evidence.v1` |
/// | `POST /v1/activate` with `nacre.activate.v1` | `nacre.activation.v1` |
/// | `GET /v1/healthz` | `nacre.health.v1` |
public final class EvidenceService: Sendable {
    public static let nonceSizes = 16...32

    private let evidence: @Sendable ([UInt8]) throws -> Evidence
    private let activate: @Sendable (ActivationRequest) throws -> [UInt8]
    private let report: @Sendable (String) -> Void
    private let clock: @Sendable () -> Int
    private let allowance: Mutex<Allowance>

    /// - Parameters:
    ///   - clock: milliseconds of a clock that never goes back.
    ///   - report: told why evidence failed; callers are only told that it did.
    ///   - activate: answers with the proof; throws for a credential that is not for this machine.
    public init(
        clock: @escaping @Sendable () -> Int, report: @escaping @Sendable (String) -> Void,
        activate: @escaping @Sendable (ActivationRequest) throws -> [UInt8],
        evidence: @escaping @Sendable ([UInt8]) throws -> Evidence
    ) {
        self.clock = clock
        self.report = report
        self.activate = activate
        self.evidence = evidence
        allowance = Mutex(Allowance(at: clock()))
    }

    public func answer(_ request: HTTPRequest) -> HTTPResponse {
        var response = route(request)
        response.fields["connection"] = "close"
        response.fields["cache-control"] = "no-store"
        return response
    }

    private func route(_ request: HTTPRequest) -> HTTPResponse {
        let methods: [Substring: String] = ["/v1/evidence": "GET", "/v1/healthz": "GET", "/v1/activate": "POST"]
        guard let method = methods[request.path] else {
            return Self.error(404, "there is /v1/evidence?nonce=HEX, /v1/activate and /v1/healthz")
        }
        guard request.method == method else {
            var response = Self.error(405, "only \(method)")
            response.fields["allow"] = method
            return response
        }
        guard let query = request.query else { return Self.error(400, "malformed query") }
        guard method == "POST" || request.body.isEmpty else { return Self.error(413, "takes no body") }
        switch request.path {
        case "/v1/evidence": return evidence(query)
        case "/v1/activate": return activation(query, request.body)
        default: return health(query)
        }
    }

    private func health(_ query: [String: String]) -> HTTPResponse {
        guard query.isEmpty else { return Self.error(400, "takes no parameters") }
        return .json(["schema": "nacre.health.v1", "status": "ok"])
    }

    private func evidence(_ query: [String: String]) -> HTTPResponse {
        guard query.count == 1, let text = query["nonce"] else {
            return Self.error(400, "takes one parameter, nonce")
        }
        guard let nonce = Hex.decode(text), Self.nonceSizes.contains(nonce.count) else {
            return Self.error(
                400, "nonce must be \(Self.nonceSizes.lowerBound) to \(Self.nonceSizes.upperBound) bytes in hexadecimal"
            )
        }
        if let refusal = refusal() { return refusal }
        do {
            return .json(try evidence(nonce).json)
        } catch {
            report("\(error)")
            return Self.error(503, "no evidence now; the node's journal says why")
        }
    }

    /// Too many requests of those that take the TPM's time.
    private func refusal() -> HTTPResponse? {
        if allowance.withLock({ $0.take(at: clock()) }) { return nil }
        var response = Self.error(429, "too many requests")
        response.fields["retry-after"] = "1"
        return response
    }

    /// Why the TPM refuses is nobody's business: the answer is the same for every wrong credential.
    private func activation(_ query: [String: String], _ body: [UInt8]) -> HTTPResponse {
        guard query.isEmpty else { return Self.error(400, "takes no parameters") }
        let request: ActivationRequest
        do { request = try ActivationRequest(parsing: body) } catch { return Self.error(400, "\(error)") }
        if let refusal = refusal() { return refusal }
        do {
            return .json(ActivationRequest.answer(try activate(request)))
        } catch {
            report("activation: \(error)")
            return Self.error(422, "this machine does not activate this credential")
        }
    }

    /// `nacre.error.v1`.
    public static func error(_ status: Int, _ message: String) -> HTTPResponse {
        .json(["schema": "nacre.error.v1", "error": .string(message)], status: status)
    }
}

/// How many quotes and activations may be asked for: the node needs its TPM too, and anybody may ask.
struct Allowance: Sendable {
    static let burst = 8
    static let millisecondsPerRequest = 200

    private var tokens = burst
    private var refilled: Int

    init(at time: Int) { refilled = time }

    mutating func take(at time: Int) -> Bool {
        let earned = max(0, time - refilled) / Self.millisecondsPerRequest
        if earned > 0 {
            tokens = min(Self.burst, tokens + min(earned, Self.burst))
            refilled += earned * Self.millisecondsPerRequest
        }
        guard tokens > 0 else { return false }
        tokens -= 1
        return true
    }
}
