"""Server-side TLS over OpenSSL 3, on non-blocking sockets."""

cdef enum:
    # Results of tls_handshake.
    HANDSHAKE_DONE = 1
    HANDSHAKE_WANTS_READ = 0
    HANDSHAKE_WANTS_WRITE = -1
    HANDSHAKE_FAILED = -2
    # Results of tls_read and tls_write that are no number of bytes.
    TLS_END = 0
    TLS_WANTS_READ = -1
    TLS_WANTS_WRITE = -2
    TLS_FAILED = -3

cdef class TlsContext:
    # SSL_CTX; a connection that stands holds it too.
    cdef void *ctx

# SSL of a connection on `fd`, which stays the caller's. Raises OSError.
cdef void *tls_new(TlsContext context, int fd) except? NULL
# Done means that "h2" was agreed on, and with a client CA that the client's certificate was verified.
cdef int tls_handshake(void *ssl) noexcept nogil
# Decrypted bytes, at most one record. Read until TLS_WANTS_READ: records that came with the last one wait in memory,
# where epoll does not see them.
cdef Py_ssize_t tls_read(void *ssl, void *p, size_t n) noexcept nogil
# Behind a result below 0 the same bytes must be written first.
cdef Py_ssize_t tls_write(void *ssl, const void *p, size_t n) noexcept nogil
cdef bint tls_alpn_is_h2(void *ssl) noexcept nogil
# DER of the verified client certificate; empty without one.
cdef bytes tls_peer_certificate(void *ssl)
# The reason of the last failure; empty if there was none, or the peer closed the connection.
cdef str tls_failure(void *ssl)
# Sends the end of TLS if it can, and frees. Call it before the socket is closed. NULL is fine.
cdef void tls_free(void *ssl) noexcept nogil
