import Bytes

/// What decides about PCR 7: the Secure Boot variables as firmware finds them (UEFI 2.10 §32.3, §32.4.1).
public struct SecureBootState: Sendable, Equatable {
    /// Contents of `SecureBoot`: empty where the firmware knows no Secure Boot, else one byte.
    public let secureBoot: [UInt8]
    public let platformKey: [UInt8]
    public let keyExchangeKeys: [UInt8]
    public let allowed: [UInt8]
    public let forbidden: [UInt8]
    /// `dbt` and `dbr`, measured only where they exist.
    public let timestamps: [UInt8]?
    public let recovery: [UInt8]?

    public static let globalGUID: GUID = "8be4df61-93ca-11d2-aa0d-00e098032b8c"
    public static let databaseGUID: GUID = "d719b2cb-3d3a-4596-a3bc-dad00e67656f"
    private static let enableGUID: GUID = "f0a30bc7-af08-4556-99c4-001009c93a44"

    /// The state of firmware that was built without Secure Boot and has an empty store.
    public static let absent = SecureBootState(
        secureBoot: [], platformKey: [], keyExchangeKeys: [], allowed: [], forbidden: [])

    public init(
        secureBoot: [UInt8], platformKey: [UInt8], keyExchangeKeys: [UInt8], allowed: [UInt8], forbidden: [UInt8],
        timestamps: [UInt8]? = nil, recovery: [UInt8]? = nil
    ) {
        self.secureBoot = secureBoot
        self.platformKey = platformKey
        self.keyExchangeKeys = keyExchangeKeys
        self.allowed = allowed
        self.forbidden = forbidden
        self.timestamps = timestamps
        self.recovery = recovery
    }

    /// The state that OVMF computes from its variable store at start-up: Secure Boot is on once a platform key is
    /// enrolled, unless its switch `SecureBootEnable` is off.
    ///
    /// - Parameter supported: whether the firmware was built with Secure Boot; where that is not known, enrolled keys
    ///   are taken for a yes.
    public init(_ store: VariableStore, supported: Bool? = nil) {
        let platformKey = store["PK", Self.globalGUID] ?? []
        let isOn = !platformKey.isEmpty && store["SecureBootEnable", Self.enableGUID] != [0]
        let isSupported = supported ?? !platformKey.isEmpty
        self.init(
            secureBoot: isSupported ? [isOn ? 1 : 0] : [], platformKey: platformKey,
            keyExchangeKeys: store["KEK", Self.globalGUID] ?? [], allowed: store["db", Self.databaseGUID] ?? [],
            forbidden: store["dbx", Self.databaseGUID] ?? [], timestamps: store["dbt", Self.databaseGUID],
            recovery: store["dbr", Self.databaseGUID])
    }

    public var isOn: Bool { secureBoot == [1] }

    /// PCR 7 up to and with its separator (TCG PC Client Platform Firmware Profile 1.06 §3.3.4.8).
    public var events: [PredictedEvent] {
        var variables: [(String, GUID, [UInt8])] = [
            ("SecureBoot", Self.globalGUID, secureBoot), ("PK", Self.globalGUID, platformKey),
            ("KEK", Self.globalGUID, keyExchangeKeys), ("db", Self.databaseGUID, allowed),
            ("dbx", Self.databaseGUID, forbidden),
        ]
        if let timestamps { variables.append(("dbt", Self.databaseGUID, timestamps)) }
        if let recovery { variables.append(("dbr", Self.databaseGUID, recovery)) }
        var events = variables.map { name, vendor, data in
            PredictedEvent(
                .tpm(7), .variableDriverConfig, data.isEmpty ? "variable \(name), not set" : "variable \(name)",
                Self.variableData(name, vendor, data))
        }
        events.append(BootPrediction.separator(.tpm(7)))
        return events
    }

    /// UEFI_VARIABLE_DATA (TCG PC Client Platform Firmware Profile 1.06 §10.2.6).
    static func variableData(_ name: String, _ vendor: GUID, _ data: [UInt8]) -> [UInt8] {
        var writer = ByteWriter()
        writer.append(vendor.bytes)
        writer.le(UInt64(name.utf16.count))
        writer.le(UInt64(data.count))
        writer.append(littleEndian(Array(name.utf16)))
        writer.append(data)
        return writer.bytes
    }
}
