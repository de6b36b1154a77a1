"""Messages of JSON-RPC 2.0 as MCP sends them, one a text, by the strict JSON reader.

Two readers of a message may differ: in the case of member names (Go's decoder ignores it), in duplicates, in batches,
in members that a message of its kind does not have. Such a message is refused, also for members below `params`.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint32_t
from libc.string cimport memcmp, strlen

cdef enum:
    # Digits of an id: below 2^53, so that each reader has the same number.
    MAX_ID_DIGITS = 15
    MAX_ID_BYTES = 256

cdef str PROTOCOL_VERSION = "io.modelcontextprotocol/protocolVersion"
cdef str OWN_META = "io.sessauth/"
cdef frozenset MEMBERS = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
# Members of `params` that the gateway reads. Others of these spellings are refused.
cdef frozenset PARAMETERS = frozenset({"name", "uri", "arguments", "_meta"})


cdef class RpcMessage:
    """One message: a request, a notification (without an id), or an answer (without a method).

    ``id`` is JSON, in its canonical form; empty without one. ``name`` is ``params.name``, ``uri`` is ``params.uri``,
    each None if absent. ``arguments`` is the canonical form of ``params.arguments`` of a ``tools/call``, otherwise that
    of ``params`` without ``_meta``. ``protocol_version`` is the one that ``_meta`` states, or None. ``own_meta`` is
    True if ``_meta`` has a member of sessauth's.

    Raises FormError, whose text names no value of the message.
    """

    cdef readonly bytes id
    cdef readonly str method
    cdef readonly str name
    cdef readonly str uri
    cdef readonly bytes arguments
    cdef readonly str protocol_version
    cdef readonly bint own_meta

    def __cinit__(self, bytes text not None):
        cdef Document document
        self.id = b""
        self.method = ""
        self.arguments = b"{}"
        document_init(&document)
        try:
            if PyBytes_GET_SIZE(text) == 0 or not read_document(
                &document, <bytes_t> PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text)
            ):
                raise _wrong("the body is not one JSON object that every reader reads alike")
            _require_distinct(&document)
            self._read(&document, PyBytes_GET_SIZE(text))
        finally:
            document_free(&document)

    cdef int _read(self, const Document *document, size_t n) except -1:
        cdef const JsonNode *root = document.nodes
        cdef const JsonNode *params = NULL
        cdef const JsonNode *node
        cdef uint32_t at = 1
        cdef uint32_t _
        cdef int outcomes = 0
        cdef bint versioned = False
        for _ in range(root.count):
            node = document.nodes + at
            at = node.next
            if _is(node, "method"):
                self.method = _text_of(node, "method")
                if not self.method:
                    raise _wrong("method is empty")
            elif _is(node, "id"):
                self.id = _id_of(node)
            elif _is(node, "params"):
                params = node
            elif _is(node, "jsonrpc"):
                versioned = node.type == TYPE_TEXT and node.units == 3 and memcmp(node.text, "2.0", 3) == 0
            elif _is(node, "result") or _is(node, "error"):
                outcomes += 1
            else:
                raise _wrong("a member that no message has")
        if not versioned:
            raise _wrong("jsonrpc is not 2.0")
        if not self.method:
            if outcomes != 1 or not self.id or params != NULL:
                raise _wrong("neither a request nor one answer")
            return 0
        if outcomes:
            raise _wrong("a request and an answer in one")
        if params != NULL:
            if params.type != TYPE_OBJECT:
                raise _wrong("params is not an object")
            self._read_params(document, params, n)
        return 0

    cdef int _read_params(self, const Document *document, const JsonNode *params, size_t n) except -1:
        cdef const JsonNode *arguments = NULL
        cdef const JsonNode *meta = NULL
        cdef const JsonNode *node
        cdef uint32_t at = <uint32_t> (params - document.nodes) + 1
        cdef uint32_t _
        for _ in range(params.count):
            node = document.nodes + at
            at = node.next
            if _is(node, "name"):
                self.name = _text_of(node, "name")
            elif _is(node, "uri"):
                self.uri = _text_of(node, "uri")
            elif _is(node, "arguments"):
                arguments = node
            elif _is(node, "_meta"):
                meta = node
            elif _decoded(node.name, node.name_n).casefold() in PARAMETERS:
                raise _wrong("a member of params in another spelling")
        if meta != NULL:
            if meta.type != TYPE_OBJECT:
                raise _wrong("_meta is not an object")
            self._read_meta(document, meta)
        if self.method != "tools/call":
            self.arguments = canonical_node(document, params, n, meta)
        elif arguments != NULL:
            if arguments.type != TYPE_OBJECT:
                raise _wrong("arguments is not an object")
            self.arguments = canonical_node(document, arguments, n, NULL)
        return 0

    cdef int _read_meta(self, const Document *document, const JsonNode *meta) except -1:
        cdef const JsonNode *node
        cdef uint32_t at = <uint32_t> (meta - document.nodes) + 1
        cdef uint32_t _
        cdef str name, folded
        for _ in range(meta.count):
            node = document.nodes + at
            at = node.next
            name = _decoded(node.name, node.name_n)
            folded = name.casefold()
            if name == PROTOCOL_VERSION:
                self.protocol_version = _text_of(node, "the protocol version")
            elif folded == PROTOCOL_VERSION.casefold():
                raise _wrong("a member of _meta in another spelling")
            elif folded.startswith(OWN_META):
                self.own_meta = True
        return 0


def require_distinct_names(bytes text not None):
    """Raise FormError for JSON with an object whose members' names differ in case only, and for other bytes."""
    cdef Document document
    document_init(&document)
    try:
        if not read_document(&document, <bytes_t> PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text)):
            raise _wrong("not a JSON object")
        _require_distinct(&document)
    finally:
        document_free(&document)


cdef int _require_distinct(const Document *document) except -1:
    cdef const JsonNode *node
    cdef uint32_t i, at, _
    cdef set names
    for i in range(document.used):
        node = document.nodes + i
        if node.type != TYPE_OBJECT or node.count < 2:
            continue
        names = set()
        at = i + 1
        for _ in range(node.count):
            names.add(_decoded(document.nodes[at].name, document.nodes[at].name_n).casefold())
            at = document.nodes[at].next
        if len(names) < node.count:
            raise _wrong("an object has members whose names differ in case only")
    return 0


cdef inline bint _is(const JsonNode *node, const char *name) noexcept nogil:
    return node.name_n == strlen(name) and memcmp(node.name, name, node.name_n) == 0


cdef inline str _decoded(bytes_t p, size_t n):
    # Valid: the reader checked it.
    return PyUnicode_DecodeUTF8(<const char *> p, n, NULL)


cdef str _text_of(const JsonNode *node, str what):
    if node.type != TYPE_TEXT:
        raise _wrong(f"{what} is not a string")
    return _decoded(node.text, node.units)


cdef bytes _id_of(const JsonNode *node):
    """Return a string or a whole number as JSON."""
    cdef bytes room
    cdef unsigned char *start
    cdef size_t n = 0
    if node.type == TYPE_TEXT:
        if not 0 < node.units <= MAX_ID_BYTES:
            raise _wrong("id is empty or too long")
        room = PyBytes_FromStringAndSize(NULL, STRING_FACTOR * node.units + 2)
        start = <unsigned char *> PyBytes_AS_STRING(room)
        return PyBytes_FromStringAndSize(
            <const char *> start, put_string(start, node.text, node.units) - start
        )
    if node.type == TYPE_NUMBER:
        if node.text[0] == 0x2D:
            n = 1
        # The byte behind a number belongs to the text: an object ends with a brace.
        while is_digit(node.text[n]):
            n += 1
        # Not -0, nor a number that is written as a fraction.
        if n <= MAX_ID_DIGITS and node.text[n] not in b".eE" and memcmp(node.text, "-0", 2) != 0:
            return PyBytes_FromStringAndSize(<const char *> node.text, n)
    raise _wrong("id is neither a string nor a whole number")
