import Bytes
import COpenSSL

extension PublicKey {
    /// An uncompressed point x ‖ y, coordinates big-endian and of the curve's length; refused when off the curve.
    ///
    /// The same key as `init(_:x:y:)` makes, without the detour through SubjectPublicKeyInfo: libcrypto 3.0 takes 200 µs to
    /// decode one, more than for the signature that the key is made for.
    public convenience init(point: [UInt8], on curve: Curve) throws(CryptoError) {
        guard point.count == 2 * curve.coordinateSize else {
            throw CryptoError(.form, "a \(curve) point must be \(2 * curve.coordinateSize) bytes, is \(point.count)")
        }
        guard let key = unsafe Self.make(group: curve.openSSLName, point: [4] + point) else {
            throw CryptoError.library("not a point on \(curve)", kind: .form)
        }
        unsafe self.init(adopting: key)
    }

    /// EVP_PKEY_PUBLIC_KEY, a macro that does not import: the key, domain parameters, other parameters.
    private static let publicKeySelection =
        OSSL_KEYMGMT_SELECT_PUBLIC_KEY
        | OSSL_KEYMGMT_SELECT_DOMAIN_PARAMETERS | OSSL_KEYMGMT_SELECT_OTHER_PARAMETERS

    private static func make(group: String, point: [UInt8]) -> OpaquePointer? {
        guard let builder = unsafe OSSL_PARAM_BLD_new() else { return nil }
        defer { unsafe OSSL_PARAM_BLD_free(builder) }
        guard unsafe OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, group, 0) == 1,
            // The builder keeps the address, not the bytes: the parameters are made within the closure.
            let parameters = unsafe point.withUnsafeBufferPointer({ buffer -> UnsafeMutablePointer<OSSL_PARAM>? in
                guard
                    unsafe OSSL_PARAM_BLD_push_octet_string(
                        builder, OSSL_PKEY_PARAM_PUB_KEY, buffer.baseAddress, buffer.count) == 1
                else { return nil }
                return unsafe OSSL_PARAM_BLD_to_param(builder)
            }), let context = unsafe EVP_PKEY_CTX_new_from_name(nil, "EC", nil)
        else { return nil }
        defer {
            unsafe OSSL_PARAM_free(parameters)
            unsafe EVP_PKEY_CTX_free(context)
        }
        var key: OpaquePointer?
        guard unsafe EVP_PKEY_fromdata_init(context) == 1,
            unsafe EVP_PKEY_fromdata(context, &key, publicKeySelection, parameters) == 1
        else { return nil }
        return unsafe key
    }
}
