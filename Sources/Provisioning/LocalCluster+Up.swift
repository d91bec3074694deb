import Bytes
import Crypto
import Glibc
import Host

extension LocalCluster {
    /// Brings the directory's cluster up: makes what is missing, starts what does not run, and asks every node for
    /// evidence until all are judged or have failed.
    ///
    /// - Parameters:
    ///   - judge: asks one endpoint once, within the time given.
    ///   - report: progress; called on this thread.
    /// - Throws: what kept the machines from starting. A node that starts and then fails is part of the result.
    public func up(
        _ request: UpRequest, judge: (ClusterDocument.Node, Duration) -> NodeAnswer, report: (Progress) -> Void
    ) throws(Finding) -> UpResult {
        let lock = try lock("nacre up") { report(.note("waiting for another command here: \($0)")) }
        defer { lock.keep() }
        let log = try prepare(request, lock)
        func tell(_ progress: Progress) {
            log.activity.append(progress)
            report(progress)
        }
        var document = log.document
        var watched = try bringUp(&document, request, log.tools, tell)
        watch(&watched, judge: judge, tell: tell)
        for machine in watched where machine.watch.isRebooting {
            tell(.note("\(machine.node.name): switched off, or it would go on for ever"))
            _ = try machine.machine.stop(powerCut: true, patience: .zero)
        }
        return UpResult(document: document, nodes: try watched.map { machine throws(Finding) in try conclude(machine) })
    }

    /// Makes and starts the machines, and waits for none of them.
    public func create(
        _ request: UpRequest, report: (Progress) -> Void
    ) throws(Finding) -> ClusterDocument {
        let lock = try lock("nacre create") { report(.note("waiting for another command here: \($0)")) }
        defer { lock.keep() }
        let log = try prepare(request, lock)
        func tell(_ progress: Progress) {
            log.activity.append(progress)
            report(progress)
        }
        var document = log.document
        _ = try bringUp(&document, request, log.tools, tell)
        return document
    }

    private struct Prepared {
        let document: ClusterDocument
        let tools: LocalTools
        let activity: ActivityLog
    }

    /// The directory's document, made where there is none, and the tools of this host.
    private func prepare(_ request: UpRequest, _ lock: borrowing DirectoryLock) throws(Finding) -> Prepared {
        let document: ClusterDocument
        let tools: LocalTools
        do throws(Finding) {
            tools = try LocalTools(host: host)
            if let present = try self.document() { document = present } else { document = try create(request) }
            try checkAgreement(of: request, with: document)
        } catch {
            // Nothing was made yet: leave the directory as it was found.
            if (try? self.document()) == nil {
                lock.removeFile()
                if request.madeDirectory { try abandonDirectory() }
            }
            throw error
        }
        return Prepared(document: document, tools: tools, activity: try ActivityLog(cluster: directory))
    }

    private func bringUp(
        _ document: inout ClusterDocument, _ request: UpRequest, _ tools: LocalTools, _ tell: (Progress) -> Void
    ) throws(Finding) -> [WatchedMachine] {
        let acceleration = request.acceleration ?? .probe()
        tell(.note("QEMU \(tools.qemuVersion) with \(acceleration.kind.rawValue): \(acceleration.reason)"))
        let tee = HostTEE.probe()
        if tee != .none {
            tell(.note("this host offers \(tee.rawValue); local machines of this release start without it"))
        }
        try HostFiles.makeDirectory("\(directory)/vm", mode: 0o700)
        var watched: [WatchedMachine] = []
        for index in document.nodes.indices {
            watched.append(
                try bringUp(
                    index, of: &document, acceleration: acceleration, tools: tools, limits: request.limits, tell: tell))
        }
        return watched
    }

    /// Writes a new cluster's document; from then on its machines can be found again.
    private func create(_ request: UpRequest) throws(Finding) -> ClusterDocument {
        let firmware = try Firmware(directory: request.firmware, image: request.image)
        let counts = [(ClusterDocument.Role.controlPlane, request.controlPlanes ?? 1), (.worker, request.workers ?? 0)]
        let total = counts.reduce(0) { $0 + $1.1 }
        guard counts.allSatisfy({ (0...Self.maximumNodes).contains($0.1) }), counts[0].1 >= 1,
            total <= Self.maximumNodes
        else {
            throw Finding(
                "parse-range", claim: "number of machines",
                expected: "1 to \(Self.maximumNodes) in all, one control plane at least", actual: "\(total)")
        }
        var nodes: [ClusterDocument.Node] = []
        for (role, count) in counts {
            for number in 0..<count {
                let port = try LoopbackPort.free(except: Self.ports(nodes))
                let channel = try LoopbackPort.free(except: Self.ports(nodes).union([port]))
                let api =
                    role == .controlPlane
                    ? try LoopbackPort.free(except: Self.ports(nodes).union([port, channel])) : nil
                nodes.append(
                    ClusterDocument.Node(
                        name: "\(role.rawValue)-\(number)", role: role, port: port, channelPort: channel, apiPort: api))
            }
        }
        let document = ClusterDocument(
            instance: randomBytes(16), identity: nil, created: .now, madeDirectory: request.madeDirectory,
            image: try request.image.map { path throws(Finding) in try Self.resolve(path) },
            manifest: try request.manifest.map { path throws(Finding) in try Self.resolve(path) },
            bundle: try request.bundle.map { path throws(Finding) in try Self.resolve(path) },
            trustRoot: try request.trustRoot.map { path throws(Finding) in try Self.resolve(path) },
            manifestDigest: try request.manifest.map { path throws(Finding) in try Self.digest(path) },
            firmwareCode: firmware.code, firmwareVariables: try Self.resolve(firmware.variables),
            memoryMiB: request.memoryMiB ?? UpRequest.defaultMemoryMiB,
            processors: request.processors ?? UpRequest.defaultProcessors,
            diskMiB: request.diskMiB ?? UpRequest.defaultDiskMiB, disk: request.disk,
            rules: request.rules, attestation: request.attestation, nodes: nodes)
        try save(document)
        return document
    }

    static func ports(_ nodes: [ClusterDocument.Node]) -> Set<UInt16> {
        Set(nodes.map(\.port) + nodes.compactMap(\.channelPort) + nodes.compactMap(\.apiPort))
    }

    /// An option that differs from what the directory holds is refused, not ignored.
    private func checkAgreement(of request: UpRequest, with document: ClusterDocument) throws(Finding) {
        func count(_ role: ClusterDocument.Role) -> Int { document.nodes.filter { $0.role == role }.count }
        var pairs: [(String, String?, String?)] = [
            ("--control-planes", request.controlPlanes.map(String.init), String(count(.controlPlane))),
            ("--workers", request.workers.map(String.init), String(count(.worker))),
            ("--image", try request.image.map { path throws(Finding) in try Self.resolve(path) }, document.image),
            (
                "--manifest", try request.manifest.map { path throws(Finding) in try Self.resolve(path) },
                document.manifest
            ),
            ("--bundle", try request.bundle.map { path throws(Finding) in try Self.resolve(path) }, document.bundle),
            (
                "--trust-root", try request.trustRoot.map { path throws(Finding) in try Self.resolve(path) },
                document.trustRoot
            ),
            ("--memory", request.memoryMiB.map { "\($0)M" }, "\(document.memoryMiB)M"),
            ("--cpus", request.processors.map(String.init), String(document.processors)),
            ("--disk-size", request.diskMiB.map { "\($0)M" }, "\(document.diskMiB)M"),
        ]
        if let folder = request.firmware {
            pairs.append(("--firmware", try Firmware(directory: folder, image: nil).code, document.firmwareCode))
        }
        if let manifest = document.manifest, let digest = document.manifestDigest, try Self.digest(manifest) != digest {
            throw Finding(
                "local-differs", claim: manifest, expected: "SHA-256 \(Hex.encode(digest))",
                actual: "another file since this cluster was made", source: documentPath,
                next: "run nacre down, then nacre up takes the new image")
        }
        if let attestation = request.attestation, attestation != document.attestation {
            throw Finding(
                "local-differs", claim: "--policy", expected: document.judging.name, actual: "another policy",
                source: documentPath, next: "leave the option out, or run nacre down first")
        }
        if request.allowsDebug { pairs.append(("--allow-debug", "debug", document.rules.rawValue)) }
        for (option, asked, present) in pairs {
            guard let asked, asked != present else { continue }
            throw Finding(
                "local-differs", claim: option, expected: present ?? "none", actual: asked,
                source: documentPath, next: "leave the option out, or run nacre down first")
        }
    }

    /// Absolute path of a file that was named, which must be there.
    static func resolve(_ path: String) throws(Finding) -> String {
        guard let resolved = HostFiles.resolved(path), HostFiles.isReadable(resolved) else {
            let why = unsafe String(cString: strerror(errno))
            throw Finding(
                "parse-missing", claim: path, expected: "a readable file", actual: why,
                next: "build it with make image, or name another")
        }
        return resolved
    }

    private static func digest(_ path: String) throws(Finding) -> [UInt8] {
        HashAlgorithm.sha256.hash(try HostFiles.read(path, limit: 32 << 20))
    }
}

/// `logs/nacre.log`: what commands did here, with times, for whoever looks later.
struct ActivityLog: Sendable {
    let path: String

    init(cluster: String) throws(Finding) {
        try HostFiles.makeDirectory("\(cluster)/logs")
        path = "\(cluster)/logs/nacre.log"
    }

    func append(_ progress: Progress) {
        let text: String
        switch progress {
        case .note(let note): text = note
        case .step(let node, let name, let time): text = "\(node): \(name) after \(time.seconds) s"
        case .waiting: return
        }
        let file = unsafe open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0o644)
        guard file >= 0 else { return }
        defer { close(file) }
        let line = Array("\(Instant.now) \(text)\n".utf8)
        // A log that cannot be written keeps nothing else from happening.
        _ = unsafe write(file, line, line.count)
    }
}
