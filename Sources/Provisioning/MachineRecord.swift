import Bytes
import Host

/// `vm/<node>/processes.json`: what runs for a machine since its last start. Absent for a stopped one.
struct MachineRecord: Equatable, Sendable {
    static let schema = "nacre.processes.v1"

    let qemu: ProcessIdentity
    let swtpm: ProcessIdentity
    let acceleration: Acceleration
    let started: Instant
    /// Where this start's output begins in `console.log`.
    let consoleOffset: Int

    var json: JSON {
        [
            "schema": .string(Self.schema), "qemu": qemu.json, "swtpm": swtpm.json,
            "acceleration": ["kind": .string(acceleration.kind.rawValue), "reason": .string(acceleration.reason)],
            "started": .string(started.description), "consoleOffset": .integer(Int128(consoleOffset)),
        ]
    }

    init(
        qemu: ProcessIdentity, swtpm: ProcessIdentity, acceleration: Acceleration, started: Instant, consoleOffset: Int
    ) {
        self.qemu = qemu
        self.swtpm = swtpm
        self.acceleration = acceleration
        self.started = started
        self.consoleOffset = consoleOffset
    }

    init(parsing bytes: [UInt8]) throws(ParseError) {
        var fields = try JSONFields(try JSON(parsing: bytes, limit: 1 << 16), path: "processes")
        guard try fields.string("schema") == Self.schema else {
            throw ParseError("version", field: "processes.schema", offset: 0, "must be \(Self.schema)")
        }
        qemu = try ProcessIdentity(json: try fields.required("qemu"), path: "processes.qemu")
        swtpm = try ProcessIdentity(json: try fields.required("swtpm"), path: "processes.swtpm")
        var part = try JSONFields(try fields.required("acceleration"), path: "processes.acceleration")
        guard let kind = Acceleration.Kind(rawValue: try part.string("kind")) else {
            throw ParseError("form", field: "processes.acceleration.kind", offset: 0, "unknown")
        }
        acceleration = Acceleration(kind: kind, reason: try part.string("reason"))
        try part.end()
        guard let started = Instant(try fields.string("started")) else {
            throw ParseError("form", field: "processes.started", offset: 0, "must be a time")
        }
        self.started = started
        consoleOffset = max(0, try fields.integer("consoleOffset"))
        try fields.end()
    }
}
