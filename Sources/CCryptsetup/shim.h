// libcryptsetup 2.6 and 2.7. Structures of parameters point to each other, which is simpler said in C.
#pragma once
#include <libcryptsetup.h>

// PBKDF2 by its count alone: no benchmark, no time, no memory. The keys that it stretches are random.
static inline struct crypt_pbkdf_type nacre_pbkdf(uint32_t iterations) {
    struct crypt_pbkdf_type pbkdf = {
        .type = CRYPT_KDF_PBKDF2, .hash = "sha256", .iterations = iterations, .flags = CRYPT_PBKDF_NO_BENCHMARK};
    return pbkdf;
}
static inline int nacre_crypt_set_pbkdf(struct crypt_device *cd, uint32_t iterations) {
    struct crypt_pbkdf_type pbkdf = nacre_pbkdf(iterations);
    return crypt_set_pbkdf_type(cd, &pbkdf);
}
static inline int nacre_crypt_format(struct crypt_device *cd, const char *cipher, const char *mode, size_t key_size,
                                     const char *integrity, uint32_t tag_size, uint64_t journal_size,
                                     uint32_t interleave_sectors, uint32_t sector_size, uint32_t iterations) {
    struct crypt_pbkdf_type pbkdf = nacre_pbkdf(iterations);
    struct crypt_params_integrity inner = {
        .journal_size = journal_size, .interleave_sectors = interleave_sectors, .tag_size = tag_size,
        .sector_size = sector_size};
    struct crypt_params_luks2 outer = {
        .pbkdf = &pbkdf, .integrity = integrity, .integrity_params = &inner, .sector_size = sector_size};
    return crypt_format(cd, CRYPT_LUKS2, cipher, mode, 0, 0, key_size, &outer);
}
static inline int nacre_crypt_load(struct crypt_device *cd) { return crypt_load(cd, CRYPT_LUKS2, 0); }
