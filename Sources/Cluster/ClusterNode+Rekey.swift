import AttestedTLS
import Bytes
import DiskFormat

/// What an owner asks of a member's disk, `nacre.rekey.v1`: the key of the next epoch in place of this one's.
struct RekeyRequest: Equatable {
    static let schema = "nacre.rekey.v1"

    /// The epoch that the disk is to have afterwards.
    let epoch: Int

    var json: JSON { ["schema": .string(Self.schema), "epoch": .integer(Int128(epoch))] }

    init(epoch: Int) { self.epoch = epoch }

    init(parsing bytes: [UInt8]) throws(ParseError) {
        var fields = try JSONFields(try JSON(parsing: bytes, limit: 4096), path: "rekey")
        try fields.schema(Self.schema)
        epoch = try fields.counter("epoch", from: 2)
        try fields.end()
    }
}

/// The disk's key changes while the disk is in use.
extension ClusterNode {
    /// A control plane derives both keys itself. A worker has neither: it says which disk it has open, and is sent the
    /// present key and then the next one, as one message.
    func rekey(_ connection: AttestedConnection) throws(ChannelError) {
        let message = try receive(connection)
        let request: RekeyRequest
        do { request = try RekeyRequest(parsing: message) } catch { return try refuse(connection, error.finding) }
        guard case .open(let binding) = held.withLock({ $0.disk }) else {
            return try refuse(
                connection,
                Finding("disk-missing", claim: "state disk", expected: "an open disk", actual: status.disk))
        }
        // Asked again after an answer that was lost.
        if binding.epoch == request.epoch { return try answer(connection, .done(status)) }
        guard binding.epoch == request.epoch - 1 else {
            return try refuse(
                connection,
                Finding(
                    "disk-epoch", claim: "state disk", expected: "epoch \(request.epoch - 1)",
                    actual: "epoch \(binding.epoch)", source: "the open disk's header",
                    next: "ask for epoch \(binding.epoch + 1)"))
        }
        if let old = derived(binding, binding.epoch), let new = derived(binding, request.epoch) {
            return try rekey(connection, old, new)
        }
        try answer(connection, .wantDiskKey(binding))
        let both = try connection.receiveSecret(count: 64, deadline: .seconds(Self.patience))
        try rekey(connection, Secret(both, from: 0, count: 32), Secret(both, from: 32, count: 32))
    }

    /// On a control plane; `nil` elsewhere.
    private func derived(_ binding: DiskBinding, _ epoch: Int) -> Secret? {
        held.withLock { held -> Secret? in held.secret?.diskKey(node: binding.node, epoch: epoch) }
    }

    private func rekey(
        _ connection: AttestedConnection, _ old: borrowing Secret, _ new: borrowing Secret
    ) throws(ChannelError) {
        do throws(Finding) {
            let state = try disk.rekey(from: old, to: new)
            held.withLock { $0.disk = state }
            if case .open(let binding) = state { desk.remember(new, binding.node, epoch: binding.epoch) }
            say("state disk: \(state.description)")
        } catch { return try refuse(connection, error) }
        try answer(connection, .done(status))
    }
}
