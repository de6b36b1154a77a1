"""OpenSSL 3, loaded at run time: nothing is needed to build.

It is the library that Python's own ``ssl`` uses where that is linked to OpenSSL 3 dynamically. Where it isn't, the
system's is loaded beside it.
"""

# Python's module loads the library first, from where it was linked to.
import ssl  # no-cython-lint

from posix.dlfcn cimport RTLD_LOCAL, RTLD_NOW, dlerror, dlopen, dlsym

# Cimported by other modules of the kernel only.
__all__ = []

# Stable ABI of all versions 3. The second needs the first.
CRYPTO_LIBRARY = "libcrypto.so.3"
SSL_LIBRARY = "libssl.so.3"

cdef bint _loaded = False


cdef int load_openssl() except -1:
    global _loaded
    if not _loaded:
        _fill(_library(CRYPTO_LIBRARY), _library(SSL_LIBRARY))
        _loaded = True
    return 0


cdef void *_library(str name) except NULL:
    cdef bytes path = name.encode()
    cdef void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL)
    if library == NULL:
        raise OSError((<bytes> dlerror()).decode("utf-8", "replace"))
    return library


cdef int _fill(void *crypto_library, void *ssl_library) except -1:
    """Look up every function. The names of the struct's members are those of the library."""
    cdef OpenSsl table
    cdef void **place = <void **> &table
    cdef bytes symbol
    cdef Py_ssize_t i
    if len(NAMES) * sizeof(void *) != sizeof(OpenSsl):
        raise AssertionError("a function has no name, or a name no function")
    for i, name in enumerate(NAMES):
        symbol = name.encode()
        place[i] = dlsym(ssl_library if name.startswith(("SSL_", "TLS_")) else crypto_library, symbol)
        if place[i] == NULL:
            raise OSError(f"{SSL_LIBRARY} or {CRYPTO_LIBRARY} has no function {name}")
    global openssl
    openssl = table
    return 0


cdef str reason_text(unsigned long error):
    cdef const char *text = openssl.ERR_reason_error_string(error)
    return "unknown error" if text == NULL else (<bytes> text).decode("utf-8", "replace")


NAMES = (
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
