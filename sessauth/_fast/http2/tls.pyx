"""Server-side TLS over OpenSSL 3, on non-blocking sockets, and one end of a connection for Python.

TLS 1.2 and 1.3 with the suites of gRPC's servers, ALPN "h2" only, no renegotiation, no compression. There is no
resumption of sessions: connections of gRPC live for minutes, workers have no common key for tickets, and a resumed
session would outlive the check of its client certificate.
"""

import socket
import ssl as python_ssl
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.limits cimport INT_MAX
from libc.string cimport memcmp
from posix.unistd cimport dup


cdef enum:
    # Results of tls_handshake.
    HANDSHAKE_DONE = 1
    HANDSHAKE_WANTS_READ = 0
    HANDSHAKE_WANTS_WRITE = -1
    HANDSHAKE_FAILED = -2
    # Results of tls_read and tls_write other than a number of bytes.
    TLS_END = 0
    TLS_WANTS_READ = -1
    TLS_WANTS_WRITE = -2
    TLS_FAILED = -3


# The suites of gRPC's servers. The client's order counts.
cdef bytes SUITES_1_2 = (
    b"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:"
    b"ECDHE-RSA-AES128-GCM-SHA256:ECDHE-RSA-AES256-GCM-SHA384"
)
cdef bytes SUITES_1_3 = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"

# A failure that is not OpenSSL's, in the place of its error. No error of the library has this number.
cdef unsigned long NO_H2 = 1
cdef const unsigned char *H2 = <const unsigned char *> b"h2"


def tls_available():
    """Return "" if TLS can be served, else the reason."""
    try:
        load_openssl()
    except OSError as error:
        return str(error)
    return ""


cdef class TlsContext:
    """Settings of TLS connections; immutable.

    ``certificate`` is the server's chain, leaf first, ``private_key`` its key without passphrase, ``client_ca`` the
    CAs that must have signed the certificate of each client; all PEM. With None clients are not asked for one. Raises
    OSError, in OpenSSL's words, for parts that can't be used.
    """

    # SSL_CTX; each open connection holds it too.
    cdef void *ctx

    def __cinit__(self, bytes certificate not None, bytes private_key not None, bytes client_ca=None):
        load_openssl()
        openssl.ERR_clear_error()
        self.ctx = openssl.SSL_CTX_new(openssl.TLS_server_method())
        _require(self.ctx != NULL, "TLS")
        openssl.SSL_CTX_set_options(self.ctx, OP_NO_TICKET | OP_NO_COMPRESSION | OP_NO_RENEGOTIATION)
        # Buffers are freed while a connection is idle. A read takes all records that came, in one system call.
        openssl.SSL_CTX_ctrl(
            self.ctx,
            CTRL_MODE,
            MODE_ENABLE_PARTIAL_WRITE | MODE_ACCEPT_MOVING_WRITE_BUFFER | MODE_RELEASE_BUFFERS,
            NULL,
        )
        openssl.SSL_CTX_ctrl(self.ctx, CTRL_READ_AHEAD, 1, NULL)
        openssl.SSL_CTX_ctrl(self.ctx, CTRL_SESSION_CACHE_MODE, SESSION_CACHE_OFF, NULL)
        openssl.SSL_CTX_set_alpn_select_cb(self.ctx, _select_h2, NULL)
        _require(
            openssl.SSL_CTX_ctrl(self.ctx, CTRL_MIN_PROTOCOL, TLS_1_2, NULL) == 1
            and openssl.SSL_CTX_set_num_tickets(self.ctx, 0) == 1
            and openssl.SSL_CTX_set_cipher_list(self.ctx, SUITES_1_2) == 1
            and openssl.SSL_CTX_set_ciphersuites(self.ctx, SUITES_1_3) == 1,
            "TLS",
        )
        _use_certificate(self.ctx, certificate, private_key)
        if client_ca is not None:
            _require_client_certificate(self.ctx, client_ca)

    def __dealloc__(self):
        if self.ctx != NULL:
            openssl.SSL_CTX_free(self.ctx)


cdef int _require(bint right, str subject) except -1:
    """Raise OSError, with the first of OpenSSL's errors, if ``right`` is false."""
    if not right:
        text = reason_text(openssl.ERR_peek_error())
        openssl.ERR_clear_error()
        raise OSError(f"{subject}: {text}")
    return 0


cdef int _no_passphrase(char *buffer, int size, int writing, void *user) noexcept nogil:
    # Without a callback OpenSSL would ask the terminal.
    return -1


cdef void *_bio(bytes pem) except NULL:
    if PyBytes_GET_SIZE(pem) > INT_MAX:
        raise OSError("the file is too large")
    cdef void *bio = openssl.BIO_new_mem_buf(PyBytes_AS_STRING(pem), <int> PyBytes_GET_SIZE(pem))
    if bio == NULL:
        raise MemoryError
    return bio


cdef void *_certificates(bytes pem, str subject) except NULL:
    """Return a stack of the certificates in ``pem``, at least one. The caller frees both."""
    cdef void *bio = _bio(pem)
    cdef void *stack = openssl.OPENSSL_sk_new_null()
    cdef void *certificate = NULL
    cdef size_t count = 0
    while stack != NULL:
        certificate = openssl.PEM_read_bio_X509(bio, NULL, _no_passphrase, NULL)
        if certificate == NULL:
            break
        if openssl.OPENSSL_sk_push(stack, certificate) == 0:
            openssl.X509_free(certificate)
            count = 0
            break
        count += 1
    openssl.BIO_free(bio)
    cdef unsigned long error = openssl.ERR_peek_last_error()
    # The end of the file is an error too.
    if count and (error >> 23) & 0xFF == LIBRARY_PEM and error & 0x7FFFFF == PEM_NO_START_LINE:
        openssl.ERR_clear_error()
        return stack
    openssl.OPENSSL_sk_pop_free(stack, openssl.X509_free)
    _require(False, subject)


cdef int _use_certificate(void *ctx, bytes certificate, bytes private_key) except -1:
    cdef void *chain = _certificates(certificate, "certificate")
    cdef void *leaf = openssl.OPENSSL_sk_shift(chain)
    cdef void *key = NULL
    cdef void *bio
    try:
        bio = _bio(private_key)
        key = openssl.PEM_read_bio_PrivateKey(bio, NULL, _no_passphrase, NULL)
        openssl.BIO_free(bio)
        _require(key != NULL, "private key")
        openssl.ERR_clear_error()
        _require(openssl.SSL_CTX_use_cert_and_key(ctx, leaf, key, chain, 1) == 1, "certificate and private key")
    finally:
        openssl.EVP_PKEY_free(key)
        openssl.X509_free(leaf)
        openssl.OPENSSL_sk_pop_free(chain, openssl.X509_free)
    return 0


cdef int _require_client_certificate(void *ctx, bytes client_ca) except -1:
    cdef void *roots = _certificates(client_ca, "client CA")
    cdef void *store = openssl.SSL_CTX_get_cert_store(ctx)
    cdef void *root = openssl.OPENSSL_sk_shift(roots)
    try:
        while root != NULL:
            _require(openssl.X509_STORE_add_cert(store, root) == 1, "client CA")
            openssl.X509_free(root)
            root = openssl.OPENSSL_sk_shift(roots)
        # As in gRPC's servers each of these CAs is trusted by itself, also one that another one signed.
        _require(
            openssl.X509_STORE_set_flags(store, FLAG_PARTIAL_CHAIN | FLAG_TRUSTED_FIRST) == 1
            and openssl.SSL_CTX_set_purpose(ctx, PURPOSE_SSL_CLIENT) == 1,
            "client CA",
        )
    finally:
        openssl.X509_free(root)
        openssl.OPENSSL_sk_pop_free(roots, openssl.X509_free)
    openssl.SSL_CTX_set_verify(ctx, VERIFY_PEER | VERIFY_FAIL_IF_NO_PEER_CERT, NULL)
    return 0


cdef int _select_h2(
    void *ssl,
    const unsigned char **selected,
    unsigned char *selected_size,
    const unsigned char *offered,
    unsigned int offered_size,
    void *user,
) noexcept nogil:
    cdef unsigned int at = 0
    while at < offered_size and at + 1 + offered[at] <= offered_size:
        if offered[at] == 2 and memcmp(offered + at + 1, H2, 2) == 0:
            # OpenSSL copies it.
            selected[0] = offered + at + 1
            selected_size[0] = 2
            return ALPN_OK
        at += 1 + offered[at]
    return ALPN_ALERT_FATAL


# SSL of a connection on `fd`, which stays the caller's. Raises OSError.
cdef void *tls_new(TlsContext context, int fd) except? NULL:
    openssl.ERR_clear_error()
    cdef void *ssl = openssl.SSL_new(context.ctx)
    _require(ssl != NULL, "TLS connection")
    if openssl.SSL_set_fd(ssl, fd) != 1:
        openssl.SSL_free(ssl)
        _require(False, "TLS connection")
    openssl.SSL_set_accept_state(ssl)
    return ssl


cdef Py_ssize_t _result(void *ssl, int result) noexcept nogil:
    """Classify a call that returned no success. A failure is recorded, and leaves no error to other users of OpenSSL."""
    cdef int kind = openssl.SSL_get_error(ssl, result)
    if kind == ERROR_WANT_READ:
        return TLS_WANTS_READ
    if kind == ERROR_WANT_WRITE:
        return TLS_WANTS_WRITE
    if kind == ERROR_ZERO_RETURN:
        return TLS_END
    openssl.SSL_set_ex_data(ssl, 0, <void *> openssl.ERR_peek_error())
    openssl.ERR_clear_error()
    return TLS_FAILED


# Done means that "h2" was agreed on, and with a client CA that the client's certificate was verified.
cdef int tls_handshake(void *ssl) noexcept nogil:
    openssl.ERR_clear_error()
    cdef int result = openssl.SSL_do_handshake(ssl)
    cdef Py_ssize_t outcome
    if result == 1:
        if tls_alpn_is_h2(ssl):
            return HANDSHAKE_DONE
        openssl.SSL_set_ex_data(ssl, 0, <void *> NO_H2)
        return HANDSHAKE_FAILED
    outcome = _result(ssl, result)
    if outcome == TLS_WANTS_READ:
        return HANDSHAKE_WANTS_READ
    return HANDSHAKE_WANTS_WRITE if outcome == TLS_WANTS_WRITE else HANDSHAKE_FAILED


# Decrypted bytes, at most one record. Read until TLS_WANTS_READ: records that came with the last one wait in memory,
# where epoll does not see them.
cdef Py_ssize_t tls_read(void *ssl, void *p, size_t n) noexcept nogil:
    cdef size_t count = 0
    openssl.ERR_clear_error()
    cdef int result = openssl.SSL_read_ex(ssl, p, n, &count)
    return <Py_ssize_t> count if result == 1 else _result(ssl, result)


# After a result below 0 the same bytes must be written first.
cdef Py_ssize_t tls_write(void *ssl, const void *p, size_t n) noexcept nogil:
    cdef size_t count = 0
    if n == 0:
        return 0
    openssl.ERR_clear_error()
    cdef int result = openssl.SSL_write_ex(ssl, p, n, &count)
    return <Py_ssize_t> count if result == 1 else _result(ssl, result)


cdef bint tls_alpn_is_h2(void *ssl) noexcept nogil:
    cdef const unsigned char *name = NULL
    cdef unsigned int n = 0
    openssl.SSL_get0_alpn_selected(ssl, &name, &n)
    return n == 2 and memcmp(name, H2, 2) == 0


# DER of the verified client certificate; empty without one.
cdef bytes tls_peer_certificate(void *ssl):
    if openssl.SSL_is_init_finished(ssl) == 0 or openssl.SSL_get_verify_result(ssl) != VERIFY_OK:
        return b""
    cdef void *certificate = openssl.SSL_get1_peer_certificate(ssl)
    if certificate == NULL:
        return b""
    cdef unsigned char *out
    cdef bytes der = b""
    cdef int n = openssl.i2d_X509(certificate, NULL)
    try:
        if n > 0:
            der = PyBytes_FromStringAndSize(NULL, n)
            # The library moves the pointer past its output.
            out = <unsigned char *> PyBytes_AS_STRING(der)
            if openssl.i2d_X509(certificate, &out) != n:
                der = b""
    finally:
        openssl.X509_free(certificate)
    return der


# The reason of the last failure; empty if there was none, or the peer closed the connection.
cdef str tls_failure(void *ssl):
    cdef unsigned long error = <unsigned long> openssl.SSL_get_ex_data(ssl, 0)
    if error == 0:
        return ""
    if error == NO_H2:
        return "the client did not ask for h2 (ALPN)"
    cdef long verified = openssl.SSL_get_verify_result(ssl)
    text = reason_text(error)
    if verified != VERIFY_OK:
        text += ": " + (<bytes> openssl.X509_verify_cert_error_string(verified)).decode("utf-8", "replace")
    return text


# Sends the end of TLS if it can, and frees. Call it before the socket is closed. NULL is fine.
cdef void tls_free(void *ssl) noexcept nogil:
    if ssl == NULL:
        return
    openssl.ERR_clear_error()
    # After a failed handshake an alert was sent already.
    if openssl.SSL_is_init_finished(ssl):
        openssl.SSL_shutdown(ssl)
    openssl.SSL_free(ssl)
    openssl.ERR_clear_error()


# TLS of the server for Python: for the self-test at a server's start, and for tests. The event loop calls the functions
# above directly.

cdef class TlsEndpoint:
    """A server's end of one TLS connection. Duplicates ``fd``, a non-blocking socket."""

    cdef void *ssl
    cdef int fd
    # False if the arguments were wrong: no descriptor is this one's then.
    cdef bint duplicated

    def __cinit__(self, TlsContext context not None, int fd):
        self.fd = dup(fd)
        if self.fd < 0:
            raise OSError("no file descriptor is left")
        self.duplicated = True
        self.ssl = tls_new(context, self.fd)

    def __dealloc__(self):
        tls_free(self.ssl)
        if self.duplicated:
            close(self.fd)

    def handshake(self):
        """Go on with the handshake. Return a result of tls_handshake."""
        return tls_handshake(self.ssl)

    def read(self, Py_ssize_t n):
        """Return up to ``n`` bytes, or a result of tls_read."""
        cdef bytes out = PyBytes_FromStringAndSize(NULL, n)
        cdef Py_ssize_t count = tls_read(self.ssl, PyBytes_AS_STRING(out), n)
        return out[:count] if count > 0 else count

    def write(self, bytes data not None):
        """Return how many bytes were written, or a result of tls_write."""
        return tls_write(self.ssl, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))

    @property
    def peer_certificate(self):
        """DER of the verified client certificate; empty without one."""
        return tls_peer_certificate(self.ssl)

    @property
    def failure(self):
        """Reason of the last failure; empty if there was none, or the peer closed the connection."""
        return tls_failure(self.ssl)


def tls_self_test(bytes certificate not None, bytes private_key not None):
    """Return "" if a client of Python's ssl can use a server with this certificate and key (PEM), else the reason.

    Makes a connection to itself, which takes a few ms, and passes bytes in each direction.
    """
    try:
        _connect_to_itself(TlsContext(certificate, private_key))
    except (OSError, ValueError) as error:
        return str(error) or type(error).__name__
    return ""


def _connect_to_itself(context):
    settings = python_ssl.SSLContext(python_ssl.PROTOCOL_TLS_CLIENT)
    settings.check_hostname = False
    settings.verify_mode = python_ssl.CERT_NONE
    settings.set_alpn_protocols(["http/1.1", "h2"])
    incoming, outgoing = python_ssl.MemoryBIO(), python_ssl.MemoryBIO()
    client = settings.wrap_bio(incoming, outgoing)
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        endpoint = TlsEndpoint(context, far.fileno())
        result = HANDSHAKE_WANTS_READ
        # Two round trips are the most that a handshake takes; the last turn finds it done.
        for _ in range(4):
            try:
                client.do_handshake()
            except python_ssl.SSLWantReadError:
                pass
            near.sendall(outgoing.read())
            result = endpoint.handshake()
            try:
                incoming.write(near.recv(1 << 17))
            except BlockingIOError:
                pass
        if result != HANDSHAKE_DONE:
            raise OSError(f"the handshake does not end: {endpoint.failure}")
        client.write(b"request")
        near.sendall(outgoing.read())
        request = endpoint.read(64)
        endpoint.write(b"answer")
        incoming.write(near.recv(1 << 17))
        if (client.selected_alpn_protocol(), request, client.read(64)) != ("h2", b"request", b"answer"):
            raise OSError("a connection does not pass what is sent")
