import Bytes
import TestKit
import Testing

/// What the parser says of itself: help, completions and man pages are made of it.
@Suite struct HelpTests {
    /// Every command below `command`, with the words that reach it.
    private static func commands(_ command: JSON, after words: [String] = []) throws -> [(words: [String], JSON)] {
        let path = words + [try #require(command["commandName"]?.string)]
        var found = [(path, command)]
        for child in command["subcommands"]?.array ?? [] where child["commandName"]?.string != "help" {
            found += try commands(child, after: path)
        }
        return found
    }

    private static func root() throws -> JSON {
        try #require(try Nacre.json(Nacre.run("--experimental-dump-help"))["command"])
    }

    @Test func `every command, option and argument has words that say what it is for`() throws {
        let commands = try Self.commands(Self.root())
        #expect(commands.count > 20)
        for (words, command) in commands {
            let path = words.joined(separator: " ")
            #expect(command["abstract"]?.string?.isEmpty == false, "\(path)")
            for argument in command["arguments"]?.array ?? [] {
                let text = argument["abstract"]?.string ?? ""
                #expect(
                    text.count > 5 && text.hasSuffix("."), "\(path) \(argument["valueName"]?.string ?? ""): \(text)")
            }
        }
    }

    @Test func `every command that does something takes -o, --quiet and --verbose`() throws {
        for (words, command) in try Self.commands(Self.root()) where command["subcommands"]?.array == nil {
            // Hands a console on as it is: it has no result of its own.
            if words.last == "logs" { continue }
            let names = (command["arguments"]?.array ?? []).flatMap { argument in
                argument["names"]?.array?.compactMap { $0["name"]?.string } ?? []
            }
            for name in ["o", "output", "quiet", "verbose", "help"] {
                #expect(names.contains(name), "\(words.joined(separator: " ")) --\(name)")
            }
        }
    }

    @Test func `completions are scripts that name the commands`() throws {
        let folder = try TemporaryFolder()
        for shell in ["bash", "zsh", "fish"] {
            let script = try Nacre.run("--generate-completion-script", shell)
            #expect(script.status == 0)
            for word in ["image", "measure", "evidence", "allow-development"] {
                #expect(script.text.contains(word), "\(shell): \(word)")
            }
            guard let program = Tool.find(shell) else { continue }
            let check = try Tool.run([program, "-n", folder.file(shell, script.output)])
            #expect(check.status == 0, "\(check.errors)")
        }
    }

    @Test func `man pages are made for every command, without a warning of groff`() throws {
        guard let python = Tool.find("python3") else { return }
        let folder = try TemporaryFolder()
        let root = "/" + #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let made = try Tool.run([python, root + "/tools/man", Nacre.path, folder.path])
        #expect(made.status == 0, "\(made.errors)")
        for (words, _) in try Self.commands(Self.root()) {
            let page = "\(folder.path)/\(words.joined(separator: "-")).1"
            #expect(try !readFile(page).isEmpty)
            guard let groff = Tool.find("groff") else { continue }
            let check = try Tool.run([groff, "-man", "-Tutf8", "-ww", "-z", page])
            #expect(check.status == 0 && check.errors.isEmpty, "\(page): \(check.errors)")
        }
    }
}
