import Attestation
import Bytes
import Crypto
import Kubernetes

@testable import AttestedTLS
@testable import Cluster
@testable import DiskFormat
@testable import Provisioning

extension FuzzTarget {
    /// What is read and written again: what was read must be what is written.
    private static func message(
        _ seeds: @escaping @Sendable @autoclosure () -> [[UInt8]],
        _ read: @escaping @Sendable ([UInt8]) throws -> [UInt8]
    ) -> FuzzTarget {
        parser("cluster", seeds()) { bytes in
            let written = try read(bytes)
            mustHold(try read(written) == written)
        }
    }

    private static func bytes(_ json: JSON) -> [UInt8] { Array(json.compact.utf8) }

    static let cluster: [String: FuzzTarget] = [
        // The channel.
        "channel-hello": parser("channel", Seeds.hellos) { bytes in
            mustHold(try Hello(parsing: bytes).bytes == bytes)
        },
        // The first byte says how the rest arrives.
        "channel-frames": parser("channel", Seeds.frames) { bytes in
            var reader = FrameReader()
            var rest = bytes.dropFirst()
            let step = Int(bytes.first ?? 0) + 1
            while !rest.isEmpty {
                let missing = try reader.missing(expecting: Set(FrameKind.allCases))
                let piece = Array(rest.prefix(min(missing, step)))
                rest = rest.dropFirst(piece.count)
                if let frame = try reader.add(piece, expecting: Set(FrameKind.allCases)) {
                    mustHold(frame.payload.count <= frame.kind.limit)
                }
            }
        },
        "channel-refusal": parser("channel", Seeds.words) { bytes in
            guard ChannelRefusal.reason(parsing: bytes) != nil else { throw Refused() }
        },
        "channel-owner-proof": message(Seeds.messages("ownerproof")) { bytes(try OwnerProof(parsing: $0).json) },
        "channel-member-proof": message(Seeds.messages("memberproof")) { bytes(try MemberProof(parsing: $0).json) },

        // Conversations.
        "cluster-init": message(Seeds.messages("init")) { bytes(try InitRequest(parsing: $0).json) },
        "cluster-recovery": message(Seeds.messages("recovery")) { bytes(try RecoveryGrant(parsing: $0).json) },
        "cluster-answer": message(Seeds.messages("answer")) { bytes(try BootstrapAnswer(parsing: $0).json) },
        "cluster-rekey": message(Seeds.messages("rekey")) { bytes(try RekeyRequest(parsing: $0).json) },
        "cluster-join": message(Seeds.messages("join")) { bytes(try JoinRequest(parsing: $0).json) },
        "cluster-grant": message(Seeds.messages("grant")) { bytes(try JoinGrant(json: try JSON(parsing: $0)).json) },
        "cluster-opened": message(Seeds.messages("opened")) { bytes(try DiskOpened(json: try JSON(parsing: $0)).json) },
        "cluster-enroll": message(Seeds.messages("enroll")) {
            let (request, proof) = try EnrollRequest.parse($0)
            return request.message(proof: proof)
        },
        "cluster-enrolled": message(Seeds.messages("enrolled")) {
            bytes(try EnrollAnswer(json: try JSON(parsing: $0)).json)
        },
        "cluster-mesh": message(Seeds.messages("mesh")) { bytes(try MeshRequest(parsing: $0).json) },
        "cluster-meshnews": message(Seeds.messages("meshnews")) {
            bytes(try MeshNews(json: try JSON(parsing: $0)).json)
        },
        "cluster-meshview": message(Seeds.messages("meshview")) { try MeshView(parsing: $0).bytes },

        // Files.
        "cluster-policy": message(Seeds.messages("clusterpolicy")) { bytes(try ClusterPolicy(parsing: $0).json) },
        "cluster-signed-policy": message(Seeds.messages("signedpolicy")) { try SignedPolicy(parsing: $0).bytes },
        "cluster-membership": message(Seeds.messages("membership")) { try KeptMembership(parsing: $0).bytes },
        "cluster-generations": message(Seeds.messages("generations")) { try DiskGenerations(parsing: $0).bytes },
        "cluster-registry": message(Seeds.messages("registry")) { try NodeRegistry(parsing: $0).bytes },
        "cluster-sealed": message(Seeds.messages("sealed")) { bytes(try SealedDocument(parsing: $0).json) },
        "cluster-yaml": parser("cluster", Seeds.configurations) { bytes in
            _ = try ClusterConfig(parsing: bytes)
            mustHold(try PlainYAML(parsing: bytes, file: "f").entries.count <= bytes.count)
        },

        // The state disk.
        "disk-hints": parser("disk", Seeds.hints) { bytes in
            // Behind the checksum, which is made right, as the document is.
            let peers = try PeerHints.parse(Seeds.repaired(hints: bytes))
            mustHold(try PeerHints.parse(try PeerHints.bytes(peers)) == peers)
        },
        "disk-metadata": parser("disk", Seeds.diskDocuments) { bytes in _ = try DiskMetadata(parsing: bytes) },
        "disk-binary": parser("disk", Seeds.binaryHeaders) { bytes in
            _ = try? BinaryHeader(parsing: bytes, copy: .primary)
            _ = try BinaryHeader(parsing: Seeds.repaired(header: bytes), copy: .primary)
        },
        "disk-integrity": parser("disk", Seeds.integritySuperblocks) { bytes in
            _ = try IntegritySuperblock(parsing: bytes, available: 1 << 30)
        },
    ]

    private struct Refused: Error {}
}
