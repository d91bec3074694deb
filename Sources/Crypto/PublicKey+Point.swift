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
}
