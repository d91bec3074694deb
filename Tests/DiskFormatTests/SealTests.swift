import Bytes
import Crypto
import TestKit
import Testing

@testable import DiskFormat

func secret(_ number: UInt8) -> Secret {
    Secret(count: 32) { span in for index in span.indices { span[index] = number } }
}

/// A header with real seals, as `format` leaves it.
struct Sealed {
    static let superblock = SuperblockTests.good
    static let binding = DiskBinding(
        clusterID: [UInt8](repeating: 7, count: 32), node: namedNode("worker-0"), epoch: 2, generation: 5)

    static func header(_ number: UInt8 = 1) throws -> DiskHeader {
        let key = secret(number)
        return try DiskHeader(parsing: HeaderBuilder().bytes).bound(
            [.init(keyslot: 0, binding: binding)], superblock: superblock
        ) { [0: Seal.make(key, over: $0)] }
    }

    static func isSealed(_ bytes: [UInt8], by number: UInt8 = 1, superblock: [UInt8] = superblock) -> Bool {
        let key = secret(number)
        guard let header = try? DiskHeader(parsing: bytes) else { return false }
        return (try? header.token(sealedBy: key, superblock: superblock)) != nil
    }
}

@Suite struct SealTests {
    @Test func theKeyThatSealedItFindsItsToken() throws {
        let header = try Sealed.header()
        let key = secret(1)
        let token = try header.token(sealedBy: key, superblock: Sealed.superblock)
        #expect(DiskBinding(token) == Sealed.binding)
        #expect(!Sealed.isSealed(header.bytes, by: 2))
    }

    /// The same by hand, from docs/state-disk.md.
    @Test func whatTheSealCovers() throws {
        let header = try Sealed.header()
        let token = try #require(header.metadata.bindings.first)
        var document = try #require(header.document.object)
        var fields = try #require(document["tokens"]?["0"]?.object)
        fields["seal"] = nil
        document["tokens"] = ["0": .object(fields)]
        let sha = HashAlgorithm.sha256
        let message =
            Array(header.uuid.utf8) + sha.hash(try #require(JSON.object(document).canonical))
            + sha.hash(Sealed.superblock) + [0, 0, 0, 0] + sha.hash(header.bytes[32768..<32768 + 385_024])
        let key = hkdfSHA256(
            key: [UInt8](repeating: 1, count: 32), salt: [], info: "nacre/v1/disk-seal", count: 32)
        #expect(token.seal == sha.hmac(key: key, message))
    }

    @Test func everyChangeBreaksIt() throws {
        let header = try Sealed.header()
        // First, last and some byte of the keyslot.
        for offset in [32768, 100_000, 32768 + 385_023] {
            var bytes = header.bytes
            bytes[offset] ^= 1
            #expect(!Sealed.isSealed(bytes), "byte \(offset)")
        }
        // What no keyslot uses is no part of it.
        var unused = header.bytes
        unused[DiskLayout.keyslotsEnd] ^= 1
        #expect(Sealed.isSealed(unused))
        for index in Sealed.superblock.indices {
            var superblock = Sealed.superblock
            superblock[index] ^= 1
            #expect(!Sealed.isSealed(header.bytes, superblock: superblock), "superblock byte \(index)")
        }
        for (path, value) in [
            ("tokens.0.generation", 6), ("tokens.0.epoch", 3), ("tokens.0.node", "worker-1"),
            ("tokens.0.cluster", .hex([UInt8](repeating: 8, count: 32))), ("digests.0.iterations", 1001),
            ("keyslots.0.kdf.iterations", 1001), ("keyslots.0.kdf.salt", .base64([UInt8](repeating: 4, count: 32))),
        ] as [(String, JSON)] {
            var builder = HeaderBuilder()
            builder.json = header.document
            builder.uuid = header.uuid
            let same = builder.bytes[..<DiskLayout.keyslotsOffset] + header.bytes[DiskLayout.keyslotsOffset...]
            #expect(Sealed.isSealed(Array(same)))
            let changed = builder.setting(path, value).bytes[..<DiskLayout.keyslotsOffset]
            #expect(!Sealed.isSealed(Array(changed + header.bytes[DiskLayout.keyslotsOffset...])), "\(path)")
        }
        var other = HeaderBuilder()
        other.json = header.document
        other.uuid = "1e9c1c67-6c5b-4a4c-9d0e-6e6163726531"
        #expect(!Sealed.isSealed(Array(other.bytes[..<32768] + header.bytes[32768...])))
    }

    @Test func eitherKeyOpensBetweenTwoEpochs() throws {
        var builder = HeaderBuilder().setting("keyslots.1", HeaderBuilder.keyslot(1))
        builder = builder.setting("digests.0.keyslots", ["0", "1"])
        let (old, new) = (1 as UInt8, 2 as UInt8)
        let both = try DiskHeader(parsing: builder.bytes).bound(
            [
                .init(keyslot: 0, binding: Sealed.binding),
                .init(keyslot: 1, binding: Sealed.binding.advanced(epoch: 3)),
            ], superblock: Sealed.superblock
        ) { message in [0: Seal.make(secret(old), over: message), 1: Seal.make(secret(new), over: message)] }
        #expect(Sealed.isSealed(both.bytes, by: old))
        #expect(Sealed.isSealed(both.bytes, by: new))
        #expect(!Sealed.isSealed(both.bytes, by: 3))
        // The one that is kept loses nothing; the other's keyslot and area are gone.
        let one = try both.bound(
            [.init(keyslot: 1, binding: Sealed.binding.advanced(epoch: 3, by: 1))], superblock: Sealed.superblock
        ) { [1: Seal.make(secret(new), over: $0)] }
        #expect(one.metadata.keyslots.map(\.id) == [1])
        #expect(one.bytes[32768..<32768 + 385_024].allSatisfy { $0 == 0 })
        #expect(one.bytes[417_792..<802_816] == both.bytes[417_792..<802_816])
        #expect(Sealed.isSealed(one.bytes, by: new))
        #expect(!Sealed.isSealed(one.bytes, by: old))
        #expect(one.sequence == both.sequence + 1)
    }

    @Test func theCopyThatIsNotNeededIsWrittenFirst() throws {
        let good = try Sealed.header().bytes
        #expect(try DiskHeader(parsing: good).expendable == .secondary)
        for copy in BinaryHeader.Copy.allCases {
            var torn = good
            for index in copy.offset + 4100..<copy.offset + 4400 { torn[index] = 0xFF }
            #expect(try DiskHeader(parsing: torn).expendable == copy)
        }
    }

    @Test func whoseDiskItIs() {
        func reason(_ found: DiskBinding) -> String? {
            do throws(DiskError) {
                try Sealed.binding.check(found)
                return nil
            } catch { return error.finding.reason }
        }
        let (cluster, node) = (Sealed.binding.clusterID, Sealed.binding.node)
        func binding(_ cluster: [UInt8], _ node: NodeName, _ epoch: Int, _ generation: Int) -> DiskBinding {
            DiskBinding(clusterID: cluster, node: node, epoch: epoch, generation: generation)
        }
        #expect(reason(binding(cluster, node, 2, 5)) == nil)
        // A power cut after the disk was written, before the cluster heard of it.
        #expect(reason(binding(cluster, node, 2, 6)) == nil)
        #expect(reason(binding(cluster, node, 2, 4)) == "disk-rollback")
        #expect(reason(binding(cluster, node, 3, 5)) == "disk-epoch")
        #expect(reason(binding(cluster, namedNode("worker-1"), 2, 5)) == "disk-other-node")
        #expect(reason(binding([UInt8](repeating: 1, count: 32), node, 2, 5)) == "disk-other-cluster")
    }

    /// Secrets in locked memory give what plain bytes give (RFC 5869, RFC 2104).
    @Test func derivationFromLockedMemory() {
        for number: UInt8 in [0, 1, 200] {
            let bytes = [UInt8](repeating: number, count: 32)
            let derived = hkdfSHA256(key: secret(number), salt: [5, 6], info: "nacre/v1/test")
            let plain = hkdfSHA256(key: bytes, salt: [5, 6], info: "nacre/v1/test", count: 32)
            #expect(derived.withBytes { span in span.indices.map { span[$0] } } == plain)
            #expect(
                HashAlgorithm.sha256.hmac(key: secret(number), [1, 2, 3])
                    == HashAlgorithm.sha256.hmac(key: bytes, [1, 2, 3]))
        }
    }
}
