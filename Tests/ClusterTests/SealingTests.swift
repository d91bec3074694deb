import Bytes
import Crypto
import DiskFormat
import TestKit
import Testing

@testable import Cluster

func secret(_ text: String) -> Secret {
    var bytes = Array(text.utf8)
    return Secret(wiping: &bytes)
}

func secret(hex: String) -> Secret {
    var bytes = Hex.decode(hex) ?? []
    return Secret(wiping: &bytes)
}

@Suite("Sealed files")
struct SealingTests {
    /// Cheap enough to try often.
    static let logN = 4

    @Test("scrypt computes the vectors of RFC 7914")
    func scrypt() throws {
        let first = try ScryptParameters(logN: 4, blockSize: 1, parallelism: 1)
            .derive(secret(""), salt: [], count: 64)
        #expect(
            Hex.encode(first.published)
                == "77d6576238657b203b19ca42c18a0497f16b4844e3074ae8dfdffa3fede21442fcd0069ded0948f8326a753a0fc81f17"
                + "e8d3e0fb2e0d3628cf35e20c38d18906")
        let second = try ScryptParameters(logN: 14, blockSize: 8, parallelism: 1)
            .derive(secret("pleaseletmein"), salt: Array("SodiumChloride".utf8), count: 64)
        #expect(
            Hex.encode(second.published)
                == "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2d5432955613f0fcf62d49705242a9af9"
                + "e61e85dc0d651e40dfcf017b45575887")
    }

    @Test("AES-256-GCM computes NIST's vectors and refuses every flipped bit")
    func gcm() throws {
        let key = Secret(count: 32) { _ in }
        let nonce = [UInt8](repeating: 0, count: 12)
        let plaintext = Secret(count: 16) { _ in }
        let sealed = try AES256GCM.seal(plaintext, key: key, nonce: nonce, additional: [])
        #expect(Hex.encode(sealed) == "cea7403d4d606b6e074ec5d3baf39d18d0d1c8a799996bf0265b98b5d48ab919")
        #expect(try AES256GCM.open(sealed, key: key, nonce: nonce, additional: []).published == plaintext.published)
        for bit in 0..<sealed.count * 8 {
            var changed = sealed
            changed[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(throws: CryptoError.self) {
                _ = try AES256GCM.open(changed, key: key, nonce: nonce, additional: []).count
            }
        }
        #expect(throws: CryptoError.self) {
            _ = try AES256GCM.open(sealed, key: key, nonce: nonce, additional: [0]).count
        }
    }

    @Test("HKDF computes RFC 5869's first test, secret or not")
    func hkdf() {
        let key = [UInt8](repeating: 0x0B, count: 22)
        let info = String(decoding: (0x30..<0x3A).map { UInt8($0) }, as: UTF8.self)
        var bytes = key
        let derived = hkdfSHA256(key: Secret(wiping: &bytes), salt: Array(0...12), info: info, count: 42)
        #expect(derived.published == hkdfSHA256(key: key, salt: Array(0...12), info: info, count: 42))
        #expect(bytes.isEmpty)
    }

    @Test("cluster id and disk keys follow from secret and salt as written down")
    func derivation() throws {
        let packed = secret(hex: String(repeating: "01", count: 32) + String(repeating: "02", count: 32))
        let cluster = try ClusterSecret(packed: packed)
        let (key, salt) = ([UInt8](repeating: 1, count: 32), [UInt8](repeating: 2, count: 32))
        #expect(cluster.clusterID == hkdfSHA256(key: key, salt: salt, info: "nacre/v1/cluster-id", count: 32))
        let node = try #require(NodeName("worker-3"))
        #expect(
            cluster.diskKey(node: node, epoch: 2).published
                == hkdfSHA256(key: key, salt: salt, info: "nacre/v1/disk/worker-3/2", count: 32))
        let isNextEpochSame = cluster.diskKey(node: node, epoch: 2).equals(cluster.diskKey(node: node, epoch: 3))
        #expect(!isNextEpochSame)
        #expect(cluster.packed.published == packed.published)
        #expect(
            Hex.encode(cluster.clusterID) == "505f67f6036b8792f8abba512b53d308fba86717498daff66ba778154883cdba")
        for wrong in ["", "Upper", "-a", "a-", "a/b", "a.b", String(repeating: "a", count: 64)] {
            #expect(NodeName(wrong) == nil)
        }
    }

    @Test("a sealed secret comes back with its passphrase and no other")
    func roundTrip() throws {
        let cluster = ClusterSecret()
        let document = try SealedDocument(
            sealing: cluster.packed, .clusterSecret, identifier: cluster.clusterID, passphrase: secret("correct horse"),
            logN: Self.logN)
        let read = try SealedDocument(parsing: Array(document.json.pretty.utf8))
        #expect(read == document)
        #expect(try read.open(passphrase: secret("correct horse")).published == cluster.packed.published)
        for wrong in ["", "correct hors", "correct horse ", "Correct horse"] {
            let error = #expect(throws: Finding.self) { _ = try read.open(passphrase: secret(wrong)).count }
            #expect(error?.reason == "sealed-passphrase")
        }
        #expect(throws: Finding.self) {
            try SealedDocument(
                sealing: cluster.packed, .clusterSecret, identifier: cluster.clusterID, passphrase: secret(""))
        }
    }

    @Test("nothing of a sealed document can be changed unnoticed, bit by bit")
    func bitFlips() throws {
        let cluster = ClusterSecret()
        let bytes = Array(
            try SealedDocument(
                sealing: cluster.packed, .clusterSecret, identifier: cluster.clusterID, passphrase: secret("p"),
                logN: Self.logN
            ).json.compact.utf8)
        let pass = secret("p")
        for bit in 0..<bytes.count * 8 {
            var changed = bytes
            changed[bit / 8] ^= 1 << UInt8(bit % 8)
            guard let document = try? SealedDocument(parsing: changed) else { continue }
            // What is read the same is the same: another case of a hexadecimal digit.
            if document.json.compact.utf8.elementsEqual(bytes) { continue }
            #expect(throws: Finding.self, "bit \(bit)") { _ = try document.open(passphrase: pass).count }
        }
        for count in 0..<bytes.count {
            #expect(throws: ParseError.self) { try SealedDocument(parsing: Array(bytes[..<count])) }
        }
    }

    @Test("parameters that would take the machine's memory are refused unread")
    func bounds() throws {
        let cluster = ClusterSecret()
        let text = try SealedDocument(
            sealing: cluster.packed, .clusterSecret, identifier: cluster.clusterID, passphrase: secret("p"),
            logN: Self.logN
        ).json.compact
        for (from, to) in [("\"logN\":4", "\"logN\":30"), ("\"r\":8", "\"r\":4096"), ("\"p\":1", "\"p\":99")] {
            let changed = text.replacing(from, with: to)
            #expect(changed != text)
            #expect(throws: ParseError.self) { try SealedDocument(parsing: Array(changed.utf8)) }
        }
    }

    @Test("an owner key survives sealing; another kind of secret is not one")
    func ownerKey() throws {
        let owner = try OwnerKey()
        let document = try owner.sealed(passphrase: secret("p"), logN: Self.logN)
        #expect(!document.json.compact.contains("PRIVATE KEY"))
        let opened = try OwnerKey(opening: document, passphrase: secret("p"))
        #expect(opened.digest == owner.digest)
        let binding = randomBytes(64)
        let proof = Array(try opened.prove(binding).json.compact.utf8)
        #expect(try OwnerProof.judge(proof, binding: binding) == owner.digest)
        let other = try SealedDocument(
            sealing: secret("x"), .clusterSecret, identifier: owner.digest, passphrase: secret("p"), logN: Self.logN)
        #expect(throws: Finding.self) { try OwnerKey(opening: other, passphrase: secret("p")) }
    }
}
