import Bytes
import Crypto

/// Results of checks that hold at any time, by the digest of what was checked: chains, collateral and attestation keys
/// whose signatures were verified. Only successes are kept; dates and revocation are never part of what is kept.
///
/// Bounded and shared between threads; when full, the entry used longest ago goes.
public final class VerificationCache: Sendable {
    let anchors: BoundedCache<TrustAnchor>
    let chains: BoundedCache<CheckedPCKChain>
    let collateral: BoundedCache<CheckedCollateral>
    /// Attestation keys that a quoting enclave vouched for under a PCK; one serves every quote of a machine until its
    /// quoting enclave makes a new one.
    let attestationKeys: BoundedCache<PublicKey>

    /// - Parameter capacity: entries of each kind; collateral takes up to some hundred KiB each once parsed.
    public init(capacity: Int = 64) {
        anchors = BoundedCache(capacity: 8)
        chains = BoundedCache(capacity: capacity * 4)
        collateral = BoundedCache(capacity: capacity)
        attestationKeys = BoundedCache(capacity: capacity * 4)
    }
}
