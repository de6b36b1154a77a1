"""OpenSSL 3, loaded at run time: nothing is needed to build.

It is the library that Python's own ``ssl`` uses where that is linked to OpenSSL 3 dynamically. Where it isn't, the
system's is loaded beside it.
"""

# Python's module loads the library first, from where it was linked to.
import ssl  # no-cython-lint

from libc.stdint cimport uint64_t
from posix.dlfcn cimport RTLD_LOCAL, RTLD_NOW, dlerror, dlopen, dlsym

cdef enum:
    TLS_1_2 = 0x0303
    # Commands of SSL_CTX_ctrl, which the headers have macros for.
    CTRL_MODE = 33
    CTRL_READ_AHEAD = 41
    CTRL_SESSION_CACHE_MODE = 44
    CTRL_MIN_PROTOCOL = 123
    MODE_ENABLE_PARTIAL_WRITE = 0x01
    MODE_ACCEPT_MOVING_WRITE_BUFFER = 0x02
    MODE_RELEASE_BUFFERS = 0x10
    SESSION_CACHE_OFF = 0
    OP_NO_TICKET = 1 << 14
    OP_NO_COMPRESSION = 1 << 17
    OP_NO_RENEGOTIATION = 1 << 30
    VERIFY_PEER = 1
    VERIFY_FAIL_IF_NO_PEER_CERT = 2
    VERIFY_OK = 0
    PURPOSE_SSL_CLIENT = 1
    FLAG_TRUSTED_FIRST = 0x8000
    FLAG_PARTIAL_CHAIN = 0x80000
    ALPN_OK = 0
    ALPN_ALERT_FATAL = 2
    ERROR_WANT_READ = 2
    ERROR_WANT_WRITE = 3
    ERROR_ZERO_RETURN = 6
    # Errors hold their library and their reason.
    LIBRARY_PEM = 9
    PEM_NO_START_LINE = 108

ctypedef int (*Passphrase)(char *buffer, int size, int writing, void *user) noexcept nogil

ctypedef int (*SelectAlpn)(
    void *ssl,
    const unsigned char **selected,
    unsigned char *selected_size,
    const unsigned char *offered,
    unsigned int offered_size,
    void *user,
) noexcept nogil

# The functions, in the order of OPENSSL_FUNCTIONS.
cdef struct OpenSsl:
    const void *(*TLS_server_method)() noexcept nogil
    void *(*SSL_CTX_new)(const void *method) noexcept nogil
    void (*SSL_CTX_free)(void *ctx) noexcept nogil
    long (*SSL_CTX_ctrl)(void *ctx, int command, long number, void *p) noexcept nogil
    uint64_t (*SSL_CTX_set_options)(void *ctx, uint64_t options) noexcept nogil
    int (*SSL_CTX_set_num_tickets)(void *ctx, size_t n) noexcept nogil
    int (*SSL_CTX_set_cipher_list)(void *ctx, const char *text) noexcept nogil
    int (*SSL_CTX_set_ciphersuites)(void *ctx, const char *text) noexcept nogil
    void (*SSL_CTX_set_alpn_select_cb)(void *ctx, SelectAlpn select, void *user) noexcept nogil
    int (*SSL_CTX_use_cert_and_key)(void *ctx, void *certificate, void *key, void *chain, int override) noexcept nogil
    void *(*SSL_CTX_get_cert_store)(const void *ctx) noexcept nogil
    void (*SSL_CTX_set_verify)(void *ctx, int mode, void *callback) noexcept nogil
    int (*SSL_CTX_set_purpose)(void *ctx, int purpose) noexcept nogil
    int (*X509_STORE_add_cert)(void *store, void *certificate) noexcept nogil
    int (*X509_STORE_set_flags)(void *store, unsigned long flags) noexcept nogil
    void *(*SSL_new)(void *ctx) noexcept nogil
    void (*SSL_free)(void *ssl) noexcept nogil
    int (*SSL_set_fd)(void *ssl, int fd) noexcept nogil
    void (*SSL_set_accept_state)(void *ssl) noexcept nogil
    int (*SSL_do_handshake)(void *ssl) noexcept nogil
    int (*SSL_is_init_finished)(const void *ssl) noexcept nogil
    int (*SSL_read_ex)(void *ssl, void *p, size_t n, size_t *count) noexcept nogil
    int (*SSL_write_ex)(void *ssl, const void *p, size_t n, size_t *count) noexcept nogil
    int (*SSL_shutdown)(void *ssl) noexcept nogil
    int (*SSL_get_error)(const void *ssl, int result) noexcept nogil
    int (*SSL_set_ex_data)(void *ssl, int index, void *p) noexcept nogil
    void *(*SSL_get_ex_data)(const void *ssl, int index) noexcept nogil
    void (*SSL_get0_alpn_selected)(const void *ssl, const unsigned char **p, unsigned int *n) noexcept nogil
    void *(*SSL_get1_peer_certificate)(const void *ssl) noexcept nogil
    long (*SSL_get_verify_result)(const void *ssl) noexcept nogil
    const char *(*X509_verify_cert_error_string)(long result) noexcept nogil
    int (*i2d_X509)(const void *certificate, unsigned char **out) noexcept nogil
    void (*X509_free)(void *certificate) noexcept nogil
    void (*EVP_PKEY_free)(void *key) noexcept nogil
    void *(*OPENSSL_sk_new_null)() noexcept nogil
    int (*OPENSSL_sk_push)(void *stack, const void *p) noexcept nogil
    void *(*OPENSSL_sk_shift)(void *stack) noexcept nogil
    void (*OPENSSL_sk_pop_free)(void *stack, void (*free)(void *) noexcept nogil) noexcept nogil
    void *(*BIO_new_mem_buf)(const void *p, int n) noexcept nogil
    int (*BIO_free)(void *bio) noexcept nogil
    void *(*PEM_read_bio_X509)(void *bio, void **out, Passphrase passphrase, void *user) noexcept nogil
    void *(*PEM_read_bio_PrivateKey)(void *bio, void **out, Passphrase passphrase, void *user) noexcept nogil
    void (*ERR_clear_error)() noexcept nogil
    unsigned long (*ERR_peek_error)() noexcept nogil
    unsigned long (*ERR_peek_last_error)() noexcept nogil
    const char *(*ERR_reason_error_string)(unsigned long error) noexcept nogil

# Filled by load_openssl(); before that every pointer is NULL.
cdef OpenSsl openssl

# Stable ABI of all versions 3. The second needs the first.
CRYPTO_LIBRARY = "libcrypto.so.3"
SSL_LIBRARY = "libssl.so.3"

cdef bint _openssl_loaded = False


# Loads the library, once. Raises OSError, with the reason, if it is not there or lacks a function.
cdef int load_openssl() except -1:
    global _openssl_loaded
    if not _openssl_loaded:
        _fill_openssl(_open_library(CRYPTO_LIBRARY), _open_library(SSL_LIBRARY))
        _openssl_loaded = True
    return 0


cdef void *_open_library(str name) except NULL:
    cdef bytes path = name.encode()
    cdef void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL)
    if library == NULL:
        raise OSError((<bytes> dlerror()).decode("utf-8", "replace"))
    return library


cdef int _fill_openssl(void *crypto_library, void *ssl_library) except -1:
    """Look up every function. The names of the struct's members are those of the library."""
    cdef OpenSsl table
    cdef void **place = <void **> &table
    cdef bytes symbol
    cdef Py_ssize_t i
    if len(OPENSSL_FUNCTIONS) * sizeof(void *) != sizeof(OpenSsl):
        raise AssertionError("a function has no name, or a name no function")
    for i, name in enumerate(OPENSSL_FUNCTIONS):
        symbol = name.encode()
        place[i] = dlsym(ssl_library if name.startswith(("SSL_", "TLS_")) else crypto_library, symbol)
        if place[i] == NULL:
            raise OSError(f"{SSL_LIBRARY} or {CRYPTO_LIBRARY} has no function {name}")
    global openssl
    openssl = table
    return 0


# The name of the reason of an error, such as "no shared cipher".
cdef str reason_text(unsigned long error):
    cdef const char *text = openssl.ERR_reason_error_string(error)
    return "unknown error" if text == NULL else (<bytes> text).decode("utf-8", "replace")


OPENSSL_FUNCTIONS = (
    "TLS_server_method",
    "SSL_CTX_new",
    "SSL_CTX_free",
    "SSL_CTX_ctrl",
    "SSL_CTX_set_options",
    "SSL_CTX_set_num_tickets",
    "SSL_CTX_set_cipher_list",
    "SSL_CTX_set_ciphersuites",
    "SSL_CTX_set_alpn_select_cb",
    "SSL_CTX_use_cert_and_key",
    "SSL_CTX_get_cert_store",
    "SSL_CTX_set_verify",
    "SSL_CTX_set_purpose",
    "X509_STORE_add_cert",
    "X509_STORE_set_flags",
    "SSL_new",
    "SSL_free",
    "SSL_set_fd",
    "SSL_set_accept_state",
    "SSL_do_handshake",
    "SSL_is_init_finished",
    "SSL_read_ex",
    "SSL_write_ex",
    "SSL_shutdown",
    "SSL_get_error",
    "SSL_set_ex_data",
    "SSL_get_ex_data",
    "SSL_get0_alpn_selected",
    "SSL_get1_peer_certificate",
    "SSL_get_verify_result",
    "X509_verify_cert_error_string",
    "i2d_X509",
    "X509_free",
    "EVP_PKEY_free",
    "OPENSSL_sk_new_null",
    "OPENSSL_sk_push",
    "OPENSSL_sk_shift",
    "OPENSSL_sk_pop_free",
    "BIO_new_mem_buf",
    "BIO_free",
    "PEM_read_bio_X509",
    "PEM_read_bio_PrivateKey",
    "ERR_clear_error",
    "ERR_peek_error",
    "ERR_peek_last_error",
    "ERR_reason_error_string",
)
