import Bytes
import COpenSSL

extension PublicKey {
    /// An uncompressed point x ‖ y, coordinates big-endian and of the curve's length; refused when off the curve.
    ///
    /// Without libcrypto's decoders, which take 200 µs to find out that this is what a SubjectPublicKeyInfo holds: more
    /// than the signature that the key is made for.
    public convenience init(point: [UInt8], on curve: Curve) throws(CryptoError) {
        guard point.count == 2 * curve.coordinateSize else {
            throw CryptoError(.form, "a \(curve) point must be \(2 * curve.coordinateSize) bytes, is \(point.count)")
        }
        let encoded = [4] + point
        guard let key = unsafe nacre_ec_public_key(curve.openSSLName, encoded, encoded.count) else {
            throw CryptoError.library("not a point on \(curve)", kind: .form)
        }
        unsafe self.init(adopting: key)
    }

    /// Keys by their exact point, whose length tells the curve. A node shows one attestation key for as long as it runs,
    /// and making it from the point takes as long as verifying with it does. What is kept is the key as libcrypto holds
    /// it: neither whether anybody trusts it nor anything that it has signed.
    static let known = BoundedCache<PublicKey>(capacity: 1024)

    /// The same key as `init(_:x:y:)` makes, perhaps made before.
    public static func known(_ curve: Curve, x: [UInt8], y: [UInt8]) throws(CryptoError) -> PublicKey {
        guard x.count == curve.coordinateSize, y.count == curve.coordinateSize else {
            return try PublicKey(curve, x: x, y: y)
        }
        let point = x + y
        if let key = known[point] { return key }
        let key = try PublicKey(point: point, on: curve)
        known.keep(key, point)
        return key
    }
}
