import Bytes
import COpenSSL

extension PublicKey {
    /// An uncompressed point x ‖ y, coordinates big-endian and of the curve's length; refused when off the curve.
    ///
    /// The same key as `init(_:x:y:)` makes, without the detour through SubjectPublicKeyInfo: libcrypto 3.0 takes 200 µs
    /// to decode one, more than for the signature that the key is made for.
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
}
