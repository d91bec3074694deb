import Glibc

/// The `openssl` program, as an implementation to agree with and a maker of RSA keys.
public enum OpenSSLTool {
    /// Whether the program can be run; tests that need it say so and skip.
    public static let isAvailable = (try? run("version"))?.status == 0

    /// Runs `openssl <arguments>` through the shell; output is standard output and error together. Arguments are the
    /// tests' own words and paths, never outside data.
    public static func run(_ arguments: String) throws -> (status: Int32, output: [UInt8]) {
        guard let pipe = unsafe popen("openssl \(arguments) 2>&1", "r") else { throw FileMissing(path: "openssl") }
        var output: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 14)
        while true {
            let count = unsafe fread(&chunk, 1, chunk.count, pipe)
            if count == 0 { break }
            output.append(contentsOf: chunk[..<count])
        }
        return (unsafe pclose(pipe), output)
    }
}

/// A folder of the test's own, removed when `body` ends.
public func withTemporaryFolder<R>(_ body: (String) throws -> R) throws -> R {
    var template = Array("/tmp/nacre-test-XXXXXX".utf8CString)
    guard unsafe mkdtemp(&template) != nil else { throw FileMissing(path: "/tmp") }
    let folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    defer { _ = unsafe system("rm -rf '\(folder)'") }
    return try body(folder)
}
