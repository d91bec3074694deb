// Settings of the Swift runtime for a program that runs before /proc is mounted. The runtime reads them from the
// environment in its own constructors, so this one has to run before those: priorities up to 100 are reserved.
#include <stdlib.h>

__attribute__((constructor(101))) static void nacre_before_swift(void) {
    // The runtime looks for its backtracing program beside its own path, which it learns through /proc in a static
    // executable, and aborts where it cannot: as PID 1, a kernel panic. A given path is not looked for.
    setenv("SWIFT_BACKTRACE", "enable=no,swift-backtrace=/none", 1);
    // Seeding hash tables would wait for the kernel's random numbers, which need seconds on some machines. Nothing here
    // hashes keys that an attacker chooses in number.
    setenv("SWIFT_DETERMINISTIC_HASHING", "1", 1);
}
