import Attestation
import Bytes
import Crypto
import Manifest
import TPM

/// A node that exists only in tests: it measures made-up events, and a P-256 key plays its TPM.
///
/// Everything a test wants to go wrong is a variable; by default all is as the manifest predicts.
public struct SyntheticNode: Sendable {
    /// One extended event of the firmware's log or of userspace.
    public struct Event: Sendable {
        public var register: Int
        public var type: UInt32
        /// What is hashed.
        public var data: [UInt8]
        public var what: String
        /// Text of a userspace record; `nil` for the firmware's log.
        public var phase: String?

        public init(_ register: Int, _ type: UInt32, _ data: String, _ what: String, phase: String? = nil) {
            self.register = register
            self.type = type
            self.data = Array(data.utf8)
            self.what = what
            self.phase = phase
        }
    }

    public static let banks: [HashAlgorithm] = [.sha256, .sha384]
    public static let registers = [0, 4, 7, 9, 11, 12, 13, 15]
    static let ipl: UInt32 = 0x0D
    static let separator: UInt32 = 0x04

    /// The events of a boot in which nothing was touched.
    public static let events: [Event] =
        (0...7).map { Event($0, separator, "\0\0\0\0", "separator") } + [
            Event(4, 0x8000_0003, "authenticode of the UKI", "UKI"),
            Event(4, 0x8000_0003, "authenticode of the kernel", "kernel"),
            Event(9, 0x06, "command line", "kernel command line"), Event(9, 0x06, "initrd", "initrd"),
            Event(11, ipl, ".linux\0", "name of section .linux"),
            Event(11, ipl, "kernel bytes", "contents of section .linux"),
            Event(11, ipl, ".cmdline\0", "name of section .cmdline"),
            Event(11, ipl, "roothash=00 quiet", "contents of section .cmdline"),
            Event(11, 0, "enter-initrd", "phase enter-initrd", phase: "enter-initrd"),
            Event(11, 0, "leave-initrd", "phase leave-initrd", phase: "leave-initrd"),
            Event(11, 0, "sysinit", "phase sysinit", phase: "sysinit"),
            Event(11, 0, "ready", "phase ready", phase: "ready"),
        ]

    /// What the node really measures.
    public var events = SyntheticNode.events
    public var nonce = [UInt8](repeating: 0x5A, count: 32)
    public var key: PrivateKey
    /// fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign.
    public var attributes: UInt32 = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 16 | 1 << 18
    /// Registers that the TPM is asked to quote.
    public var quoted = SyntheticNode.registers
    public var quotedBanks = SyntheticNode.banks

    public init() throws { key = try PrivateKey(generating: .p256) }

    // MARK: What the owner publishes

    /// The measurement document of the untouched boot.
    ///
    /// - Parameter change: adds fields or takes them away before the digest is made: launch digests.
    public static func measurements(
        _ events: [Event] = events, tdx: [String: [UInt8]] = [:], _ change: (inout [String: JSON]) -> Void = { _ in }
    ) throws -> JSON {
        var document: [String: JSON] = ["schema": .string(Measurements.schema)]
        var tpm: [String: JSON] = [:]
        for bank in banks {
            var values: [Int: [UInt8]] = [:]
            var phases: [String: JSON] = [:]
            for event in events {
                let before = values[event.register] ?? [UInt8](repeating: 0, count: bank.size)
                let value = bank.hash(before + bank.hash(event.data))
                values[event.register] = value
                if let phase = event.phase { phases[phase] = .hex(value) }
            }
            var object: [String: JSON] = [:]
            for index in registers {
                object[String(index)] = .hex(values[index] ?? [UInt8](repeating: 0, count: bank.size))
            }
            object["11"] = .object(phases)
            tpm[bank.rawValue] = .object(object)
        }
        document["tpm"] = .object(tpm)
        document["events"] = .array(
            events.map { event in
                .fields([
                    "register": .string("tpm/\(event.register)"), "what": .string(event.what),
                    "type": event.phase == nil ? .string(EventType(rawValue: event.type).description) : "phase",
                    "digests": .object(
                        Dictionary(uniqueKeysWithValues: banks.map { ($0.rawValue, .hex($0.hash(event.data))) })),
                ])
            })
        if !tdx.isEmpty { document["tdx"] = .object(tdx.mapValues { .hex($0) }) }
        document["unpredicted"] = ["tpm/1": "--firmware"]
        change(&document)
        document["imageDigest"] = .hex(try Measurements.digest(of: .object(document)))
        return .object(document)
    }

    public static func manifest(
        profile: Manifest.Profile = .production, releaseCounter: Int = 3, events: [Event] = events,
        notAfter: Instant = Instant(seconds: 1_900_000_000), tdx: [String: [UInt8]] = [:],
        _ change: (inout [String: JSON]) -> Void = { _ in }
    ) throws -> Manifest {
        let file = Manifest.File(name: "image.raw", size: 1, sha256: HashAlgorithm.sha256.hash([1]))
        return Manifest(
            product: "nacre", version: "0.1.0", releaseCounter: releaseCounter, profile: profile,
            files: .init(raw: file, uki: file, root: nil, rootHash: HashAlgorithm.sha256.hash([2])),
            inputs: .init(lock: HashAlgorithm.sha256.hash([3]), revision: "abc", toolchain: ["swift": "6.3.1"]),
            measurements: try Measurements(measurements(events, tdx: tdx, change)), phase: "ready", kubernetes: nil,
            sbom: nil,
            notAfter: notAfter, minimumRelease: 1)
    }

    // MARK: What the node hands out

    /// TPM2B_PUBLIC of the key.
    public var attestationKey: [UInt8] {
        let point = key.publicKey.point ?? []
        var area = ByteWriter()
        area.be(UInt16(0x23))
        area.be(UInt16(0x0B))
        area.be(attributes)
        area.be(UInt16(0))
        area.be(UInt16(0x10))
        area.be(UInt16(0x18))
        area.be(UInt16(0x0B))
        area.be(UInt16(3))
        area.be(UInt16(0x10))
        for half in [point.prefix(32), point.suffix(32)] {
            area.be(UInt16(32))
            area.append(half)
        }
        var outer = ByteWriter()
        outer.be(UInt16(area.bytes.count))
        outer.append(area.bytes)
        return outer.bytes
    }

    /// Crypto-agile firmware log of the events without a phase.
    public var eventLog: [UInt8] {
        var header = ByteWriter()
        header.append(Array("Spec ID Event03\0".utf8))
        header.zeros(4)
        header.append([0, 2, 0, 2] as [UInt8])
        header.le(UInt32(Self.banks.count))
        for bank in Self.banks {
            header.le(bank.tpmIdentifier)
            header.le(UInt16(bank.size))
        }
        header.u8(0)
        var log = ByteWriter()
        log.le(UInt32(0))
        log.le(UInt32(3))
        log.zeros(20)
        log.le(UInt32(header.bytes.count))
        log.append(header.bytes)
        for event in events where event.phase == nil {
            log.le(UInt32(event.register))
            log.le(event.type)
            log.le(UInt32(Self.banks.count))
            for bank in Self.banks {
                log.le(bank.tpmIdentifier)
                log.append(bank.hash(event.data))
            }
            let shown = event.type == Self.separator ? event.data : Array(event.what.utf8)
            log.le(UInt32(shown.count))
            log.append(shown)
        }
        return log.bytes
    }

    /// systemd's log of the events with a phase.
    public var userspaceLog: [UInt8] {
        events.flatMap { event -> [UInt8] in
            guard let phase = event.phase else { return [] }
            let record: JSON = [
                "pcr": .integer(Int128(event.register)),
                "digests": .array(
                    Self.banks.map { ["hashAlg": .string($0.rawValue), "digest": .hex($0.hash(event.data))] }),
                "content_type": "systemd",
                "content": ["string": .string(phase), "eventType": "phase"],
            ]
            return [0x1E] + Array(record.compact.utf8) + [0x0A]
        }
    }

    /// Register values after all events.
    public var values: [HashAlgorithm: [Int: [UInt8]]] {
        var values: [HashAlgorithm: [Int: [UInt8]]] = [:]
        for bank in quotedBanks {
            for index in quoted { values[bank, default: [:]][index] = [UInt8](repeating: 0, count: bank.size) }
            for event in events where quoted.contains(event.register) {
                let before = values[bank]?[event.register] ?? []
                values[bank]?[event.register] = bank.hash(before + bank.hash(event.data))
            }
        }
        return values
    }

    /// What the node shows whatever it is asked: ready in memory, as with firmware that keeps its log there.
    public struct Measured: Sendable {
        let values: [HashAlgorithm: [Int: [UInt8]]]
        let attestationKey: [UInt8]
        let eventLog: [UInt8]
        let userspaceLog: [UInt8]
    }

    public var measured: Measured {
        Measured(
            values: values, attestationKey: attestationKey, eventLog: eventLog, userspaceLog: userspaceLog)
    }

    /// The node's answer to `nonce`.
    public func evidence() throws -> Evidence { try evidence(measured) }

    /// The same for what was measured, as long as that is what the node would show.
    public func evidence(_ measured: Measured) throws -> Evidence {
        let values = measured.values
        var concatenation: [UInt8] = []
        for bank in quotedBanks { for index in quoted.sorted() { concatenation += values[bank]?[index] ?? [] } }
        let attest = Attest(
            qualifiedSigner: [0, 0x0B] + HashAlgorithm.sha256.hash([]), extraData: nonce, clock: 1234, resetCount: 5,
            restartCount: 0, isClockSafe: true, firmwareVersion: 1,
            selections: quotedBanks.map { PCRSelection(hash: $0, indices: quoted.sorted()) },
            pcrDigest: HashAlgorithm.sha256.hash(concatenation))
        let statement = attest.encoded
        let der = try key.sign(statement, scheme: .ecdsa(.sha256))
        let parts = try DER.single(der, "signature").children("signature")
        let numbers = parts.map { DER.unsignedInteger($0.content) ?? [] }
        let signature = TPMSignature.ecdsa(.sha256, r: numbers[0], s: numbers[1])
        return Evidence(
            platform: .tpm, nonce: nonce,
            tpm: .init(
                attest: statement, signature: signature.encoded, attestationKey: measured.attestationKey,
                registers: values, eventLog: measured.eventLog, userspaceLog: measured.userspaceLog),
            stages: [.init(name: "attestable", milliseconds: 4200)])
    }
}
