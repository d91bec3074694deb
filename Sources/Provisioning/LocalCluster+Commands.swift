import Bytes
import CLinux
import Glibc
import Host

extension LocalCluster {
    /// Ends what this directory started, and only that, and removes what was made for it.
    ///
    /// - Parameter keepDisks: the machines' files and `cluster.json` stay, so that `up` continues with them.
    /// - Returns: the names of the machines that ran. An empty directory is fine: nothing to do.
    public func down(keepDisks: Bool, report: (Progress) -> Void) throws(Finding) -> [String] {
        let lock = try lock("nacre down") { report(.note("waiting for another command here: \($0)")) }
        guard let document = try document() else {
            // A command that was cut short before it wrote its document has started nothing.
            try HostFiles.remove(documentPath + ".partial")
            lock.removeFile()
            if isOwnDirectory { try abandonDirectory() }
            return []
        }
        var ended: [String] = []
        for node in document.nodes {
            let machine = machine(node.name, of: document)
            if machine.running != nil { ended.append(node.name) }
            report(.note("\(node.name): ending"))
            if keepDisks {
                _ = try machine.stop(powerCut: false, patience: .seconds(30))
            } else {
                try machine.destroy()
            }
        }
        if keepDisks { return ended }
        try HostFiles.remove("\(directory)/vm")
        try HostFiles.remove("\(directory)/logs")
        // Last: as long as it stands, the next `down` finds the processes.
        try HostFiles.remove(documentPath + ".partial")
        try HostFiles.remove(documentPath)
        lock.removeFile()
        if document.madeDirectory { try abandonDirectory() }
        return ended
    }

    /// Starts one stopped machine of the cluster. `nil` where it runs already.
    public func start(
        _ name: String, acceleration: Acceleration? = nil, report: (Progress) -> Void
    ) throws(Finding) -> Acceleration? {
        guard try document() != nil else { throw absent }
        let lock = try lock("nacre node start") { report(.note("waiting for another command here: \($0)")) }
        defer { lock.keep() }
        var (document, index) = try find(name)
        let machine = machine(name, of: document)
        if machine.running != nil { return nil }
        let tools = try LocalTools(host: host)
        try HostFiles.makeDirectory("\(directory)/vm", mode: 0o700)
        try machine.make(firmware: document.firmwareVariables, tools: tools)
        return try start(
            index, of: &document, acceleration: acceleration ?? .probe(), tools: tools, tell: report
        ).acceleration
    }

    /// Stops one machine of the cluster; in words, how it ended.
    public func stop(
        _ name: String, powerCut: Bool, patience: Duration = .seconds(60), report: (Progress) -> Void
    ) throws(Finding) -> String {
        guard try document() != nil else { throw absent }
        let lock = try lock("nacre node stop") { report(.note("waiting for another command here: \($0)")) }
        defer { lock.keep() }
        let document = try find(name).0
        switch try machine(name, of: document).stop(powerCut: powerCut, patience: patience) {
        case .wasStopped: return "was not running"
        case .orderly: return "shut down"
        case .forced:
            return "did not follow its power button within \(patience.components.seconds) s and was switched off"
        case .powerCut: return "power cut"
        }
    }

    private func find(_ name: String) throws(Finding) -> (ClusterDocument, Int) {
        guard let document = try document() else { throw absent }
        guard let index = document.nodes.firstIndex(where: { $0.name == name }) else {
            throw Finding(
                "parse-node", claim: name, expected: document.nodes.map(\.name).joined(separator: ", "), actual: name,
                source: documentPath)
        }
        return (document, index)
    }

    private var absent: Finding {
        Finding("local-absent", claim: directory, expected: "a cluster", actual: "none", next: "run nacre up")
    }

    /// Path of a node's `console.log`; of the first node where no name is given.
    public func console(_ name: String?) throws(Finding) -> String {
        guard let document = try document(), let first = document.nodes.first else { throw absent }
        let node = try find(name ?? first.name).0.nodes.first { $0.name == name ?? first.name } ?? first
        return machine(node.name, of: document).console
    }

    /// The last lines of a node's console, safe to print.
    public func consoleTail(_ name: String, lines: Int) throws(Finding) -> [String] {
        ConsoleTail.lines(try console(name), count: lines)
    }

    /// `nacre.status.v1`. Says what runs and what the last verdict was; judges nothing.
    public func status() throws(Finding) -> JSON {
        guard let document = try document() else { throw absent }
        return [
            "schema": "nacre.status.v1", "clusterID": .hex(document.clusterID),
            // Filled by releases that run Kubernetes.
            "kubernetes": .null,
            "nodes": .array(document.nodes.map { status(of: $0, in: document) }),
        ]
    }

    private func status(of node: ClusterDocument.Node, in document: ClusterDocument) -> JSON {
        let machine = machine(node.name, of: document)
        let note = VerdictNote.read(from: machine.directory)
        let phase: JSON =
            if machine.running == nil {
                machine.exists ? "stopped" : "absent"
            } else {
                "running"
            }
        return [
            "name": .string(node.name), "role": .string(node.role.rawValue), "phase": phase, "ready": .null,
            "imageDigest": note?["imageDigest"] ?? .null, "stateDisk": .null,
            "verified": note.map {
                ["at": $0["at"] ?? .null, "verdict": $0["verdict"] ?? .null, "reason": $0["reason"] ?? .null]
            } ?? .null,
            "stages": note?["stages"] ?? .array([]),
        ]
    }
}
