import CLinux
import Glibc
import Synchronization

/// A bounded queue of steps for a fixed number of threads.
@safe final class WorkQueue: Sendable {
    private struct State {
        var steps: [@Sendable () -> Void] = []
        /// Index of the next one; those before it are done.
        var next = 0
        var isStopped = false
    }

    private let state = Mutex(State())
    private let limit: Int
    // Allocated because a semaphore must not move; sem_post and sem_wait are thread-safe.
    private nonisolated(unsafe) let semaphore: UnsafeMutablePointer<sem_t>

    init(limit: Int) {
        self.limit = limit
        unsafe semaphore = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
        _ = unsafe sem_init(semaphore, 0, 0)
    }

    deinit {
        _ = unsafe sem_destroy(semaphore)
        unsafe semaphore.deallocate()
    }

    /// - Returns: `false` when the queue is full.
    func add(_ step: @escaping @Sendable () -> Void) -> Bool {
        let isAdded = state.withLock { state in
            guard !state.isStopped, state.steps.count - state.next < limit else { return false }
            state.steps.append(step)
            return true
        }
        if isAdded { _ = unsafe sem_post(semaphore) }
        return isAdded
    }

    /// Works until `stop`; each thread calls it once.
    func run() {
        while true {
            while unsafe sem_wait(semaphore) != 0 {}
            let (step, isStopped) = state.withLock { state in
                guard state.next < state.steps.count else { return ((@Sendable () -> Void)?.none, state.isStopped) }
                let step = state.steps[state.next]
                // What a step holds on to, a connection, goes with it.
                state.steps[state.next] = {}
                state.next += 1
                // Moved together now and then, not each time.
                if state.next > 256 || state.next == state.steps.count {
                    state.steps.removeFirst(state.next)
                    state.next = 0
                }
                return (step, state.isStopped)
            }
            if let step { step() }
            if isStopped {
                // For the next thread to see it too.
                _ = unsafe sem_post(semaphore)
                return
            }
        }
    }

    /// What is queued but not begun is dropped.
    func stop() {
        state.withLock { state in
            state.isStopped = true
            state.steps = []
            state.next = 0
        }
        _ = unsafe sem_post(semaphore)
    }
}
