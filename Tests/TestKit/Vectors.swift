import Bytes
import Glibc

/// Finds `shared/vectors` beside the checkout; tests that need it say how many cases they skipped where it is absent.
public enum Vectors {
    /// The folder with `index.json`, or `nil`.
    public static let root: String? = {
        let beside = #filePath.split(separator: "/").dropLast(4).joined(separator: "/")
        var candidates = ["/\(beside)/shared/vectors", "../shared/vectors"]
        if let set = unsafe getenv("NACRE_VECTORS") { candidates.insert(unsafe String(cString: set), at: 0) }
        return candidates.first { unsafe access("\($0)/index.json", R_OK) == 0 }
    }()

    /// One case of `index.json`; see the folder's README for the fields of each kind.
    public struct Case: Sendable, CustomStringConvertible {
        public let id: String
        public let kind: String
        public let json: JSON
        public var inputs: [String: JSON] { json["inputs"]?.object ?? [:] }
        public var policy: JSON { json["policy"] ?? .object([:]) }
        public var expect: JSON { json["expect"] ?? .object([:]) }
        public var time: Instant { Instant(json["time"]?.string ?? "") ?? Instant(seconds: 0) }
        public var verdict: String { expect["verdict"]?.string ?? "" }
        public var reason: String { expect["reason"]?.string ?? "" }
        /// Families of reasons that count as right: that of `reason` and of each of `also`.
        public var families: Set<String> {
            let reasons = [reason] + (expect["also"]?.array ?? []).compactMap(\.string)
            return Set(reasons.map { String($0.prefix { $0 != "-" }) })
        }
        public var description: String { id }

        /// The bytes of the input called `name`.
        public func read(_ name: String) throws -> [UInt8] { try Vectors.read(inputs[name]?.string ?? "") }
    }

    /// Every case of the given kinds; empty, with a line on standard error, where the folder is absent.
    public static func cases(_ kinds: String...) -> [Case] {
        guard root != nil, let bytes = try? read("index.json"), let index = try? JSON(parsing: bytes) else {
            print("skipped: shared/vectors is not here, cases of \(kinds.joined(separator: ", ")) were not judged")
            return []
        }
        return (index["cases"]?.array ?? []).compactMap { json in
            guard let id = json["id"]?.string, let kind = json["kind"]?.string, kinds.contains(kind) else { return nil }
            return Case(id: id, kind: kind, json: json)
        }
    }

    /// A file below the folder.
    public static func read(_ path: String) throws -> [UInt8] { try readFile("\(root ?? "")/\(path)") }
}

public struct FileMissing: Error { public let path: String }

/// All bytes of a file of the test's own choosing.
public func readFile(_ path: String) throws -> [UInt8] {
    guard let file = unsafe fopen(path, "rb") else { throw FileMissing(path: path) }
    defer { _ = unsafe fclose(file) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 1 << 16)
    while true {
        let count = unsafe fread(&chunk, 1, chunk.count, file)
        if count == 0 { break }
        bytes.append(contentsOf: chunk[..<count])
    }
    return bytes
}

public func writeFile(_ path: String, _ bytes: [UInt8]) throws {
    guard let file = unsafe fopen(path, "wb") else { throw FileMissing(path: path) }
    defer { _ = unsafe fclose(file) }
    guard unsafe fwrite(bytes, 1, bytes.count, file) == bytes.count else { throw FileMissing(path: path) }
}
