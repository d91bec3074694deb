import CSystemd
import Glibc
import Linux

/// Process 1's own socket (org.freedesktop.systemd1(5)), which needs no message bus: only root reaches it.
@safe struct ServiceBus: ~Copyable {
    struct Failure: Error, CustomStringConvertible {
        let description: String
    }

    private static let manager = "org.freedesktop.systemd1.Manager"
    /// For each call, and for each unit that is started or stopped.
    private static let patience: UInt64 = 60_000_000

    private let bus: OpaquePointer

    private init(_ opened: OpaquePointer) { unsafe bus = opened }

    static func connect() throws(Failure) -> ServiceBus {
        var opened: OpaquePointer?
        try check("a bus", unsafe sd_bus_new(&opened))
        guard let opened = unsafe opened else { throw Failure(description: "a bus: none") }
        let made = unsafe ServiceBus(opened)
        try check("address", unsafe sd_bus_set_address(opened, "unix:path=/run/systemd/private"))
        try check("connect to process 1", unsafe sd_bus_start(opened))
        return made
    }

    deinit { _ = unsafe sd_bus_flush_close_unref(bus) }

    /// Starts units beside each other, and waits until all of them are.
    borrowing func start(_ units: [String]) throws(Failure) {
        var jobs: [String: String] = [:]
        for unit in units { jobs[unit] = try begin(.start, unit) }
        try finish(jobs)
    }

    /// Waits until every one of the jobs, by unit, is done.
    borrowing func finish(_ jobs: [String: String]) throws(Failure) {
        var left = jobs
        // Other units' signals do not prolong it.
        let deadline = BootClock.milliseconds + Int(Self.patience / 1000)
        while !left.isEmpty, BootClock.milliseconds < deadline {
            for ended in try ended(within: max(0, deadline - BootClock.milliseconds)) {
                guard let unit = left.first(where: { $0.value == ended.job })?.key else { continue }
                guard ended.result == "done" else { throw Failure(description: "\(unit): \(ended.result)") }
                left[unit] = nil
            }
        }
        if let unit = left.keys.sorted().first { throw Failure(description: "\(unit): not done in time") }
    }

    enum Event {
        case nothing, other
        case job(Ended)
    }

    /// The next thing that process 1 has said, without waiting.
    borrowing func next(_ what: String) throws(Failure) -> Event {
        var message: OpaquePointer?
        let code = unsafe sd_bus_process(bus, &message)
        try Self.check(what, code)
        guard let message = unsafe message else { return code == 0 ? .nothing : .other }
        let found = unsafe Message(message)
        guard unsafe sd_bus_message_is_signal(message, Self.manager, "JobRemoved") > 0 else { return .other }
        var number: UInt32 = 0
        try Self.check(what, unsafe sd_bus_message_read_basic(message, CChar(UInt8(ascii: "u")), &number))
        let job = try found.text("o", what)
        _ = try found.text("s", what)
        return .job(Ended(job: job, result: try found.text("s", what)))
    }

    borrowing func wait(milliseconds: Int, _ what: String) throws(Failure) {
        let waited = unsafe sd_bus_wait(bus, UInt64(max(0, milliseconds)) * 1000)
        if waited != -EINTR { try Self.check(what, waited) }
    }

    borrowing func call(_ member: String, _ what: String) throws(Failure) -> Call {
        try unsafe Call(bus, member, what)
    }

    /// Sends a signal to a unit's main process.
    borrowing func signal(_ unit: String, _ number: Int32) throws(Failure) {
        let what = "signal \(number) to \(unit)"
        let call = try call("KillUnit", what)
        try call.append(unit)
        try call.append("main")
        try call.append(number)
        _ = try call.send(what)
    }

    private static func check(_ what: String, _ code: Int32) throws(Failure) {
        guard code < 0 else { return }
        throw Failure(description: "\(SystemError(what, code: -code))")
    }

    /// A message that came; freed with this value.
    @safe struct Message: ~Copyable {
        let pointer: OpaquePointer
        init(_ pointer: OpaquePointer) { unsafe self.pointer = pointer }
        deinit { _ = unsafe sd_bus_message_unref(pointer) }

        /// The next field, a string of this type.
        borrowing func text(_ type: Character, _ what: String) throws(Failure) -> String {
            var text: UnsafePointer<CChar>?
            let code = CChar(type.asciiValue ?? 0)
            try ServiceBus.check(what, unsafe sd_bus_message_read_basic(pointer, code, &text))
            guard let text = unsafe text else { throw Failure(description: "\(what): an empty answer") }
            return unsafe String(cString: text)
        }
    }

    /// A message that goes.
    @safe struct Call: ~Copyable {
        private let bus: OpaquePointer
        private let message: Message

        init(_ bus: OpaquePointer, _ member: String, _ what: String) throws(Failure) {
            var made: OpaquePointer?
            try ServiceBus.check(
                what,
                unsafe sd_bus_message_new_method_call(
                    bus, &made, "org.freedesktop.systemd1", "/org/freedesktop/systemd1", ServiceBus.manager, member))
            guard let made = unsafe made else { throw Failure(description: "\(what): no message") }
            unsafe self.bus = bus
            message = unsafe Message(made)
        }

        borrowing func append(_ text: String) throws(Failure) {
            try ServiceBus.check(
                text,
                unsafe text.withCString {
                    unsafe sd_bus_message_append_basic(message.pointer, CChar(UInt8(ascii: "s")), $0)
                })
        }

        borrowing func append(_ number: Int32) throws(Failure) {
            var value = number
            try ServiceBus.check(
                "\(number)", unsafe sd_bus_message_append_basic(message.pointer, CChar(UInt8(ascii: "i")), &value))
        }

        borrowing func send(_ what: String) throws(Failure) -> Message {
            var reply: OpaquePointer?
            var error = unsafe sd_bus_error()
            defer { unsafe sd_bus_error_free(&error) }
            let code = unsafe sd_bus_call(bus, message.pointer, ServiceBus.patience, &error, &reply)
            if code < 0, let text = unsafe error.message {
                throw Failure(description: "\(what): \(unsafe String(cString: text))")
            }
            try ServiceBus.check(what, code)
            guard let reply = unsafe reply else { throw Failure(description: "\(what): no answer") }
            return unsafe Message(reply)
        }
    }
}
