"""TLS of the server for Python: a test of itself, made when a server begins, and what tests drive.

The event loop calls the functions of ``tls`` themselves.
"""

import socket
import ssl as python_ssl

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from posix.unistd cimport dup


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
