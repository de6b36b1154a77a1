"""Requests of Envoy's external authorization (proto/sessauth/gateways/extauthz/v1/check.proto), read on the loop.

Fields that are not read may have any value. A field that is read and occurs twice makes the request malformed. So do
header lines in both of their forms.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, strlen

from sessauth._fast._check cimport MALFORMED_REQUEST, WIRE_BYTES, WIRE_VARINT, WireReader
from sessauth._fast.codec.errors import FormError

cdef enum:
    # Numbers of fields.
    ATTRIBUTES = 1
    SOURCE = 1
    REQUEST = 4
    PEER_ADDRESS = 1
    PEER_PRINCIPAL = 4
    SOCKET_ADDRESS = 1
    SOCKET_ADDRESS_TEXT = 2
    HTTP = 2
    METHOD = 2
    HEADERS = 3
    PATH = 4
    SIZE = 9
    BODY = 11
    RAW_BODY = 12
    HEADER_MAP = 13
    HEADER_LINE = 1
    KEY = 1
    VALUE = 2
    RAW_VALUE = 3
    # Lines of a request.
    MAX_LINES = 1_000

# Envoy's own marker of a body: "false" if it is whole.
cdef const char *MARKER = "x-envoy-auth-partial-body"
# Nothing is read from these. They are most lines of most requests.
cdef const char *PLAIN_LINES[12]
PLAIN_LINES[:] = [
    "accept", "accept-encoding", "accept-language", "user-agent", "x-request-id", "x-forwarded-for", "x-forwarded-proto",
    "x-envoy-internal", ":authority", ":scheme", "traceparent", "cookie",
]  # fmt: skip


cdef class ExtAuthzRequest:
    """A CheckRequest: the parts of the request that the gateway checks.

    ``headers`` are pairs of a name and a text or bytes, but for those that no gateway reads. ``joined`` is True if
    lines of one name were joined. ``body`` is None if none was sent; ``size`` is Envoy's count of its bytes, -1 if
    unknown. ``partial`` is None without Envoy's marker, False if it says that the body is whole, otherwise True; True also
    for a body that comes as a text.
    ``source`` is the client's address and ``principal`` the identity of its certificate, each empty if unknown.

    Raises FormError for other bytes.
    """

    cdef readonly str method
    cdef readonly str path
    cdef readonly list headers
    cdef readonly bint joined
    cdef readonly bytes body
    cdef readonly int64_t size
    cdef readonly object partial
    cdef readonly str source
    cdef readonly str principal
    cdef uint32_t _seen

    def __cinit__(self, bytes data not None):
        cdef WireReader reader
        self.headers = []
        self.size = -1
        self.method = self.path = self.source = self.principal = ""
        reader.p = <const unsigned char *> PyBytes_AS_STRING(data)
        reader.end = reader.p + PyBytes_GET_SIZE(data)
        self._read(&reader)

    cdef int _read(self, WireReader *data) except -1:
        cdef WireReader attributes, request, http
        if _one(data, ATTRIBUTES, &attributes):
            if not _one(&attributes, REQUEST, &request) or not _one(&request, HTTP, &http):
                raise _malformed()
            self._read_http(&http)
            self._read_source(attributes)
            return 0
        raise _malformed()

    cdef int _read_source(self, WireReader attributes) except -1:
        cdef WireReader source, address, socket
        if not _one(&attributes, SOURCE, &source):
            return 0
        self.principal = _text_of(&source, PEER_PRINCIPAL)
        if _one(&source, PEER_ADDRESS, &address) and _one(&address, SOCKET_ADDRESS, &socket):
            self.source = _text_of(&socket, SOCKET_ADDRESS_TEXT)
        return 0

    cdef int _read_http(self, WireReader *http) except -1:
        cdef WireReader reader = http[0]
        cdef WireReader inner
        cdef uint32_t number, wire
        cdef uint64_t value
        cdef bint mapped = False
        while reader.p < reader.end:
            if not field_tag(&reader, &number, &wire):
                raise _malformed()
            if wire == WIRE_BYTES:
                if not field_bytes(&reader, &inner):
                    raise _malformed()
                if number == HEADERS:
                    self.joined = True
                    self._add_line(&inner)
                elif number == METHOD:
                    self._once(number)
                    self.method = _field_text(&inner)
                elif number == PATH:
                    self._once(number)
                    self.path = _field_text(&inner)
                elif number == BODY or number == RAW_BODY:
                    # Either form. In a text Envoy replaced bytes that are not UTF-8: it passes on another body.
                    self._once(BODY)
                    if number == BODY and inner.end != inner.p:
                        self.partial = True
                    self.body = PyBytes_FromStringAndSize(<const char *> inner.p, inner.end - inner.p)
                elif number == HEADER_MAP:
                    self._once(number)
                    mapped = True
                    self._read_lines(&inner)
            elif wire == WIRE_VARINT and number == SIZE:
                self._once(number)
                if not field_varint(&reader, &value):
                    raise _malformed()
                self.size = <int64_t> value
            elif not field_skip(&reader, number, wire, 0):
                raise _malformed()
        if mapped and self.joined:
            raise _malformed()
        return 0

    cdef int _once(self, uint32_t number) except -1:
        if self._seen >> number & 1:
            raise _malformed()
        self._seen |= 1 << number
        return 0

    cdef int _read_lines(self, WireReader *lines) except -1:
        cdef WireReader inner
        cdef uint32_t number, wire
        while lines.p < lines.end:
            if not field_tag(lines, &number, &wire):
                raise _malformed()
            if number == HEADER_LINE and wire == WIRE_BYTES:
                if not field_bytes(lines, &inner):
                    raise _malformed()
                self._add_line(&inner)
            elif not field_skip(lines, number, wire, 0):
                raise _malformed()
        return 0

    cdef int _add_line(self, WireReader *line) except -1:
        cdef WireReader key, value, raw
        cdef size_t n
        cdef bint texts
        if not _one(line, KEY, &key):
            raise _malformed()
        n = key.end - key.p
        texts = _one(line, VALUE, &value)
        if _one(line, RAW_VALUE, &raw):
            if texts and value.p != value.end:
                raise _malformed()
            value = raw
            texts = False
        elif not texts:
            value.p = value.end = NULL
        if n == strlen(MARKER) and memcmp(key.p, MARKER, n) == 0:
            self.partial = (
                self.partial is not None or value.end - value.p != 5 or memcmp(value.p, "false", 5) != 0
            )
            return 0
        if _is_plain_line(&key):
            return 0
        if len(self.headers) == MAX_LINES:
            raise _malformed()
        self.headers.append((
            _field_text(&key),
            _field_text(&value) if texts else PyBytes_FromStringAndSize(<const char *> value.p, value.end - value.p),
        ))
        return 0


cdef class ExtAuthzCaller(DirectCaller):
    """Answers on the loop by a function: ``answer(data)`` returns the answer's bytes, or None for a thread."""

    cdef object _function

    def __init__(self, method, audiences, function not None):
        self._function = function

    cdef bytes answer(self, bytes data, int64_t started_ns):
        return self._function(data)


cdef object _malformed():
    return FormError(MALFORMED_REQUEST, "not a CheckRequest of Envoy")


cdef bint _one(const WireReader *message, uint32_t wanted, WireReader *out) except -1:
    """Find the one field of bytes of this number; return False without one. Raises FormError for two."""
    cdef WireReader reader = message[0]
    cdef uint32_t number, wire
    cdef bint found = False
    while reader.p < reader.end:
        if not field_tag(&reader, &number, &wire):
            raise _malformed()
        if number == wanted and wire == WIRE_BYTES:
            if found or not field_bytes(&reader, out):
                raise _malformed()
            found = True
        elif not field_skip(&reader, number, wire, 0):
            raise _malformed()
    return found


cdef str _field_text(const WireReader *part):
    try:
        return PyUnicode_DecodeUTF8(<const char *> part.p, part.end - part.p, NULL) if part.p != NULL else ""
    except UnicodeDecodeError:
        raise _malformed() from None


cdef str _text_of(const WireReader *message, uint32_t number):
    cdef WireReader part
    return _field_text(&part) if _one(message, number, &part) else ""


cdef bint _is_plain_line(const WireReader *key) noexcept nogil:
    cdef size_t n = key.end - key.p
    cdef int i
    for i in range(12):
        if strlen(PLAIN_LINES[i]) == n and memcmp(key.p, PLAIN_LINES[i], n) == 0:
            return True
    return False
