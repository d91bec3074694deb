// OpenSSL 3 as the Crypto room uses it. Function-like macros do not import into Swift: each has a wrapper here.
#pragma once
#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

static inline int nacre_ssl_ctx_tls13_only(SSL_CTX *c) {
    return SSL_CTX_set_min_proto_version(c, TLS1_3_VERSION) && SSL_CTX_set_max_proto_version(c, TLS1_3_VERSION);
}
static inline long nacre_ssl_set_sni(SSL *s, const char *name) { return SSL_set_tlsext_host_name(s, name); }
static inline int nacre_ssl_ctx_groups(SSL_CTX *c, const char *list) { return (int)SSL_CTX_set1_groups_list(c, list); }
// What either end may sign with: as a server, and what it asks of clients.
static inline int nacre_ssl_ctx_signatures(SSL_CTX *c, const char *list) {
    return SSL_CTX_set1_sigalgs_list(c, list) == 1 && SSL_CTX_set1_client_sigalgs_list(c, list) == 1;
}
static inline int nacre_pss_saltlen_digest(void) { return RSA_PSS_SALTLEN_DIGEST; }
static inline EVP_PKEY *nacre_ec_keygen(const char *curve) { return EVP_EC_gen(curve); }
static inline EVP_PKEY *nacre_rsa_keygen(unsigned int bits) { return EVP_RSA_gen(bits); }
static const unsigned long nacre_name_rfc2253 = XN_FLAG_RFC2253;

// In C because OSSL_PARAM keeps the addresses of its names, and Swift passes strings as copies that end with the call.
static inline EVP_PKEY *nacre_ec_public_key(const char *curve, const unsigned char *point, size_t size) {
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, (char *)curve, 0),
        OSSL_PARAM_construct_octet_string(OSSL_PKEY_PARAM_PUB_KEY, (void *)point, size),
        OSSL_PARAM_construct_end(),
    };
    EVP_PKEY *key = NULL;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    if (context && EVP_PKEY_fromdata_init(context) == 1)
        EVP_PKEY_fromdata(context, &key, EVP_PKEY_PUBLIC_KEY, parameters);
    EVP_PKEY_CTX_free(context);
    return key;
}

// The same reason; EVP_KDF also wipes what it derived in between.
// `kdf` is HKDF, looked up once.
static inline int nacre_hkdf_sha256(EVP_KDF *kdf, const void *key, size_t key_size, const unsigned char *salt,
                                    size_t salt_size, const unsigned char *info, size_t info_size, void *output,
                                    size_t size) {
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, "SHA256", 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)key, key_size),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_SALT, (void *)salt, salt_size),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO, (void *)info, info_size),
        OSSL_PARAM_construct_end(),
    };
    EVP_KDF_CTX *context = kdf ? EVP_KDF_CTX_new(kdf) : NULL;
    int done = context && EVP_KDF_derive(context, output, size, parameters) == 1;
    EVP_KDF_CTX_free(context);
    return done;
}
// The tag (16 bytes) stands behind the ciphertext.
static inline int nacre_aes256gcm_seal(const void *key, const unsigned char *nonce, const unsigned char *additional,
                                       size_t additional_size, const void *input, size_t size, unsigned char *output) {
    int part = 0;
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int done = context && EVP_EncryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce) == 1
        && EVP_EncryptUpdate(context, NULL, &part, additional, (int)additional_size) == 1
        && EVP_EncryptUpdate(context, output, &part, input, (int)size) == 1 && part == (int)size
        && EVP_EncryptFinal_ex(context, output + size, &part) == 1
        && EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_GET_TAG, 16, output + size) == 1;
    EVP_CIPHER_CTX_free(context);
    return done;
}
static inline int nacre_aes256gcm_open(const void *key, const unsigned char *nonce, const unsigned char *additional,
                                       size_t additional_size, const unsigned char *input, size_t size, void *output) {
    int part = 0;
    EVP_CIPHER_CTX *context = EVP_CIPHER_CTX_new();
    int done = context && size >= 16 && EVP_DecryptInit_ex(context, EVP_aes_256_gcm(), NULL, key, nonce) == 1
        && EVP_DecryptUpdate(context, NULL, &part, additional, (int)additional_size) == 1
        && EVP_DecryptUpdate(context, output, &part, input, (int)(size - 16)) == 1 && part == (int)(size - 16)
        && EVP_CIPHER_CTX_ctrl(context, EVP_CTRL_AEAD_SET_TAG, 16, (void *)(input + size - 16)) == 1
        && EVP_DecryptFinal_ex(context, (unsigned char *)output + size - 16, &part) == 1;
    EVP_CIPHER_CTX_free(context);
    return done;
}
// Options are wider than a C int, so their macros do not import. Certificate compression (RFC 8879) came with OpenSSL 3.2,
// whose names the headers of an older one do not have; it takes longer than signing does, for certificates of 400 bytes.
#ifndef SSL_OP_NO_TX_CERTIFICATE_COMPRESSION
#define SSL_OP_NO_TX_CERTIFICATE_COMPRESSION ((uint64_t)1 << 32)
#define SSL_OP_NO_RX_CERTIFICATE_COMPRESSION ((uint64_t)1 << 33)
#endif
static inline void nacre_ssl_ctx_options(SSL_CTX *c) {
    SSL_CTX_set_options(c, SSL_OP_CLEANSE_PLAINTEXT | SSL_OP_NO_TX_CERTIFICATE_COMPRESSION
                               | SSL_OP_NO_RX_CERTIFICATE_COMPRESSION);
}

// RSAES-OAEP (RFC 8017) with MGF1 of the same hash; `label` is copied, for libcrypto frees the one it is given.
static inline int nacre_rsa_oaep(EVP_PKEY *key, const EVP_MD *hash, const unsigned char *label, size_t label_size,
                                 const unsigned char *input, size_t size, unsigned char *output, size_t *output_size) {
    unsigned char *copy = OPENSSL_memdup(label, label_size);
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(key, NULL);
    int done = copy && context && EVP_PKEY_encrypt_init(context) == 1
        && EVP_PKEY_CTX_set_rsa_padding(context, RSA_PKCS1_OAEP_PADDING) == 1
        && EVP_PKEY_CTX_set_rsa_oaep_md(context, hash) == 1 && EVP_PKEY_CTX_set_rsa_mgf1_md(context, hash) == 1;
    if (done && EVP_PKEY_CTX_set0_rsa_oaep_label(context, copy, (int)label_size) == 1)
        copy = NULL;
    else
        done = 0;
    done = done && EVP_PKEY_encrypt(context, output, output_size, input, size) == 1;
    EVP_PKEY_CTX_free(context);
    OPENSSL_free(copy);
    return done;
}
static inline int nacre_ecdh(EVP_PKEY *key, EVP_PKEY *peer, unsigned char *output, size_t size) {
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new(key, NULL);
    int done = context && EVP_PKEY_derive_init(context) == 1 && EVP_PKEY_derive_set_peer(context, peer) == 1
        && EVP_PKEY_derive(context, output, &size) == 1;
    EVP_PKEY_CTX_free(context);
    return done ? (int)size : 0;
}
// AES in CFB mode with whole-block feedback (NIST SP 800-38A) and an initialisation vector of zeros.
static inline int nacre_aes_cfb(const unsigned char *key, size_t key_size, const unsigned char *input, size_t size,
                                unsigned char *output) {
    static const unsigned char zeros[16];
    const EVP_CIPHER *cipher = key_size == 16 ? EVP_aes_128_cfb128() : key_size == 32 ? EVP_aes_256_cfb128() : NULL;
    int part = 0;
    EVP_CIPHER_CTX *context = cipher ? EVP_CIPHER_CTX_new() : NULL;
    int done = context && EVP_EncryptInit_ex(context, cipher, NULL, key, zeros) == 1
        && EVP_EncryptUpdate(context, output, &part, input, (int)size) == 1 && part == (int)size;
    EVP_CIPHER_CTX_free(context);
    return done;
}

// A private key of a named curve from its scalar d, 1 ≤ d < n: `bytes` is reduced modulo n - 1, plus 1 (FIPS 186-5 A.2.1).
// Numbers that are secret live in numbers that are wiped, and are multiplied in constant time.
static inline EVP_PKEY *nacre_ec_private_key(int curve, const char *name, const void *bytes, size_t size) {
    EVP_PKEY *key = NULL;
    unsigned char point[1 + 2 * 66];
    size_t point_size = 0;
    BN_CTX *numbers = BN_CTX_secure_new();
    EC_GROUP *group = EC_GROUP_new_by_curve_name(curve);
    EC_POINT *product = group ? EC_POINT_new(group) : NULL;
    BIGNUM *wide = BN_secure_new(), *d = BN_secure_new(), *order = BN_new();
    OSSL_PARAM_BLD *builder = OSSL_PARAM_BLD_new();
    OSSL_PARAM *parameters = NULL;
    EVP_PKEY_CTX *context = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
    if (!numbers || !product || !wide || !d || !order || !builder || !context) goto end;
    BN_set_flags(wide, BN_FLG_CONSTTIME);
    BN_set_flags(d, BN_FLG_CONSTTIME);
    if (!BN_bin2bn(bytes, (int)size, wide) || EC_GROUP_get_order(group, order, numbers) != 1) goto end;
    if (BN_sub_word(order, 1) != 1 || BN_mod(d, wide, order, numbers) != 1 || BN_add_word(d, 1) != 1) goto end;
    if (EC_POINT_mul(group, product, d, NULL, NULL, numbers) != 1) goto end;
    point_size = EC_POINT_point2oct(group, product, POINT_CONVERSION_UNCOMPRESSED, point, sizeof point, numbers);
    if (!point_size || OSSL_PARAM_BLD_push_utf8_string(builder, OSSL_PKEY_PARAM_GROUP_NAME, name, 0) != 1
        || OSSL_PARAM_BLD_push_octet_string(builder, OSSL_PKEY_PARAM_PUB_KEY, point, point_size) != 1
        || OSSL_PARAM_BLD_push_BN(builder, OSSL_PKEY_PARAM_PRIV_KEY, d) != 1)
        goto end;
    parameters = OSSL_PARAM_BLD_to_param(builder);
    if (parameters && EVP_PKEY_fromdata_init(context) == 1)
        EVP_PKEY_fromdata(context, &key, EVP_PKEY_KEYPAIR, parameters);
end:
    EVP_PKEY_CTX_free(context);
    OSSL_PARAM_free(parameters);
    OSSL_PARAM_BLD_free(builder);
    BN_clear_free(wide);
    BN_clear_free(d);
    BN_free(order);
    EC_POINT_free(product);
    EC_GROUP_free(group);
    BN_CTX_free(numbers);
    return key;
}
// X25519 (RFC 7748): both halves of a new pair, 32 bytes each.
static inline int nacre_x25519_keygen(void *secret, unsigned char *published) {
    size_t secret_size = 32, published_size = 32;
    EVP_PKEY *key = EVP_PKEY_Q_keygen(NULL, NULL, "X25519");
    int done = key && EVP_PKEY_get_raw_private_key(key, secret, &secret_size) == 1 && secret_size == 32
        && EVP_PKEY_get_raw_public_key(key, published, &published_size) == 1 && published_size == 32;
    EVP_PKEY_free(key);
    return done;
}
