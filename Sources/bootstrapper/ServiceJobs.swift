import CSystemd
import Glibc
import Linux

/// Jobs of process 1 that run beside each other.
extension ServiceBus {
    /// What became of a job.
    struct Ended {
        let job: String
        /// `done`, `failed`, `timeout`, …
        let result: String
    }

    enum Verb: String {
        case start = "StartUnit"
        case restart = "RestartUnit"
        case stop = "StopUnit"
        case reload = "ReloadUnit"
    }

    /// Begins a job and does not wait for it.
    ///
    /// - Returns: its name, which `ended` gives back.
    borrowing func begin(_ verb: Verb, _ unit: String) throws(Failure) -> String {
        let what = "\(verb.rawValue) \(unit)"
        let call = try call(verb.rawValue, what)
        try call.append(unit)
        try call.append("replace")
        return try call.send(what).text("o", what)
    }

    /// Jobs that have ended; waits until one has, or until `milliseconds` are over.
    borrowing func ended(within milliseconds: Int) throws(Failure) -> [Ended] {
        let deadline = BootClock.milliseconds + milliseconds
        var found: [Ended] = []
        while true {
            switch try next("jobs") {
            case .job(let ended): found.append(ended)
            case .other: break
            case .nothing:
                let left = deadline - BootClock.milliseconds
                if !found.isEmpty || left <= 0 { return found }
                try wait(milliseconds: left, "jobs")
            }
        }
    }
}
