// The node's own daemon: proves what was booted to whoever asks. Started by systemd as `Type=notify`.
import CLinux
import Glibc

// Before any thread exists, so that all of them leave these signals to `Bootstrapper.watch`.
var signals = sigset_t()
unsafe sigemptyset(&signals)
for signal in [SIGTERM, SIGINT] { unsafe sigaddset(&signals, signal) }
unsafe pthread_sigmask(SIG_BLOCK, &signals, nil)

// What this process holds is never written to a core file, nor read by another process of the same user.
guard nacre_not_dumpable() == 0 else {
    print("nacre: cannot forbid core dumps")
    exit(1)
}

// Only a service manager has something to say; arguments and environment change nothing.
guard CommandLine.arguments.count == 1 else {
    print("bootstrapper takes no arguments; systemd starts it")
    exit(2)
}

var bootstrapper = Bootstrapper()
exit(bootstrapper.run())
