/// Which of a node's services is to be started or restarted next. Pure: it is told what became of each.
///
/// A unit is due once all that it waits for are active. One that fails is tried again after a pause, without end: systemd's
/// journal says why, and the node's status says which.
public struct UnitPlan: Sendable, Equatable {
    public enum Verb: Sendable, Equatable {
        case start, restart
    }

    public struct Step: Sendable, Equatable {
        public let unit: NodeUnit
        public let verb: Verb
    }

    private enum State: Sendable, Equatable {
        /// Not before this time, milliseconds.
        case due(Verb, from: Int)
        case changing(Verb)
        case active
    }

    /// In the order of `NodeUnit.order`.
    public let units: [NodeUnit]
    private var states: [NodeUnit: State]
    /// Not begun before somebody else is done: what waits for them waits too.
    public var held: Set<NodeUnit> = []
    /// Milliseconds between two tries of one unit.
    public static let pause = 2000

    public init(role: NodeRole) {
        units = NodeUnit.order(for: role)
        states = Dictionary(uniqueKeysWithValues: units.map { ($0, .due(.start, from: 0)) })
    }

    public func isActive(_ unit: NodeUnit) -> Bool { states[unit] == .active }
    public var isComplete: Bool { units.allSatisfy(isActive) }
    /// Units that something is being done to.
    public var changing: [NodeUnit] {
        units.filter { unit in
            if case .changing = states[unit] { true } else { false }
        }
    }

    /// What is to be done now; each of it is taken as begun.
    public mutating func begin(at milliseconds: Int) -> [Step] {
        var steps: [Step] = []
        for unit in units {
            guard !held.contains(unit), case .due(let verb, let from) = states[unit], from <= milliseconds,
                unit.waits.allSatisfy({ !units.contains($0) || isActive($0) })
            else { continue }
            steps.append(Step(unit: unit, verb: verb))
            states[unit] = .changing(verb)
        }
        return steps
    }

    /// The job of a unit has ended, or could not be begun.
    public mutating func ended(_ unit: NodeUnit, isDone: Bool, at milliseconds: Int) {
        guard case .changing(let verb) = states[unit] else { return }
        states[unit] = isDone ? .active : .due(verb, from: milliseconds + Self.pause)
    }

    /// The node has new certificates: whatever reads them once is restarted, in order.
    public mutating func renew() { restart(units.filter { $0.renewal == .restart }) }

    /// Those of them that run are restarted, in order.
    public mutating func restart(_ some: [NodeUnit]) {
        for unit in units where some.contains(unit) && isActive(unit) { states[unit] = .due(.restart, from: 0) }
    }
}
