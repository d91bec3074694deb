import Bytes

/// Where a platform, its TDX module and its quoting enclave stand among the TCB levels that Intel serves.
public struct TCBAppraisal: Sendable, Equatable {
    /// The converged status of all parts.
    public let status: TCBStatus
    /// Sorted union of the advisories of the platform's, the module's and the quoting enclave's level.
    public let advisories: [String]
    /// Status of the first level that the SGX components alone reach.
    public let sgxStatus: TCBStatus
    /// Status of the first level that the SGX and the TDX components reach.
    public let platformStatus: TCBStatus
    /// Status of the TDX module's level; `nil` for major version 0, which has no levels of its own.
    public let moduleStatus: TCBStatus?
    public let qeStatus: TCBStatus
    /// `tcbDate` of the platform's level.
    public let platformDate: Instant

    /// Why no appraisal exists: evidence below every level that Intel lists, or a module that Intel does not list.
    enum Failure: Error, Equatable {
        case notSupported(String)
        case unknownModule(String)
    }

    /// The algorithm of Intel's quote verification library (`TcbLevelCheck`, `TdxModuleCheck`, `TDRelaunchCheck`).
    init(body: TDBody, qeSVN: UInt16, pck: PCKExtension, tcbInfo: TCBInfo, qe: QEIdentity) throws(Failure) {
        let (sgx, tdx) = try Self.match(teeTCBSVN: body.teeTCBSVN, pck: pck, levels: tcbInfo.levels)
        guard let qeLevel = qe.levels.first(where: { $0.isvSVN <= Int(qeSVN) }) else {
            throw .notSupported("no QE identity level for isvsvn \(qeSVN)")
        }
        let module = try Self.moduleLevel(teeTCBSVN: body.teeTCBSVN, tcbInfo: tcbInfo)
        var status = tdx.status.converged(with: module?.status ?? .upToDate)
        if status != .revoked, let extended = body.extended, qeLevel.status == .upToDate {
            status = try Self.relaunch(
                status, svn2: extended.teeTCBSVN2, sgx: sgx.status, module: module?.status, tcbInfo: tcbInfo)
        }
        self.status = status.converged(with: qeLevel.status)
        advisories = Set(tdx.advisories + (module?.advisories ?? []) + qeLevel.advisories).sorted()
        sgxStatus = sgx.status
        platformStatus = tdx.status
        moduleStatus = module?.status
        qeStatus = qeLevel.status
        platformDate = tdx.date
    }

    /// The SGX level and the TDX level, walking from the newest. With a module of major version above 0 the module's own
    /// SVNs, components 0 and 1, are judged by its identity and not here.
    private static func match(
        teeTCBSVN: [UInt8], pck: PCKExtension, levels: [TCBInfo.Level]
    ) throws(Failure) -> (sgx: TCBInfo.Level, tdx: TCBInfo.Level) {
        let start = (teeTCBSVN.dropFirst().first ?? 0) > 0 ? 2 : 0
        var sgx: TCBInfo.Level?
        for level in levels {
            guard reaches(pck.componentSVNs[...], level.sgxComponents[...]), Int(pck.pceSVN) >= level.pceSVN else {
                continue
            }
            let first = sgx ?? level
            sgx = first
            if reaches(teeTCBSVN.dropFirst(start), level.tdxComponents.dropFirst(start)) { return (first, level) }
        }
        throw .notSupported(sgx == nil ? "SGX components below every level" : "TDX components below every level")
    }

    /// Every component at least as high. Never compared as one number: a newer microcode does not make up for an older
    /// loader.
    private static func reaches(_ have: ArraySlice<UInt8>, _ need: ArraySlice<UInt8>) -> Bool {
        have.count == need.count && zip(have, need).allSatisfy { $0 >= $1 }
    }

    private static func moduleLevel(teeTCBSVN: [UInt8], tcbInfo: TCBInfo) throws(Failure) -> SVNLevel? {
        guard let svn = teeTCBSVN.first, let major = teeTCBSVN.dropFirst().first, major > 0 else { return nil }
        guard let identity = tcbInfo.module(for: teeTCBSVN) else { throw .unknownModule("TDX module \(major)") }
        guard let level = identity.levels.first(where: { $0.isvSVN <= Int(svn) }) else {
            throw .notSupported("no level for TDX module \(major) with SVN \(svn)")
        }
        return level
    }

    /// A TD 1.5 report whose only fault is that the TD was launched under an older module: the module loaded now
    /// (`svn2`) is the latest, so a relaunch is all that is missing.
    private static func relaunch(
        _ status: TCBStatus, svn2: [UInt8], sgx: TCBStatus, module: TCBStatus?, tcbInfo: TCBInfo
    ) throws(Failure) -> TCBStatus {
        guard status.isOutOfDate, !sgx.isOutOfDate, sgx != .revoked, module == .outOfDate, svn2.count == 16,
            let latest = tcbInfo.levels.first
        else { return status }
        let latestModuleSVN: Int
        if svn2[1] == 0 {
            latestModuleSVN = Int(latest.tdxComponents[0])
        } else {
            guard let identity = tcbInfo.module(for: svn2), let level = identity.levels.first else {
                throw .unknownModule("TDX module \(svn2[1]) of tee_tcb_svn2")
            }
            latestModuleSVN = level.isvSVN
        }
        guard Int(svn2[0]) >= latestModuleSVN, svn2[2] >= latest.tdxComponents[2] else { return status }
        return sgx.needsConfiguration || status.needsConfiguration
            ? .tdRelaunchAdvisedConfigurationNeeded : .tdRelaunchAdvised
    }
}
