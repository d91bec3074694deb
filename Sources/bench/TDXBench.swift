import ArgumentParser
import Attestation
import Bytes
import Glibc
import TDX

/// TDX quotes with cached collateral against dcap-qvl's `verify` of the same quote and collateral.
struct TDXBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tdx", abstract: "TDX quotes with cached collateral against PyPI's dcap-qvl.",
        discussion: "dcap-qvl is looked for in $NACRE_VENV/bin/python3, then in python3 on the path.")

    @Option(help: "A quote, version 4 or 5.")
    var quote: String

    @Option(help: "Its collateral, one JSON document.")
    var collateral: String

    @Option(help: "When to judge.")
    var at: String

    @Option(help: "Seconds for each measurement.")
    var seconds = 3.0

    func run() throws {
        guard let time = Instant(at) else { throw ValidationError("--at must be RFC 3339") }
        let (quoteBytes, document) = (try Self.read(quote), try Self.read(collateral))
        let policy = TDXPolicy()
        func judge() throws {
            let verdict = Judge.tdx(quote: quoteBytes, collateral: document, root: nil, policy: policy, time: time)
            guard verdict.claims["authentic"]?.bool == true else { throw ValidationError("\(verdict.reason)") }
        }
        try judge()
        let memory = residentKiB()
        let before = try Self.cpuMicroseconds(seconds, judge)
        let reference = reference(time)
        let after = try Self.cpuMicroseconds(seconds, judge)
        let verifier = QuoteVerifier(cache: VerificationCache(capacity: 1))
        _ = try verifier.verify(quoteBytes, collateral: document, at: time)
        let bare = try Self.cpuMicroseconds(seconds) {
            _ = try verifier.verify(quoteBytes, collateral: document, at: time)
        }
        let cold = try Self.cpuMicroseconds(max(seconds, 1)) {
            _ = try QuoteVerifier(cache: VerificationCache(capacity: 1))
                .verify(quoteBytes, collateral: document, at: time)
        }
        let own = (before + after) / 2
        print("judge, collateral cached    \(fixed(own, 1)) µs (verify alone \(fixed(bare, 1)) µs)")
        print("verify, nothing cached      \(fixed(cold, 1)) µs")
        print("memory growth               \(residentKiB() - memory) KiB")
        guard let reference else {
            print("dcap-qvl                    not found, no ratio")
            return
        }
        print("dcap-qvl verify             \(fixed(reference, 1)) µs")
        print("ratio                       \(fixed(own / reference, 3)) of dcap-qvl's time (target: at most 0.5)")
    }

    /// Microseconds that dcap-qvl takes, collateral parsed beforehand; `nil` where it is not installed.
    private func reference(_ time: Instant) -> Double? {
        let script = """
            import sys, time, dcap_qvl
            q = open(sys.argv[1], 'rb').read()
            c = dcap_qvl.QuoteCollateralV3.from_json(open(sys.argv[2]).read())
            at, limit = int(sys.argv[3]), float(sys.argv[4])
            n, start = 0, time.process_time()
            while time.process_time() - start < limit:
                dcap_qvl.verify(q, c, at)
                n += 1
            print(round((time.process_time() - start) / n * 1e9))
            """
        var python = "python3"
        if let environment = unsafe getenv("NACRE_VENV") {
            python = unsafe String(cString: environment) + "/bin/python3"
        }
        let words = [python, "-c", script, quote, collateral, "\(time.seconds)", "\(seconds)"]
        let command = words.map { "'" + $0.replacing("'", with: "'\\''") + "'" }.joined(separator: " ")
        guard let pipe = unsafe popen(command + " 2>/dev/null", "r") else { return nil }
        var line = [CChar](repeating: 0, count: 64)
        let found = unsafe fgets(&line, Int32(line.count), pipe) != nil
        _ = unsafe pclose(pipe)
        let digits = line.map { UInt8(bitPattern: $0) }.prefix { (48...57).contains($0) }
        guard found, let nanoseconds = Double(String(decoding: digits, as: UTF8.self)) else { return nil }
        return nanoseconds / 1000
    }

    /// Microseconds of processor time for each run of `body`: other work on the machine counts for neither side.
    private static func cpuMicroseconds(_ seconds: Double, _ body: () throws -> Void) rethrows -> Double {
        func now() -> Double {
            var time = timespec()
            _ = unsafe clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
            return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
        }
        let start = now()
        var (count, end) = (0, start)
        while end - start < seconds {
            try body()
            count += 1
            end = now()
        }
        return (end - start) / Double(count) * 1e6
    }

    private static func read(_ path: String) throws -> [UInt8] {
        guard let file = unsafe fopen(path, "rb") else { throw ValidationError("cannot read \(path)") }
        defer { _ = unsafe fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 1 << 20)
        let count = unsafe fread(&bytes, 1, bytes.count, file)
        return Array(bytes.prefix(count))
    }
}
