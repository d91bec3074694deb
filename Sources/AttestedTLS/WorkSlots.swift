import Synchronization

/// A step that may take its time: making this server's proof, or judging the client's and serving it.
struct WorkStep: Sendable {
    enum Kind: Sendable { case proof, judgement }

    let kind: Kind
    let connection: PendingConnection
}

/// How many steps are done at once, and a bounded queue for those that have to wait. Whoever brings a step does it if there
/// is room: handing it to another thread would cost two wakes, and that thread's stack and heap are not in the
/// processor's caches.
final class WorkSlots: Sendable {
    enum Answer { case now, later, full }

    private struct State {
        var running = 0
        var steps: [WorkStep] = []
        /// Index of the next one; those before it are done.
        var next = 0
        var isStopped = false
    }

    private let state = Mutex(State())
    private let slots: Int
    private let limit: Int

    /// - Parameters:
    ///   - slots: steps at once.
    ///   - limit: steps that may wait.
    init(slots: Int, limit: Int) {
        self.slots = slots
        self.limit = limit
    }

    /// `.now`: the caller has a slot, does `step`, and asks `next` until there is none. `.later`: somebody else does it.
    func begin(_ step: WorkStep) -> Answer {
        state.withLock { state in
            if state.running < slots, !state.isStopped {
                state.running += 1
                return .now
            }
            guard !state.isStopped, state.steps.count - state.next < limit else { return .full }
            state.steps.append(step)
            return .later
        }
    }

    /// A step that has waited, for the caller's slot; `nil` when there is none, and the slot is given back.
    func next() -> WorkStep? {
        state.withLock { state in
            guard state.next < state.steps.count else {
                state.running -= 1
                state.steps.removeAll(keepingCapacity: state.steps.count <= 64)
                state.next = 0
                return nil
            }
            let step = state.steps[state.next]
            state.next += 1
            // Moved together now and then, not each time; what is done holds on to its connection no longer than that.
            if state.next > 64 || state.next == state.steps.count {
                state.steps.removeFirst(state.next)
                state.next = 0
            }
            return step
        }
    }

    /// What is queued but not begun is dropped.
    func stop() {
        state.withLock { state in
            state.isStopped = true
            state.steps = []
            state.next = 0
        }
    }
}
