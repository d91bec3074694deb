import CTSS2

/// A TPM operation that did not work: what was attempted and why, in the TSS's words.
public struct TPMDeviceError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The command or step, `TPM2_Quote`.
    public let operation: String
    /// TSS2_RC or TPM_RC; 0 where the TPM did answer, but not as it should.
    public let code: UInt32
    public let message: String

    init(_ operation: String, code: UInt32) {
        self.operation = operation
        self.code = code
        let text = unsafe Tss2_RC_Decode(code)
        message = unsafe text.map { unsafe String(cString: $0) } ?? "unknown"
    }

    init(_ operation: String, _ message: String) {
        self.operation = operation
        code = 0
        self.message = message
    }

    public var description: String {
        code == 0 ? "\(operation): \(message)" : "\(operation): \(message) (0x\(String(code, radix: 16)))"
    }

    /// The one place where a return code is looked at.
    static func check(_ code: TSS2_RC, _ operation: String) throws(TPMDeviceError) {
        guard code == 0 else { throw TPMDeviceError(operation, code: code) }
    }
}
