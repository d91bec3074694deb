import Bytes
import Crypto
import Manifest
import TPM

/// Why a register does not hold what the manifest predicts: the first event that differs, and what it covers.
public struct RegisterExplanation: Sendable, Equatable {
    /// One side of a comparison. What a log says of its own event is a hint; only the digest is proved.
    public struct Event: Sendable, Equatable {
        public let type: String
        public let what: String
        public let digest: [UInt8]
    }

    /// `tpm/<bank>/<index>`.
    public let register: String
    /// Place of the first differing event among the register's events, from 1; `nil` when all listed events agree.
    public let place: Int?
    public let expected: Event?
    public let actual: Event?

    /// - Parameters:
    ///   - expected: the manifest's event parts for this register, in order.
    ///   - firmware, userspace: the node's logs, already replayed to the quoted value.
    public init(
        bank: HashAlgorithm, index: Int, expected: [Measurements.EventPart], firmware: EventLog,
        userspace: UserspaceLog?
    ) {
        register = PCRBank.claim(bank, index)
        let predicted = expected.compactMap { part in
            part.digests[bank].map { Event(type: part.type, what: part.what, digest: $0) }
        }
        let name = firmware.claim(index)
        let recorded = (firmware.explain() + (userspace?.explain() ?? [])).compactMap { event in
            event.register == name
                ? event.digests[bank].map { Event(type: event.type, what: event.what, digest: $0) } : nil
        }
        let count = max(predicted.count, recorded.count)
        let first = (0..<count).first { place in
            guard place < predicted.count, place < recorded.count else { return true }
            return predicted[place].digest != recorded[place].digest
        }
        place = first.map { $0 + 1 }
        self.expected = first.flatMap { $0 < predicted.count ? predicted[$0] : nil }
        actual = first.flatMap { $0 < recorded.count ? recorded[$0] : nil }
    }

    /// A sentence for people.
    public var text: String {
        guard let place else {
            return "all \(register) events agree with the manifest's: it was predicted for another phase or start value"
        }
        func short(_ event: Event) -> String {
            "\(event.what.isEmpty ? event.type : event.what) (\(event.type), \(Hex.encode(event.digest).prefix(16))…)"
        }
        switch (expected, actual) {
        case (let expected?, let actual?):
            return "first difference at event \(place): expected \(short(expected)), the node measured \(short(actual))"
        case (let expected?, nil):
            return "first difference at event \(place): expected \(short(expected)), the node measured nothing more"
        case (nil, let actual?):
            return "first difference at event \(place): the manifest lists no more, the node measured \(short(actual))"
        case (nil, nil): return ""
        }
    }

    public var json: JSON {
        func event(_ event: Event?) -> JSON? {
            event.map { ["type": .string($0.type), "what": .string($0.what), "digest": .hex($0.digest)] }
        }
        return .fields([
            "register": .string(register), "event": place.map { .integer(Int128($0)) }, "expected": event(expected),
            "actual": event(actual), "text": .string(text),
        ])
    }
}
