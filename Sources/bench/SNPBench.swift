import ArgumentParser

/// SNP reports under a warm chain against raw P-384 verifications.
struct SNPWarm: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "snp-warm", abstract: "SNP reports under a warm chain against raw P-384 verifications.")
}
