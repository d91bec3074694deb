import Attestation
import Bytes
import HTTP
import Synchronization

/// The node's public requests and what answers them; knows nothing of sockets.
///
/// | request | answer |
/// |---|---|
/// | `GET /v1/evidence?nonce=HEX` (16 to 32 bytes) | `nacre.evidence.v1` |
/// | `GET /v1/healthz` | `nacre.health.v1` |
public final class EvidenceService: Sendable {
    public static let nonceSizes = 16...32

    private let evidence: @Sendable ([UInt8]) throws -> Evidence
    private let report: @Sendable (String) -> Void
    private let clock: @Sendable () -> Int
    private let allowance: Mutex<Allowance>

    /// - Parameters:
    ///   - clock: milliseconds of a clock that never goes back.
    ///   - report: told why evidence failed; callers are only told that it did.
    public init(
        clock: @escaping @Sendable () -> Int, report: @escaping @Sendable (String) -> Void,
        evidence: @escaping @Sendable ([UInt8]) throws -> Evidence
    ) {
        self.clock = clock
        self.report = report
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
        switch request.path {
        case "/v1/evidence", "/v1/healthz":
            guard request.method == "GET" else {
                var response = Self.error(405, "only GET")
                response.fields["allow"] = "GET"
                return response
            }
            guard let query = request.query else { return Self.error(400, "malformed query") }
            return request.path == "/v1/healthz" ? health(query) : evidence(query)
        default: return Self.error(404, "there is /v1/evidence?nonce=HEX and /v1/healthz")
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
        guard allowance.withLock({ $0.take(at: clock()) }) else {
            var response = Self.error(429, "too many requests")
            response.fields["retry-after"] = "1"
            return response
        }
        do {
            return .json(try evidence(nonce).json)
        } catch {
            report("\(error)")
            return Self.error(503, "no evidence now; the node's journal says why")
        }
    }

    /// `nacre.error.v1`.
    public static func error(_ status: Int, _ message: String) -> HTTPResponse {
        .json(["schema": "nacre.error.v1", "error": .string(message)], status: status)
    }
}

/// How many quotes may be asked for: the node needs its TPM too, and anybody may ask.
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
