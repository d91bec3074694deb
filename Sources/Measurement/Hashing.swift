import Bytes
import Crypto

extension PredictedEvent {
    /// The event with a digest for each of `banks`; contents are read once, whatever the number of banks.
    ///
    /// - Throws: where contents cannot be read, or ready-made digests lack one of `banks`.
    public func hashed(_ banks: [HashAlgorithm]) throws(ParseError) -> Event {
        let digests: [HashAlgorithm: [UInt8]]
        switch content {
        case .digests(let ready):
            for bank in banks where ready[bank]?.count != bank.size {
                throw ParseError("missing", field: what, offset: 0, "no \(bank.rawValue) digest was given")
            }
            digests = ready.filter { banks.contains($0.key) }
        case .bytes(let source):
            digests = try source.digests(banks)
        }
        return Event(register: register, type: type.rawValue, what: what, digests: digests)
    }
}

extension ByteSource {
    /// One pass over the bytes, one digest per algorithm.
    public func digests(_ algorithms: [HashAlgorithm]) throws(ParseError) -> [HashAlgorithm: [UInt8]] {
        var result: [HashAlgorithm: [UInt8]] = [:]
        // `Digest` is not copyable and cannot stand in an array: the two banks of every TPM go together, others alone.
        var rest = algorithms[...]
        while let first = rest.popFirst() {
            var one = Digest(first)
            if let second = rest.popFirst() {
                var other = Digest(second)
                try forEachChunk { chunk in
                    one.update(chunk)
                    other.update(chunk)
                }
                result[second] = other.finish()
            } else {
                try forEachChunk { one.update($0) }
            }
            result[first] = one.finish()
        }
        return result
    }
}

extension [PredictedEvent] {
    /// All events with their digests, in order, one after the other.
    public func hashed(_ banks: [HashAlgorithm]) throws(ParseError) -> [Event] {
        var events: [Event] = []
        for event in self { events.append(try event.hashed(banks)) }
        return events
    }

    /// The same, with as many at a time as there are cores, the largest first.
    public func hashedConcurrently(_ banks: [HashAlgorithm]) async throws(ParseError) -> [Event] {
        let order = indices.sorted { self[$0].size > self[$1].size }
        let results = await withTaskGroup(of: (Int, Result<Event, ParseError>).self) { group in
            for index in order {
                let event = self[index]
                group.addTask {
                    do throws(ParseError) {
                        return (index, .success(try event.hashed(banks)))
                    } catch {
                        return (index, .failure(error))
                    }
                }
            }
            var results: [Int: Result<Event, ParseError>] = [:]
            for await (index, result) in group { results[index] = result }
            return results
        }
        var events: [Event] = []
        for index in indices {
            guard let result = results[index] else { continue }
            events.append(try result.get())
        }
        return events
    }
}

extension PredictedEvent {
    fileprivate var size: Int { if case .bytes(let source) = content { source.count } else { 0 } }
}
