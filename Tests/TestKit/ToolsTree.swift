import Glibc

/// Programs of the Debian 13 tools tree that the image is built with, run on any host through the tree's own loader.
public enum ToolsTree {
    private static let build = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/") + "/build"

    /// `$NACRE_TOOLS_TREE`, else `build/tools` of the checkout; `nil` where there is none.
    public static let root: String? = {
        var candidates = ["\(build)/tools"]
        if let set = unsafe getenv("NACRE_TOOLS_TREE") { candidates.insert(unsafe String(cString: set), at: 0) }
        return candidates.first { unsafe access("\($0)/usr/lib", R_OK) == 0 }
    }()

    /// A file of the tree, else of Debian's firmware that `tools/swift-test` unpacked, else of the host; `nil` with a
    /// line that says what was skipped.
    public static func file(_ path: String) -> String? {
        for candidate in [root.map { $0 + path }, "\(build)/ovmf\(path)", path].compactMap(\.self) {
            if unsafe access(candidate, R_OK) == 0 { return candidate }
        }
        print("skipped: no \(path) in $NACRE_TOOLS_TREE, build/tools, build/ovmf or on this machine")
        return nil
    }

    /// The words that start `program` with the tree's libraries; `nil` with a line that says what was skipped.
    public static func command(_ program: String) -> [String]? {
        let libraries = "/usr/lib/x86_64-linux-gnu"
        guard let root, let path = file(program), path.hasPrefix(root),
            let loader = file("\(libraries)/ld-linux-x86-64.so.2")
        else { return nil }
        return [loader, "--library-path", "\(root)\(libraries):\(root)\(libraries)/systemd", path]
    }

    /// A program of a Python environment: `$NACRE_VENV/bin`, else `PATH`.
    public static func python(_ name: String) -> String? {
        if let set = unsafe getenv("NACRE_VENV") {
            let path = unsafe String(cString: set) + "/bin/" + name
            if unsafe access(path, X_OK) == 0 { return path }
        }
        return Tool.find(name)
    }
}
