"""libnghttp2 and OpenSSL 3, loaded at run time: the build needs no headers of either."""

from libc.stdint cimport int32_t, uint32_t, uint64_t, uint8_t
from pathlib import Path
from posix.dlfcn cimport RTLD_LOCAL, RTLD_NOW, dlerror, dlopen, dlsym


cdef enum:
    # Frame types and flags (RFC 9113, section 6).
    FRAME_DATA = 0
    FRAME_HEADERS = 1
    FRAME_PRIORITY = 2
    FRAME_RST_STREAM = 3
    FRAME_SETTINGS = 4
    FRAME_PING = 6
    FRAME_GOAWAY = 7
    FRAME_CONTINUATION = 9
    FLAG_END_STREAM = 1
    FLAG_ACK = 1
    # Error codes (RFC 9113, section 7).
    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    CANCEL = 8
    ENHANCE_YOUR_CALM = 11
    # Settings (RFC 9113, section 6.5.2).
    SETTINGS_MAX_CONCURRENT_STREAMS = 3
    SETTINGS_INITIAL_WINDOW_SIZE = 4
    SETTINGS_MAX_HEADER_LIST_SIZE = 6
    # libnghttp2's own numbers.
    NV_NO_COPY = 6
    DATA_EOF = 1
    DATA_NO_END_STREAM = 2
    DATA_DEFERRED = -508
    CALLBACK_FAILURE = -902
    # The stream is reset, and no more of its header block is validated or reported.
    CALLBACK_STREAM_FAILURE = -521

ctypedef void *Session

ctypedef void *HeaderBuffer

cdef struct Field:
    const uint8_t *name
    const uint8_t *value
    size_t name_size
    size_t value_size
    uint8_t flags

# The beginning of every frame that a callback gets.
cdef struct FrameHeader:
    size_t length
    int32_t stream_id
    uint8_t type
    uint8_t flags
    uint8_t reserved

cdef struct ResetFrame:
    FrameHeader header
    uint32_t error

cdef struct Vector:
    const uint8_t *p
    size_t n

cdef struct Setting:
    int32_t id
    uint32_t value

ctypedef Py_ssize_t (*ReadBody)(
    Session session, int32_t stream_id, uint8_t *buffer, size_t length, uint32_t *flags, void **source, void *user
) noexcept nogil

ctypedef int (*OnFrame)(Session session, const FrameHeader *frame, void *user) noexcept nogil

ctypedef int (*OnHeader)(
    Session session, const FrameHeader *frame, HeaderBuffer name, HeaderBuffer value, uint8_t flags, void *user
) noexcept nogil

ctypedef int (*OnData)(
    Session session, uint8_t flags, int32_t stream_id, const uint8_t *data, size_t n, void *user
) noexcept nogil

ctypedef int (*OnStreamClose)(Session session, int32_t stream_id, uint32_t error, void *user) noexcept nogil

cdef struct Body:
    void *source
    ReadBody read

# The functions, by their names without the prefix nghttp2_.
cdef struct Nghttp2:
    int (*session_callbacks_new)(void **) noexcept nogil
    void (*session_callbacks_del)(void *) noexcept nogil
    void (*session_callbacks_set_on_begin_headers_callback)(void *, OnFrame) noexcept nogil
    void (*session_callbacks_set_on_header_callback2)(void *, OnHeader) noexcept nogil
    void (*session_callbacks_set_on_frame_recv_callback)(void *, OnFrame) noexcept nogil
    void (*session_callbacks_set_on_frame_send_callback)(void *, OnFrame) noexcept nogil
    void (*session_callbacks_set_on_data_chunk_recv_callback)(void *, OnData) noexcept nogil
    void (*session_callbacks_set_on_stream_close_callback)(void *, OnStreamClose) noexcept nogil
    int (*option_new)(void **) noexcept nogil
    void (*option_del)(void *) noexcept nogil
    void (*option_set_no_auto_window_update)(void *, int) noexcept nogil
    void (*option_set_no_rfc9113_leading_and_trailing_ws_validation)(void *, int) noexcept nogil
    void (*option_set_max_outbound_ack)(void *, size_t) noexcept nogil
    void (*option_set_max_settings)(void *, size_t) noexcept nogil
    void (*option_set_max_continuations)(void *, size_t) noexcept nogil
    void (*option_set_stream_reset_rate_limit)(void *, uint64_t, uint64_t) noexcept nogil
    int (*session_server_new2)(Session *, void *, void *, void *) noexcept nogil
    void (*session_del)(Session) noexcept nogil
    Py_ssize_t (*session_mem_recv)(Session, const uint8_t *, size_t) noexcept nogil
    Py_ssize_t (*session_mem_send)(Session, const uint8_t **) noexcept nogil
    int (*session_want_read)(Session) noexcept nogil
    int (*session_want_write)(Session) noexcept nogil
    int (*session_consume_connection)(Session, size_t) noexcept nogil
    int (*session_consume_stream)(Session, int32_t, size_t) noexcept nogil
    int (*session_resume_data)(Session, int32_t) noexcept nogil
    int (*session_set_local_window_size)(Session, uint8_t, int32_t, int32_t) noexcept nogil
    int (*session_terminate_session)(Session, uint32_t) noexcept nogil
    void *(*session_get_stream_user_data)(Session, int32_t) noexcept nogil
    int (*session_set_stream_user_data)(Session, int32_t, void *) noexcept nogil
    int32_t (*session_get_last_proc_stream_id)(Session) noexcept nogil
    int (*submit_settings)(Session, uint8_t, const Setting *, size_t) noexcept nogil
    int (*submit_response)(Session, int32_t, const Field *, size_t, const Body *) noexcept nogil
    int (*submit_trailer)(Session, int32_t, const Field *, size_t) noexcept nogil
    int (*submit_rst_stream)(Session, uint8_t, int32_t, uint32_t) noexcept nogil
    int (*submit_goaway)(Session, uint8_t, int32_t, uint32_t, const uint8_t *, size_t) noexcept nogil
    int (*submit_shutdown_notice)(Session) noexcept nogil
    int (*submit_ping)(Session, uint8_t, const uint8_t *) noexcept nogil
    void (*rcbuf_incref)(HeaderBuffer) noexcept nogil
    void (*rcbuf_decref)(HeaderBuffer) noexcept nogil
    Vector (*rcbuf_get_buf)(HeaderBuffer) noexcept nogil

# Filled by load_nghttp2(); before that every pointer is NULL.
cdef Nghttp2 nghttp2


# Its stable ABI; present wherever curl is.
NGHTTP2_LIBRARY = "libnghttp2.so.14"
# 1.43.0 has every function but those that are optional.
cdef int OLDEST = 0x012B00
# From 1.50, 1.57 and 1.61 on. Older versions have nothing that these turn off or bound, or it is bounded here.
OPTIONAL_FUNCTIONS = (
    "option_set_max_continuations",
    "option_set_no_rfc9113_leading_and_trailing_ws_validation",
    "option_set_stream_reset_rate_limit",
)

cdef struct Version:
    int age
    int number
    const char *text

cdef str _loaded_version = ""


def load_nghttp2(paths=None):
    """Load the library from the first of ``paths`` that is there, once. Return its version, such as ``1.64.0``.

    By default that is the library beside this module, which a binary wheel has, else the system's. Raises OSError,
    with the reason, if there is none, it is older than 1.43.0, or it lacks a function.
    """
    global _loaded_version
    if _loaded_version:
        return _loaded_version
    cdef void *library = NULL
    cdef list problems = []
    cdef bytes name
    if paths is None:
        bundled = Path(__file__).with_name(NGHTTP2_LIBRARY)
        paths = (bundled, NGHTTP2_LIBRARY) if bundled.exists() else (NGHTTP2_LIBRARY,)
    for path in paths:
        name = str(path).encode()
        library = dlopen(name, RTLD_NOW | RTLD_LOCAL)
        if library != NULL:
            break
        problems.append((<bytes> dlerror()).decode("utf-8", "replace"))
    if library == NULL:
        raise OSError("; ".join(problems) or "no library is named")
    cdef const Version *(*version)(int) noexcept nogil
    version = <const Version *(*)(int) noexcept nogil> _nghttp2_function(library, "version")
    cdef const Version *found = version(0)
    text = (<bytes> found.text).decode()
    if found.number < OLDEST:
        raise OSError(f"it is libnghttp2 {text}, and 1.43.0 is the oldest that serves")
    _fill_nghttp2(library)
    _loaded_version = text
    return text


cdef void *_nghttp2_function(void *library, str name) except? NULL:
    symbol = f"nghttp2_{name}".encode()
    cdef void *found = dlsym(library, symbol)
    if found == NULL and name not in OPTIONAL_FUNCTIONS:
        raise OSError(f"it has no function nghttp2_{name}")
    return found


cdef int _fill_nghttp2(void *library) except -1:
    """Look up every function. The names of the struct's members, in their order, are those of the library."""
    cdef void **place = <void **> &nghttp2
    cdef list found = []
    cdef int i
    for name in NGHTTP2_FUNCTIONS:
        found.append(<size_t> _nghttp2_function(library, name))
    if len(found) * sizeof(void *) != sizeof(Nghttp2):
        raise AssertionError("a function has no name, or a name no function")
    for i in range(len(found)):
        place[i] = <void *> <size_t> found[i]
    return 0


NGHTTP2_FUNCTIONS = (
    "session_callbacks_new",
    "session_callbacks_del",
    "session_callbacks_set_on_begin_headers_callback",
    "session_callbacks_set_on_header_callback2",
    "session_callbacks_set_on_frame_recv_callback",
    "session_callbacks_set_on_frame_send_callback",
    "session_callbacks_set_on_data_chunk_recv_callback",
    "session_callbacks_set_on_stream_close_callback",
    "option_new",
    "option_del",
    "option_set_no_auto_window_update",
    "option_set_no_rfc9113_leading_and_trailing_ws_validation",
    "option_set_max_outbound_ack",
    "option_set_max_settings",
    "option_set_max_continuations",
    "option_set_stream_reset_rate_limit",
    "session_server_new2",
    "session_del",
    "session_mem_recv",
    "session_mem_send",
    "session_want_read",
    "session_want_write",
    "session_consume_connection",
    "session_consume_stream",
    "session_resume_data",
    "session_set_local_window_size",
    "session_terminate_session",
    "session_get_stream_user_data",
    "session_set_stream_user_data",
    "session_get_last_proc_stream_id",
    "submit_settings",
    "submit_response",
    "submit_trailer",
    "submit_rst_stream",
    "submit_goaway",
    "submit_shutdown_notice",
    "submit_ping",
    "rcbuf_incref",
    "rcbuf_decref",
    "rcbuf_get_buf",
)


# OpenSSL 3.
#
# It is the library that Python's own ``ssl`` uses where that is linked to OpenSSL 3 dynamically. Where it isn't, the
# system's is loaded beside it.

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
