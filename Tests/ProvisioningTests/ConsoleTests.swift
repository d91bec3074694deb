import Host
import TestKit
import Testing

@testable import Provisioning

@Suite("Serial console")
struct ConsoleTests {
    @Test(
        "only printable text passes",
        arguments: [
            ("plain\ttext\n", "plain\ttext\n"),
            ("\u{1B}[2J\u{1B}[01;01Hhello", "hello"),
            ("\u{1B}]0;title\u{07}hello", "hello"),
            ("\u{1B}]8;;http://x\u{1B}\\link", "link"),
            ("\u{1B}Pq#0\u{1B}\\after", "after"),
            ("\u{1B}(Bascii", "ascii"),
            ("\u{1B}cafter reset", "after reset"),
            ("\u{1B}]never closed\nnext line", "\nnext line"),
            ("over\rwrite\u{08}\u{7F}\u{00}", "overwrite"),
            ("gr\u{FC}\u{DF}e \u{2192}", "gr\u{FC}\u{DF}e \u{2192}"),
            ("\u{9B}31mred", "31mred"),
            ("right\u{202E}left", "rightleft"),
        ])
    func sanitises(_ raw: String, _ safe: String) {
        var sanitiser = Sanitised()
        #expect(sanitiser.text(Array(raw.utf8)) == safe)
        // Wherever the stream is cut, the text is the same.
        let bytes = Array(raw.utf8)
        for cut in bytes.indices {
            var halves = Sanitised()
            #expect(halves.text(bytes[..<cut]) + halves.text(bytes[cut...]) == safe)
        }
    }

    @Test("random bytes never leave a control character")
    func sanitisesAnything() {
        var generator = SeededGenerator(seed: 7)
        for _ in 0..<500 {
            var sanitiser = Sanitised()
            let bytes = (0..<200).map { _ in UInt8.random(in: 0...255, using: &generator) }
            for scalar in sanitiser.text(bytes).unicodeScalars {
                #expect(scalar == "\n" || scalar == "\t" || (scalar.value >= 0x20 && !(0x7F...0x9F ~= scalar.value)))
            }
        }
    }

    @Test(
        "lines that mean something",
        arguments: [
            ("BdsDxe: loading Boot0001 \"UEFI Misc Device\"", ConsoleEvent.firmware),
            ("BdsDxe: starting Boot0002 \"EFI Internal Shell\" from Fv(7C)", .nothingToBoot),
            ("BdsDxe: No bootable option or device was found.", .nothingToBoot),
            ("[    0.000000] Linux version 6.12.57", .kernel),
            (
                "[    2.1] Kernel panic - not syncing: no root",
                .failure("[    2.1] Kernel panic - not syncing: no root")
            ),
            ("nacre: failed: no TPM", .failure("no TPM")),
            ("nacre initrd: verity: no root; rebooting in 3 s", .failure("verity: no root; rebooting in 3 s")),
            (
                "nacre: stages firmware=2.31s kernel=3.5s initrd=4100ms",
                .stages([
                    BootStage(name: "firmware", milliseconds: 2310), BootStage(name: "kernel", milliseconds: 3500),
                    BootStage(name: "initrd", milliseconds: 4100),
                ])
            ),
        ])
    func meaning(_ line: String, _ event: ConsoleEvent) {
        var reader = ConsoleReader()
        #expect(reader.events(Array((line + "\r\n").utf8)) == [event])
    }

    @Test(
        "lines that mean nothing",
        arguments: [
            "", "login: ", "nacre: stages ", "nacre: stages x", "nacre: stages =1s", "nacre: stages A=1s",
            "nacre: stages a=-1s", "nacre: stages a=1e9s", "nacre: stages a=99999999999s", "nacre: stages a=1.s",
            "nacre: stages " + String(repeating: "a=1s ", count: 33),
        ])
    func noMeaning(_ line: String) {
        var reader = ConsoleReader()
        #expect(reader.events(Array((line + "\n").utf8)) == [])
    }

    @Test("a line without an end takes no more memory than a line")
    func bounded() {
        var reader = ConsoleReader()
        for _ in 0..<100 { #expect(reader.events([UInt8](repeating: 0x41, count: 10_000)).isEmpty) }
        #expect(reader.events(Array("\nLinux version 6\n".utf8)) == [.kernel])
    }
}
