import Bytes
import SimulatedTEE

@testable import TDX

/// One change to a `TDXPlatform` and what must come of it: a reason, or a status with its advisories.
struct PlatformCase: CustomStringConvertible, Sendable {
    /// When cases are judged.
    static let time = Instant("2026-02-20T00:00:00Z") ?? Instant(seconds: 0)

    let name: String
    let change: @Sendable (inout TDXPlatform) throws -> Void
    let reason: String
    let status: String?
    let advisories: [String]
    /// Why dcap-qvl comes to another result, where it does (reference §2.3).
    let divergence: String?

    var description: String { name }

    init(
        _ name: String, reason: String = "ok", status: String? = nil, advisories: [String] = [],
        divergence: String? = nil, _ change: @escaping @Sendable (inout TDXPlatform) throws -> Void
    ) {
        self.name = name
        self.reason = reason
        self.status = status
        self.advisories = advisories
        self.divergence = divergence
        self.change = change
    }

    static let all: [PlatformCase] = trust + identity + levels + relaunch

    /// Chains, revocation, dates.
    static let trust: [PlatformCase] = [
        .init("unchanged", status: "UpToDate") { _ in },
        .init("PCK revoked", reason: "pck-revoked") { $0.pckRevoked = [[0x10]] },
        .init("another PCK revoked", status: "UpToDate") { $0.pckRevoked = [[0x11]] },
        .init("Platform CA revoked", reason: "intermediate-revoked") { $0.rootRevoked = [[0x20]] },
        .init(
            "TCB signer revoked", reason: "tcb-signing-revoked"
        ) { $0.rootRevoked = [[0x30]] },
        .init("PCK expired", reason: "pck-expired") { $0.pck.notAfter = "2026-02-19T00:00:00Z" },
        .init("PCK not yet valid", reason: "pck-not-yet-valid") { $0.pck.notBefore = "2026-02-21T00:00:00Z" },
        .init("Platform CA expired", reason: "intermediate-expired") {
            $0.intermediate.notAfter = "2026-02-19T00:00:00Z"
        },
        .init("TCB signer expired", reason: "tcb-signing-expired") { $0.tcbSigner.notAfter = "2026-02-19T00:00:00Z" },
        .init("root CRL expired", reason: "root-crl-expired") { $0.rootCRLEnd = "2026-02-19T00:00:00Z" },
        .init("PCK CRL expired", reason: "pck-crl-expired") { $0.pckCRLEnd = "2026-02-19T00:00:00Z" },
        .init("TCB info expired", reason: "tcbinfo-expired") {
            $0.tcbInfo = TDXPlatform.tcbInfo(end: "2026-02-19T00:00:00Z", levels: [TDXPlatform.level("UpToDate")])
        },
        .init("QE identity expired", reason: "qeid-expired") {
            $0.qeIdentity = TDXPlatform.qeIdentity(end: "2026-02-19T00:00:00Z", levels: [(4, "UpToDate", [])])
        },
        .init(
            "PCK issued by the root", reason: "pck-chain",
            divergence: "dcap-qvl accepts a PCK that the root issued itself"
        ) { $0.pckIssuer = $0.root },
        .init("PCK by another name", reason: "pck-chain", divergence: "dcap-qvl does not look at common names") {
            $0.pck.name = "Intel SGX TCB Signing"
        },
        .init("CA by another name", reason: "pck-chain") { $0.intermediate.name = "Intel SGX TCB Signing" },
        .init("CA without the CA flag", reason: "pck-chain") { $0.intermediate.isCA = false },
        .init(
            "TCB info by a certificate of another name", reason: "tcbinfo-chain",
            divergence: "dcap-qvl does not look at common names"
        ) { $0.tcbSigner.name = "Intel SGX PCK Certificate" },
        .init("unknown critical extension in the PCK", reason: "pck-chain") {
            $0.pck.extensions = [CertificateBuilder.Extension("1.2.3.4", critical: true, [5, 0])]
        },
        .init(
            "TCB info spaced anew after signing", reason: "tcbinfo-signature"
        ) { $0.reserve = { bytes in bytes + [0x20] } },
    ]

    /// FMSPC, PCE id, module and enclave identities.
    static let identity: [PlatformCase] = [
        .init("TCB info of another FMSPC", reason: "tcbinfo-mismatch") {
            $0.tcbInfo = TDXPlatform.tcbInfo(fmspc: "70C06F000001", levels: [TDXPlatform.level("UpToDate")])
        },
        .init(
            "TCB info of another PCE", reason: "tcbinfo-mismatch", divergence: "dcap-qvl does not compare pceId"
        ) { $0.tcbInfo = TDXPlatform.tcbInfo(pceID: "0001", levels: [TDXPlatform.level("UpToDate")]) },
        .init("TCB info for SGX", reason: "tcbinfo-version") {
            $0.tcbInfo = TDXPlatform.tcbInfo(id: "SGX", levels: [TDXPlatform.level("UpToDate")])
        },
        .init("TCB info version 2", reason: "tcbinfo-version") {
            $0.tcbInfo = TDXPlatform.tcbInfo(version: 2, levels: [TDXPlatform.level("UpToDate")])
        },
        .init("QE identity of the SGX QE", reason: "qeid-version") {
            $0.qeIdentity = TDXPlatform.qeIdentity(id: "QE", levels: [(4, "UpToDate", [])])
        },
        .init("QE of another signer", reason: "qe-identity-mismatch") {
            $0.qeSigner = [UInt8](repeating: 1, count: 32)
        },
        .init("QE of another product", reason: "qe-identity-mismatch") { $0.qeProduct = 1 },
        .init("QE under debug", reason: "qe-identity-mismatch") { $0.qeAttributes[0] = 0x13 },
        .init("QE attribute outside the mask", status: "UpToDate") { $0.qeAttributes[0] = 0x15 },
        .init("module not by Intel", reason: "tdx-module-mismatch") { $0.body.mrSignerSEAM[0] = 1 },
        .init("module with attributes", reason: "tdx-module-mismatch") { $0.body.seamAttributes[0] = 1 },
        .init("module that Intel does not list", reason: "tdx-module-mismatch") { $0.body.teeTCBSVN[1] = 9 },
        .init("module id in lower case", status: "UpToDate") {
            $0.tcbInfo = TDXPlatform.tcbInfo(
                levels: [TDXPlatform.level("UpToDate")],
                modules: [TDXPlatform.module("tdx_0a", [(6, "UpToDate", [])])])
            $0.body.teeTCBSVN[1] = 10
        },
    ]

    /// The level algorithm of reference §2.3.
    static let levels: [PlatformCase] = [
        .init("one SGX component too low", reason: "tcb-not-supported") { $0.components[4] = 3 },
        .init("PCE SVN too low", reason: "tcb-not-supported") { $0.pceSVN = 12 },
        .init("TDX component 2 too low", reason: "tcb-not-supported") { $0.body.teeTCBSVN[2] = 2 },
        .init("module 0: its SVN counts as component 0", reason: "tcb-not-supported") {
            $0.body.teeTCBSVN = [4, 0, 3] + [UInt8](repeating: 0, count: 13)
        },
        .init("module 1: components 0 and 1 do not count", status: "UpToDate") {
            $0.tcbInfo = TDXPlatform.tcbInfo(levels: [TDXPlatform.level("UpToDate", tdx: [0xFF, 0xFF, 3])])
        },
        .init("second level", status: "OutOfDate", advisories: ["INTEL-SA-00002", "INTEL-SA-00003"]) {
            $0.tcbInfo = TDXPlatform.tcbInfo(levels: [
                TDXPlatform.level("UpToDate", sgx: [4], advisories: ["INTEL-SA-00009"]),
                TDXPlatform.level("OutOfDate", advisories: ["INTEL-SA-00003", "INTEL-SA-00002"]),
            ])
        },
        .init("TDX level below the SGX level", status: "OutOfDate") {
            $0.tcbInfo = TDXPlatform.tcbInfo(levels: [
                TDXPlatform.level("UpToDate", tdx: [5, 0, 4]), TDXPlatform.level("OutOfDate"),
            ])
        },
        .init("module below all its levels", reason: "tcb-not-supported") { $0.body.teeTCBSVN[0] = 3 },
        .init("module revoked", status: "Revoked", divergence: "dcap-qvl refuses Revoked in verify") {
            $0.tcbInfo = TDXPlatform.tcbInfo(
                levels: [TDXPlatform.level("UpToDate")],
                modules: [TDXPlatform.module("TDX_01", [(6, "Revoked", [])])])
        },
        .init("QE below all its levels", reason: "tcb-not-supported") { $0.qeSVN = 3 },
        .init("QE revoked", status: "Revoked", divergence: "dcap-qvl refuses Revoked in verify") {
            $0.qeIdentity = TDXPlatform.qeIdentity(levels: [(4, "Revoked", [])])
        },
        converge("UpToDate", "OutOfDate"), converge("SWHardeningNeeded", "OutOfDate"),
        converge("ConfigurationNeeded", "OutOfDateConfigurationNeeded"),
        converge("ConfigurationAndSWHardeningNeeded", "OutOfDateConfigurationNeeded"),
        converge("OutOfDate", "OutOfDate"),
        converge("OutOfDateConfigurationNeeded", "OutOfDateConfigurationNeeded"),
        .init("advisories of all three", status: "OutOfDate", advisories: ["A-1", "A-2", "INTEL-SA-00001"]) {
            $0.tcbInfo = TDXPlatform.tcbInfo(levels: [TDXPlatform.level("UpToDate", advisories: ["A-2"])])
            $0.qeIdentity = TDXPlatform.qeIdentity(levels: [(4, "UpToDate", ["A-1"])])
            $0.body.teeTCBSVN[0] = 4
        },
    ]

    /// A platform of `status` with a quoting enclave that is out of date.
    private static func converge(_ status: String, _ expected: String) -> PlatformCase {
        .init("\(status) with an old QE", status: expected, advisories: ["INTEL-SA-00007"]) {
            $0.tcbInfo = TDXPlatform.tcbInfo(levels: [TDXPlatform.level(status)])
            $0.qeIdentity = TDXPlatform.qeIdentity(levels: [
                (5, "UpToDate", []), (4, "OutOfDate", ["INTEL-SA-00007"]),
            ])
        }
    }

    /// TD report 1.5 on an old module, with the current one loaded since.
    static let relaunch: [PlatformCase] = [
        old15("relaunch", "TDRelaunchAdvised", "UpToDate", [6, 1, 3]),
        old15(
            "relaunch, configuration needed", "TDRelaunchAdvisedConfigurationNeeded", "ConfigurationNeeded", [6, 1, 3]),
        old15("no relaunch: loaded module old as well", "OutOfDate", "UpToDate", [5, 1, 3]),
        old15(
            "no relaunch: microcode old", "OutOfDate", "UpToDate", [6, 1, 2],
            divergence: "dcap-qvl refuses a tee_tcb_svn2 below every level; Intel's library leaves the status"),
        old15("relaunch: loaded module of major version 0", "TDRelaunchAdvised", "UpToDate", [5, 0, 3]),
        old15("no relaunch: SGX level out of date", "OutOfDate", "OutOfDate", [6, 1, 3]),
        .init("no relaunch: unknown loaded module", reason: "tdx-module-mismatch") {
            Self.make15(&$0, svn2: [6, 9, 3])
        },
        .init("no relaunch: QE out of date", status: "OutOfDate", advisories: ["INTEL-SA-00001"]) {
            Self.make15(&$0, svn2: [6, 1, 3])
            $0.qeIdentity = TDXPlatform.qeIdentity(levels: [(5, "UpToDate", []), (4, "OutOfDate", [])])
        },
    ]

    private static func make15(_ platform: inout TDXPlatform, svn2: [UInt8]) {
        platform.version = 5
        platform.body.teeTCBSVN[0] = 4
        platform.body.extended = .init(
            teeTCBSVN2: svn2 + [UInt8](repeating: 0, count: 13), mrServiceTD: [UInt8](repeating: 0, count: 48))
    }

    private static func old15(
        _ name: String, _ expected: String, _ status: String, _ svn2: [UInt8], divergence: String? = nil
    ) -> PlatformCase {
        .init(name, status: expected, advisories: ["INTEL-SA-00001"], divergence: divergence) {
            make15(&$0, svn2: svn2)
            $0.tcbInfo = TDXPlatform.tcbInfo(levels: [TDXPlatform.level(status)])
        }
    }
}
