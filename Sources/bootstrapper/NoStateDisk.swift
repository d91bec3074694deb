import Bytes
import Cluster

/// This release opens no state disk: a node is a member until it restarts, and says so.
struct NoStateDisk: NodeDisk {
    private static let state = NodeDiskState.none("no state disk in this release")

    private var absent: Finding {
        Finding("disk-unsupported", claim: "state disk", expected: "a state disk", actual: "none in this release")
    }

    func discover() throws(Finding) -> NodeDiskState { Self.state }

    func prepare(
        _ choice: DiskChoice, allowForeign: Bool, clusterID: [UInt8], node: NodeName, epoch: Int,
        key: borrowing Secret
    ) throws(Finding) -> NodeDiskState { Self.state }

    func open(_ claim: DiskClaim, key: borrowing Secret) throws(Finding) -> NodeDiskState { throw absent }
    func close() {}
    func store(_ bytes: borrowing Secret, as name: String) throws(Finding) { throw absent }
    func load(_ name: String) throws(Finding) -> Secret { throw absent }
}
