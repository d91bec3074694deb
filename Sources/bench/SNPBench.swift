import ArgumentParser
import Attestation
import Bytes
import COpenSSL
import Crypto
import Glibc
import SEVSNP

/// SNP reports under a warm chain against raw P-384 verifications.
struct SNPWarm: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "snp-warm",
        abstract: "SNP reports under a warm chain against raw P-384 verifications of the same signature.",
        discussion: """
            Two loops take turns: libcrypto's EVP_PKEY_verify of the report's signature with everything prepared, and \
            the whole judgement (parse, cached chain, validity, signature, TCB, chip, policy, decoded claims). Then \
            memory over many verifications, and the rate on several threads.
            """)

    @Option(help: "Report, 1184 bytes.")
    var report = "Tests/SEVSNPTests/Fixtures/milan-debug-report.bin"

    @Option(help: "VCEK or VLEK of the report.")
    var vek = "Tests/SEVSNPTests/Fixtures/milan-debug-vcek.der"

    @Option(help: "Time to judge at (RFC 3339).")
    var at = "2022-11-01T00:00:00Z"

    @Option(help: "Seconds for each of the two loops.")
    var seconds = 6.0

    @Option(help: "Verifications over which memory is watched.")
    var count = 100_000

    @Option(help: "Threads of the last part.")
    var threads = 2

    func run() async throws {
        guard let time = Instant(at) else { throw ValidationError("--at is not RFC 3339") }
        let evidence = SNPEvidence(report: try readFile(report), vek: try readFile(vek))
        var policy = SNPPolicy()
        policy.allowsDebug = true
        policy.minimumGuestSVN = 0
        let subject = Subject(evidence: evidence, policy: policy, time: time)
        try subject.judge()

        let raw = try RawVerifier(report: try AttestationReport(evidence.report), vek: evidence.vek)
        var (rawCount, rawSeconds, ourCount, ourSeconds) = (0, 0.0, 0, 0.0)
        // Turns of a twentieth of the time each, so that both see the same disturbances.
        for _ in 0..<20 {
            let turn = seconds / 20
            rawSeconds += try timed(turn, &rawCount) { try raw.verify() }
            ourSeconds += try timed(turn, &ourCount) { try subject.judge() }
        }
        let (rawRate, ourRate) = (Double(rawCount) / rawSeconds, Double(ourCount) / ourSeconds)
        say("raw P-384 verify   \(fixed(rawRate, 1)) / s")
        say("SNP report, warm   \(fixed(ourRate, 1)) / s")
        say("ratio              \(fixed(ourRate / rawRate, 3))   (target: at least 0.85)")

        // What is allocated once is allocated by then; from there on nothing may grow.
        let first = min(1000, count)
        for _ in 0..<first { try subject.judge() }
        let before = residentKiB()
        for _ in first..<max(first, count) { try subject.judge() }
        let after = residentKiB()
        say(
            "memory             \(before) KiB after \(first), \(after) KiB after \(count): ratio "
                + "\(fixed(Double(after) / Double(max(1, before)), 3))   (target: flat)")

        let (start, processorStart) = (monotonicSeconds(), processSeconds())
        let each = max(1, Int(ourRate * seconds))
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<threads { group.addTask { for _ in 0..<each { try subject.judge() } } }
            try await group.waitForAll()
        }
        let together = Double(each * threads) / (monotonicSeconds() - start)
        let cores = (processSeconds() - processorStart) / (monotonicSeconds() - start)
        // On a busy machine the threads do not get whole cores: the rate for what they got is what scaling means.
        say("\(threads) threads          \(fixed(together, 1)) / s on \(fixed(cores, 2)) cores' worth of time")
        say(
            "scaling            \(fixed(together / ourRate, 3)) times one thread's rate, "
                + "\(fixed(together / ourRate / cores, 3)) per core")
    }

    private func timed(_ seconds: Double, _ count: inout Int, _ body: () throws -> Void) rethrows -> Double {
        let start = threadSeconds()
        var now = start
        while now - start < seconds {
            try body()
            count += 1
            now = threadSeconds()
        }
        return now - start
    }
}

/// What is judged again and again.
private struct Subject: Sendable {
    let evidence: SNPEvidence
    let policy: SNPPolicy
    let time: Instant

    func judge() throws {
        let verdict = try SNPAppraisal.appraise(evidence, policy: policy, at: time).verdict
        guard verdict.isAccepted else { throw ValidationError("rejected: \(verdict.reason)") }
    }
}

/// libcrypto alone: the digest is made, the key decoded, the context set up before the loop.
@safe private final class RawVerifier {
    private let key: OpaquePointer
    private let context: OpaquePointer
    private let digest: [UInt8]
    private let signature: [UInt8]

    init(report: AttestationReport, vek: [UInt8]) throws {
        digest = HashAlgorithm.sha384.hash(report.signedBytes)
        guard let raw = report.signature.bigEndian else { throw ValidationError("the report is not signed") }
        signature = try DER.ecdsaSignature(raw: raw)
        let spki = try EndorsementKey(vek).key.spki
        let parsed: OpaquePointer? = unsafe spki.withUnsafeBufferPointer { buffer in
            var cursor = buffer.baseAddress
            return unsafe d2i_PUBKEY(nil, &cursor, buffer.count)
        }
        guard let key = unsafe parsed, let context = unsafe EVP_PKEY_CTX_new(key, nil),
            unsafe EVP_PKEY_verify_init(context) == 1
        else { throw ValidationError("libcrypto refuses the key") }
        unsafe self.key = key
        unsafe self.context = context
    }

    func verify() throws {
        guard unsafe EVP_PKEY_verify(context, signature, signature.count, digest, digest.count) == 1 else {
            throw ValidationError("the raw signature does not verify")
        }
    }

    deinit {
        unsafe EVP_PKEY_CTX_free(context)
        unsafe EVP_PKEY_free(key)
    }
}
