import CLinux
import Glibc
import Synchronization

/// A bounded queue of steps for a fixed number of threads. Of those that wait, the last one to have worked is woken first:
/// its stack and its part of the heap are still in the processor's caches, and threads that are not needed stay asleep.
final class WorkQueue: Sendable {
    /// What one thread sleeps on.
    @safe private final class Bell: Sendable {
        // Allocated because a semaphore must not move; sem_post and sem_wait are thread-safe.
        private nonisolated(unsafe) let semaphore: UnsafeMutablePointer<sem_t>

        init() {
            unsafe semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
            _ = unsafe sem_init(semaphore, 0, 0)
        }

        deinit {
            _ = unsafe sem_destroy(semaphore)
            unsafe semaphore.deallocate()
        }

        func ring() { _ = unsafe sem_post(semaphore) }

        func wait() { while unsafe sem_wait(semaphore) != 0 {} }
    }

    private struct State {
        var steps: [@Sendable () -> Void] = []
        /// Index of the next one; those before it are done.
        var next = 0
        /// Threads that found nothing to do, and were not woken since.
        var idle: [Bell] = []
        var isStopped = false
    }

    private enum Turn {
        case work(@Sendable () -> Void)
        case sleep, end
    }

    private let state = Mutex(State())
    private let limit: Int

    init(limit: Int) { self.limit = limit }

    /// - Returns: `false` when the queue is full.
    func add(_ step: @escaping @Sendable () -> Void) -> Bool {
        let (isAdded, bell) = state.withLock { state -> (Bool, Bell?) in
            guard !state.isStopped, state.steps.count - state.next < limit else { return (false, nil) }
            state.steps.append(step)
            return (true, state.idle.popLast())
        }
        bell?.ring()
        return isAdded
    }

    /// Works until `stop`; each thread calls it once.
    func run() {
        let bell = Bell()
        while true {
            switch state.withLock({ Self.turn(&$0, bell) }) {
            case .work(let step): step()
            // A ring before the wait is not lost.
            case .sleep: bell.wait()
            case .end: return
            }
        }
    }

    private static func turn(_ state: inout State, _ bell: Bell) -> Turn {
        if state.isStopped { return .end }
        guard state.next < state.steps.count else {
            state.idle.append(bell)
            return .sleep
        }
        let step = state.steps[state.next]
        // What a step holds on to, a connection, goes with it.
        state.steps[state.next] = {}
        state.next += 1
        // Moved together now and then, not each time.
        if state.next > 256 || state.next == state.steps.count {
            state.steps.removeFirst(state.next)
            state.next = 0
        }
        return .work(step)
    }

    /// What is queued but not begun is dropped.
    func stop() {
        let idle = state.withLock { state in
            state.isStopped = true
            state.steps = []
            state.next = 0
            let idle = state.idle
            state.idle = []
            return idle
        }
        for bell in idle { bell.ring() }
    }
}
