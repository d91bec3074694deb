import Attestation
import Bytes
import Crypto
import DiskFormat
import Kubernetes

/// What the state disk remembers of etcd.
extension ClusterNode {
    /// `none` where nothing was ever kept.
    public func etcdRecord() throws(Finding) -> EtcdRecord {
        let bytes: [UInt8]
        do throws(Finding) { bytes = try disk.load(EtcdRecord.file).published } catch {
            if error.reason == "disk-missing" { return .none }
            throw error
        }
        do throws(ParseError) { return try EtcdRecord(json: try JSON(parsing: bytes, limit: 4096)) } catch {
            throw error.finding
        }
    }

    /// Returns once it is on the disk.
    public func keep(_ record: EtcdRecord) throws(Finding) {
        var bytes = Array(record.json.compact.utf8)
        try disk.store(Secret(wiping: &bytes), as: EtcdRecord.file)
    }
}
