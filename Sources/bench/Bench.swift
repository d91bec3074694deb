import ArgumentParser

/// `nacre-bench`: ratios of this code against raw libraries and other programs, measured in the same run.
///
/// One file per subject. Every number is a ratio of two loops that ran on this machine, moments apart; nothing here
/// asserts anything, `make bench` prints and the reader judges.
@main
struct Bench: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "nacre-bench",
        abstract: "Measure verification against raw OpenSSL and other implementations.",
        subcommands: [SNPWarm.self, TDXBench.self, ChannelBench.self, ChannelClients.self, EnrolBench.self])
}
