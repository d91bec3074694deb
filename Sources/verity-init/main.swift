// The only program of the initrd: PID 1 until the verified root file system takes over.
import Glibc

// Anywhere else than in an initrd, mounting over everything and rebooting on failure would do harm.
guard getpid() == 1 else {
    print("verity-init runs as the init of Nacre's initrd only")
    exit(1)
}

var boot = InitrdBoot()
boot.run()
