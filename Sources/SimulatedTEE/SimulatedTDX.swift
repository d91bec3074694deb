import Bytes
import Crypto
import Glibc
import Linux
import TDX
import TPM

/// Answers as a TDX guest's kernel does (`drivers/virt/coco/tdx-guest`).
public struct SimulatedTDX: ReportProvider {
    public let name = "tdx_guest"
    public let hasPrivilegeLevels = false
    public let hasServices = false

    private let keys: SimulatedKeys
    /// 4, or 5 with a TD report 1.5.
    public var quoteVersion: UInt16 = 4
    public var mrTD = [UInt8](repeating: 0, count: 48)
    public var attributes: TDAttributes = [.septVEDisable]
    /// RTMR 0 to 3 before user space extends any.
    public var start: @Sendable () throws(SystemError) -> [[UInt8]] = { zeroRegisters }
    /// Changes a body before it is signed.
    public var change: @Sendable (inout TDBody) -> Void = { _ in }

    public static let zeroRegisters = [[UInt8]](repeating: [UInt8](repeating: 0, count: 48), count: 4)

    public init(_ keys: SimulatedKeys) { self.keys = keys }

    public func registers() throws(SystemError) -> [[UInt8]] { try start() }

    public func report(_ request: ReportTree.Request) throws(SystemError) -> ReportTree.Answer {
        guard request.data.count == 64 else { throw SystemError("inblob", code: EINVAL) }
        var body = TDXPlatform.currentBody
        if quoteVersion == 5 {
            body.extended = .init(teeTCBSVN2: body.teeTCBSVN, mrServiceTD: [UInt8](repeating: 0, count: 48))
        }
        body.mrTD = mrTD
        body.attributes = attributes
        body.rtmrs = request.registers
        body.reportData = request.data
        change(&body)
        do throws(CryptoError) {
            return ReportTree.Answer(report: try keys.quoter.quote(body, version: quoteVersion))
        } catch { throw SystemError("sign: \(error.message)", code: EIO) }
    }

    /// RTMR 0 to 3 as a TD's firmware would have extended them with the events of a TPM's log, which must have a SHA-384
    /// bank (UEFI 2.10 §38.4.1, mapping of PCRs: 1 and 7 → RTMR 0, 2 to 6 → RTMR 1, 8 to 15 → RTMR 2; PCR 0 is MRTD's
    /// matter). edk2 measures one separator for each register, not for each PCR.
    public static func registers(replaying log: EventLog) -> [[UInt8]] {
        var values = zeroRegisters
        var separated: Set<Int> = []
        for event in log.events where event.isExtended {
            let register: Int
            switch event.register {
            case 1, 7: register = 0
            case 2...6: register = 1
            case 8...15: register = 2
            default: continue
            }
            if event.type == .separator, !separated.insert(register).inserted { continue }
            guard let digest = event.digests[.sha384] else { continue }
            values[register] = HashAlgorithm.sha384.hash(values[register] + digest)
        }
        return values
    }
}
