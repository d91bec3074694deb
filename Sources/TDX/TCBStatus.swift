/// Status of a TCB level (Intel PCS v4, `tcbStatus`), and the two that only appraisal of a TD 1.5 report can give.
public enum TCBStatus: String, Sendable, CaseIterable {
    case upToDate = "UpToDate"
    case swHardeningNeeded = "SWHardeningNeeded"
    case configurationNeeded = "ConfigurationNeeded"
    case configurationAndSWHardeningNeeded = "ConfigurationAndSWHardeningNeeded"
    case outOfDate = "OutOfDate"
    case outOfDateConfigurationNeeded = "OutOfDateConfigurationNeeded"
    /// The platform is fine; the TD still runs from the time before the module was updated.
    case tdRelaunchAdvised = "TDRelaunchAdvised"
    case tdRelaunchAdvisedConfigurationNeeded = "TDRelaunchAdvisedConfigurationNeeded"
    case revoked = "Revoked"

    /// A status that Intel's documents may carry.
    init?(served text: String) {
        guard let status = TCBStatus(rawValue: text), status != .tdRelaunchAdvised,
            status != .tdRelaunchAdvisedConfigurationNeeded
        else { return nil }
        self = status
    }

    var isOutOfDate: Bool { self == .outOfDate || self == .outOfDateConfigurationNeeded }

    var needsConfiguration: Bool {
        switch self {
        case .configurationNeeded, .configurationAndSWHardeningNeeded, .outOfDateConfigurationNeeded,
            .tdRelaunchAdvisedConfigurationNeeded:
            true
        default: false
        }
    }

    /// This level's status after `other`, that of the TDX module or of the quoting enclave, has its say.
    ///
    /// Those two are UpToDate, OutOfDate or Revoked; anything else they might be called counts as OutOfDate.
    func converged(with other: TCBStatus) -> TCBStatus {
        switch other {
        case .upToDate: return self
        case .revoked: return .revoked
        default: break
        }
        switch self {
        case .upToDate, .swHardeningNeeded: return .outOfDate
        case .configurationNeeded, .configurationAndSWHardeningNeeded: return .outOfDateConfigurationNeeded
        default: return self
        }
    }
}
