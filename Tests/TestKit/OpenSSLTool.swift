/// The `openssl` program, as an implementation to agree with and a maker of RSA keys.
public enum OpenSSLTool {
    /// Whether the program can be run; tests that need it say so and skip.
    public static let isAvailable = (try? run("version"))?.status == 0

    /// Runs `openssl <arguments>` through the shell; output is standard output and error together. Arguments are the
    /// tests' own words and paths, never outside data.
    public static func run(_ arguments: String) throws -> (status: Int32, output: [UInt8]) {
        let answer = try Tool.run(["/bin/sh", "-c", "exec openssl \(arguments) 2>&1"])
        return (answer.status, answer.output)
    }
}
