import SimulatedTEE

public typealias CertificateBuilder = SimulatedTEE.CertificateBuilder
public typealias SNPTestPKI = SNPAuthority

extension SNPAuthority {
    /// Made once per run: RSA keys take a second.
    public static let shared: SNPAuthority? = {
        do { return try SNPAuthority() } catch {
            print("skipped: no keys for a test PKI (\(error))")
            return nil
        }
    }()
}
