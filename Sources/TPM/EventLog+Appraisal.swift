import Bytes
import Crypto

extension EventLog {
    /// Refuses events whose data does not hash to their digests although their type says it must, in any bank.
    ///
    /// Replay vouches for digests only: without this check, whoever hands over the log writes the data.
    /// - Throws: `event-data`.
    public func verifyEventData() throws(TPMError) {
        for event in events where event.type.bindsData {
            for (bank, digest) in event.digests.sorted(by: { $0.key.order < $1.key.order }) {
                let actual = bank.hash(event.data)
                guard actual == digest else {
                    throw TPMError(
                        Finding(
                            "event-data", claim: "event \(event.number) (\(event.type)) in \(claim(event.register))",
                            expected: "data that hashes to \(Hex.encode(digest))",
                            actual: "\(bank.rawValue) \(Hex.encode(actual))",
                            source: "the event's digest", next: "the log's text was edited; do not believe it"))
                }
            }
        }
    }

    /// Refuses a log without exactly one EV_SEPARATOR in each of PCR 0–7 (PFP §3.3.4): it ends the firmware's phase,
    /// and a second one would let later code pass for firmware.
    ///
    /// - Throws: `event-separator`.
    public func verifySeparators() throws(TPMError) {
        guard registers == .tpm else { return }
        for register in 0...7 {
            let separators = events.filter { $0.register == register && $0.type == .separator }
            guard separators.count == 1, let only = separators.first else {
                throw separatorError(register, "\(separators.count) separators")
            }
            guard only.data == [0, 0, 0, 0] || only.data == [0xFF, 0xFF, 0xFF, 0xFF] else {
                throw separatorError(register, "data \(Hex.encode(only.data)): the firmware reports an error")
            }
        }
    }

    private func separatorError(_ register: Int, _ actual: String) -> TPMError {
        TPMError(
            Finding(
                "event-separator", claim: claim(register), expected: "one separator of 00000000 or ffffffff",
                actual: actual, source: "TCG PC Client Platform Firmware Profile §3.3.4",
                next: "a forged separator hides where the firmware ends; do not trust this boot"))
    }

    /// Whether Secure Boot was on: the firmware's SecureBoot variable, measured once before the separator of PCR 7.
    /// `nil` where the log does not say. Only worth anything after `verify(replaysTo:)` covered PCR 7 and
    /// `verifyEventData` passed.
    ///
    /// - Throws: `event-secure-boot` when the log says it twice or after the separator.
    public func secureBoot() throws(TPMError) -> Bool? {
        let register = registers == .tpm ? 7 : 1
        var state: Bool?
        var hasEnded = false
        for event in events where event.register == register {
            if event.type == .separator { hasEnded = true }
            guard event.type == .variableDriverConfig, case .variable(let variable) = EventData(event),
                variable.isSecureBoot
            else { continue }
            guard state == nil, !hasEnded || registers == .confidentialComputing else {
                throw TPMError(
                    Finding(
                        "event-secure-boot", claim: claim(register),
                        expected: "the SecureBoot variable once, before the separator",
                        actual: "event \(event.number) states it \(hasEnded ? "after the separator" : "again")",
                        source: "TCG PC Client Platform Firmware Profile §3.3.4.8"))
            }
            state = variable.value == [1]
        }
        return state
    }

    /// `pcr/7` or `rtmr/0`, for messages about a register of any bank.
    public func claim(_ register: Int) -> String {
        registers == .tpm ? "pcr/\(register)" : register == 0 ? "mrtd" : "rtmr/\(register - 1)"
    }
}
