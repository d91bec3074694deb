import Glibc
import TestKit

// The fuzzing program (libFuzzer), built by `make fuzz` only:
//
//     nacre-fuzz --list                  target and family, one line each
//     nacre-fuzz --seeds DIR             the samples of every target into DIR/<target>; one of each must be accepted
//     nacre-fuzz TARGET [libFuzzer's arguments]

private typealias Arguments = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
private typealias Callback = @convention(c) (UnsafePointer<UInt8>, Int) -> CInt

@_silgen_name("LLVMFuzzerRunDriver")
private func runDriver(
    _ count: UnsafeMutablePointer<CInt>, _ arguments: UnsafeMutablePointer<Arguments>, _ callback: Callback
) -> CInt

/// The parser that this process tries; set once, before libFuzzer starts.
nonisolated(unsafe) private var target: FuzzTarget?

/// What SwiftPM makes `main`; a library-style executable has none of its own.
@_cdecl("nacre_fuzz_main")
public func fuzzMain(_ count: CInt, _ arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> CInt {
    func argument(_ index: CInt) -> String {
        guard index < count, let text = unsafe arguments[Int(index)] else { return "" }
        return unsafe String(cString: text)
    }
    let targets = FuzzTarget.all.sorted { $0.key < $1.key }
    switch argument(1) {
    case "--list":
        for (name, target) in targets { print(name, target.family) }
        return 0
    case "--seeds":
        var isComplete = true
        for (name, target) in targets {
            let seeds = target.seeds()
            // A search that starts from nothing but refusals never gets past the first check.
            let accepted = seeds.count { target.run($0) }
            print("\(name): \(seeds.count) samples, \(accepted) accepted")
            if accepted == 0 || !write(seeds, to: "\(argument(2))/\(name)") { isComplete = false }
        }
        return isComplete ? 0 : 1
    default: break
    }
    guard let found = FuzzTarget.all[argument(1)] else {
        print("nacre-fuzz --list, --seeds DIR, or TARGET and libFuzzer's arguments")
        return 2
    }
    unsafe target = found
    // libFuzzer sees the program's name, then what follows the target's.
    unsafe arguments[1] = arguments[0]
    var rest = count - 1
    var list: Arguments = unsafe arguments + 1
    return unsafe runDriver(&rest, &list, fuzzOne)
}

/// One input.
@_cdecl("LLVMFuzzerTestOneInput")
public func fuzzOne(_ data: UnsafePointer<UInt8>, _ size: Int) -> CInt {
    _ = unsafe target?.run(Array(UnsafeBufferPointer(start: data, count: size)))
    return 0
}

private func write(_ seeds: [[UInt8]], to folder: String) -> Bool {
    _ = unsafe mkdir(folder, 0o755)
    for (index, seed) in seeds.enumerated() {
        guard let file = unsafe fopen("\(folder)/seed-\(index)", "wb") else { return false }
        let written = unsafe fwrite(seed, 1, seed.count, file)
        guard unsafe fclose(file) == 0, written == seed.count else { return false }
    }
    return true
}

// MARK: Allocations

@_silgen_name("__real_malloc")
private func realMalloc(_ size: Int) -> UnsafeMutableRawPointer?

/// Every allocation of the Swift code comes here (linker option `--wrap`): none may exceed what the project promises,
/// whatever the input claims.
@_cdecl("__wrap_malloc")
public func fuzzMalloc(_ size: Int) -> UnsafeMutableRawPointer? {
    if size < 0 || size > 64 << 20 { abort() }
    return unsafe realMalloc(size)
}
