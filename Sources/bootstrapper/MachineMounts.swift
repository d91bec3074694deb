import Bytes
import Glibc
import StateDisk

/// The state disk's places in the file system are units of the measured root that nothing else starts: this service has
/// mounts of its own, and what it mounted itself nobody else would see.
enum MachineMounts {
    static let folder = "/var/lib/nacre"
    private static let disk = "var-lib-nacre.mount"
    private static let places = [
        "var-lib-etcd.mount", "var-lib-containerd.mount", "var-lib-kubelet.mount", "var-log-journal.mount",
    ]

    static let state = StateMounts(
        folder: folder,
        mount: { () throws(Finding) in try told { (bus) throws(ServiceBus.Failure) in try bus.start([disk]) } },
        spread: { () throws(Finding) in
            try told { (bus) throws(ServiceBus.Failure) in try bus.start(places) }
            // As journalctl --flush: what was logged so far, and all that follows, goes to the disk.
            try told { (bus) throws(ServiceBus.Failure) in try bus.signal("systemd-journald.service", SIGUSR1) }
        },
        unmount: { () throws(Finding) in
            // Each of them, whatever becomes of the others: the disk's own then says what is still in use.
            for place in places.reversed() { try? stop(place) }
            try stop(disk)
        })

    private static func stop(_ unit: String) throws(Finding) {
        try told { (bus) throws(ServiceBus.Failure) in try bus.finish([unit: try bus.begin(.stop, unit)]) }
    }

    private static func told(_ body: (borrowing ServiceBus) throws(ServiceBus.Failure) -> Void) throws(Finding) {
        do throws(ServiceBus.Failure) { try body(try ServiceBus.connect()) } catch {
            throw Finding(
                "disk-mount", claim: "state disk", expected: "mounted for the whole machine", actual: "\(error)",
                source: "systemd", next: "the kernel's log says more; data that was changed is never handed out")
        }
    }
}
