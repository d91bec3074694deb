// Process 1 of a machine that exists for the state disk's tests (tools/disk-guest): runs what the kernel's command line
// names, prints `case NAME ok|FAIL reason`, and turns the machine off.
import CLinux
import Glibc
import Linux
import StateDisk

Machine.setUp()
// As a node does it while it waits for its key.
StateDisk.prepare()
let words = ((try? File.text("/proc/cmdline")) ?? "").split(separator: " ")
let cases = Cases()
switch words.first(where: { $0.hasPrefix("nacre.disktest=") })?.split(separator: "=").last {
case "table": cases.table()
case "blank": cases.blank()
case "record": cases.record()
case "check": cases.checkCuts()
case .some(let other): say("case program FAIL unknown table \(other)")
case nil: say("case program FAIL nothing asked for")
}
Machine.turnOff()
