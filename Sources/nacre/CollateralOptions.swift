import ArgumentParser
import Attestation
import Bytes
import Glibc
import Host
import Provisioning

/// Where collateral comes from that evidence does not bring. Without these options nothing is asked of any network.
struct CollateralOptions: ParsableArguments {
    @Flag(help: "Ask AMD's and Intel's servers for collateral that the evidence does not bring.")
    var fetch = false

    @Option(
        help: ArgumentHelp(
            "Keep what was fetched, verified, in this folder, and look there first.", valueName: "folder"),
        completion: .directory)
    var collateralCache: String?

    @Option(
        help: ArgumentHelp(
            "Ask this server instead, for URL/<maker's host>/<path>. What it answers is verified all the same.",
            valueName: "url"))
    var collateralMirror: String?

    func validate() throws {
        if let mirror = collateralMirror {
            guard fetch else { throw ValidationError("--collateral-mirror goes with --fetch.") }
            guard mirror.hasPrefix("https://") || mirror.hasPrefix("http://") else {
                throw ValidationError("--collateral-mirror must be an http or https URL.")
            }
        }
    }

    /// `evidence` with the collateral that it lacks, as far as these options name a source.
    func complete(_ evidence: Evidence, at time: Instant, _ output: OutputOptions) throws(Finding) -> Evidence {
        guard fetch || collateralCache != nil else { return evidence }
        var held = CollateralBundle()
        if let json = evidence.collateral { held = try CollateralBundle(json: json) }
        if let folder = collateralCache { try HostFiles.makeDirectories(folder) }
        var fetcher: CollateralClient.Fetch?
        if fetch {
            let (mirror, isVerbose) = (collateralMirror, output.verbose)
            fetcher = { url in
                let address = Self.address(url, mirror: mirror)
                if isVerbose { standardError("fetching \(address)") }
                return try Download.get(address)
            }
        }
        let client = CollateralClient(cache: collateralCache.map { CollateralCache(directory: $0) }, fetch: fetcher)
        do throws(Finding) {
            guard let bundle = try client.completing(evidence, held, at: time) else { return evidence }
            var complete = evidence
            complete.collateral = bundle.json
            return complete
        } catch {
            // A cache need not hold everything; whether the judge can do without is for the judge to say.
            guard !fetch, error.reason == "collateral-missing" else { throw error }
            output.note("nacre: \(error.claim) is neither in the evidence nor in the cache")
            return evidence
        }
    }

    private static func address(_ url: String, mirror: String?) -> String {
        guard let mirror, url.hasPrefix("https://") else { return url }
        return "\(mirror.hasSuffix("/") ? String(mirror.dropLast()) : mirror)/\(url.dropFirst(8))"
    }
}

/// Downloads through curl, which knows the machine's proxies and certificates.
private enum Download {
    static let seconds = 60
    static let maximumSize = 8 << 20

    static func get(_ url: String) throws(Finding) -> CollateralClient.Answer {
        let program = try Host.current.program("curl", package: "curl")
        var template = Array("/tmp/nacre-fetch-XXXXXX".utf8CString)
        guard unsafe mkdtemp(&template) != nil else {
            throw Finding("collateral-unreachable", claim: url, actual: "no temporary folder")
        }
        let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        defer { try? HostFiles.remove(folder) }
        let isPlain = url.hasPrefix("http://")
        let command = Command(
            program: program,
            arguments: [
                "--disable", "--silent", "--show-error", "--fail", "--proto", isPlain ? "=http" : "=https",
                "--max-time", "\(seconds)", "--max-filesize", "\(maximumSize)", "--dump-header", "headers", "--output",
                "body", "--", url,
            ], environment: proxies, directory: folder, log: "log")
        do {
            try command.run(limit: .seconds(seconds + 5))
        } catch {
            throw Finding(
                "collateral-unreachable", claim: url, expected: "an answer", actual: error.actual,
                next: "try again, or give the collateral as a file")
        }
        return CollateralClient.Answer(
            headers: headers(try HostFiles.read("\(folder)/headers", limit: 1 << 18)),
            body: HostFiles.exists("\(folder)/body")
                ? try HostFiles.read("\(folder)/body", limit: maximumSize) : [])
    }

    /// What curl may know of this process's environment.
    private static var proxies: [String: String] {
        var found: [String: String] = [:]
        for name in ["https_proxy", "HTTPS_PROXY", "http_proxy", "no_proxy", "NO_PROXY", "ALL_PROXY"] {
            if let value = unsafe getenv(name) { found[name] = unsafe String(cString: value) }
        }
        return found
    }

    /// Fields of the last answer; what a proxy said comes before it.
    private static func headers(_ bytes: [UInt8]) -> [String: String] {
        var fields: [String: String] = [:]
        for line in String(decoding: bytes, as: UTF8.self).split(whereSeparator: \.isNewline) {
            if line.hasPrefix("HTTP/") {
                fields = [:]
                continue
            }
            let parts = line.split(separator: ":", maxSplits: 1)
            guard parts.count == 2 else { continue }
            fields[parts[0].lowercased()] = String(parts[1].drop { $0 == " " })
        }
        return fields
    }
}
