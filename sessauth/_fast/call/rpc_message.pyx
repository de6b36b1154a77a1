"""Messages of JSON-RPC 2.0 as MCP sends them, and the equality form of a JSON value.

A text is one message, read by the strict JSON reader. Two readers of a message may differ: in the case of member names
(Go's decoder ignores it), in duplicates, in batches, in members that a message of its kind does not have. Such a
message is refused, also for members below `params`.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport uint32_t, uint8_t
from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memcmp, memcpy, strlen

from sessauth._fast.codec.errors import FormError


# The equality form of a JSON value: one text for all texts that are equal (docs/token-format.md, section 7.1).
#
# It is the canonical form, but a number has one spelling. The form is never stored whole: its beginning is compared, and
# its digest.

cdef enum Formed:
    HAS_NO_FORM = 0
    HAS_FORM = 1
    OUT_OF_WORK = 2

# A form as far as comparisons need it: its length, its beginning, and its digest if `hashed`.
cdef struct JsonForm:
    size_t n
    unsigned char start[MAX_STRING_BYTES]
    bint hashed
    Hashing hashing
    unsigned char digest[DIGEST_BYTES]


cdef enum:
    FORM_LABEL_BYTES = 17

# With its zero byte at the end.
cdef const char *FORM_LABEL = "sessauth/json/v1"
cdef bytes_t BEFORE = <bytes_t> <const char *> '{"v":'

# A value that is being formed.
cdef struct Forming:
    const JsonNode *nodes
    uint32_t work
    JsonForm *out


def json_form(bytes text not None):
    """Return the equality form of a JSON text, None if it has more than 1024 bytes, and its digest.

    Raises FormError for bytes that are not a JSON value within the limits of a request, and for one without a form.
    """
    cdef Document document
    cdef JsonForm out
    cdef uint32_t work = 0xFFFFFFFF
    cdef bytes wrapped = b'{"v":' + text + b"}"
    cdef Formed formed = HAS_NO_FORM
    document_init(&document)
    try:
        out.hashed = 1
        if _read_value(&document, <bytes_t> PyBytes_AS_STRING(wrapped), PyBytes_GET_SIZE(wrapped)):
            formed = form_json(document.nodes, document.nodes + 1, &work, &out)
    finally:
        document_free(&document)
    if formed != HAS_FORM:
        raise FormError(MALFORMED_TOKEN, "not a JSON value, or beyond the limits")
    digest = PyBytes_FromStringAndSize(<const char *> out.digest, DIGEST_BYTES)
    if out.n > MAX_STRING_BYTES:
        return None, digest
    return PyBytes_FromStringAndSize(<const char *> out.start, out.n), digest


cdef bint _read_value(Document *document, bytes_t p, size_t n) noexcept nogil:
    """Read an object of one member, which holds the value and nothing else."""
    return n <= <size_t> MAX_JSON_BYTES and read_document(document, p, n) and document.nodes[0].count == 1


# 1: n bytes are the equality form of a JSON value. `plain`: TYPE_TEXT, TYPE_NUMBER or TYPE_TRUTH, 0 for other values.
cdef bint is_json_form(bytes_t p, size_t n, uint8_t *plain) noexcept nogil:
    cdef Document document
    cdef JsonForm out
    cdef uint32_t work = 0xFFFFFFFF
    cdef unsigned char wrapped[MAX_STRING_BYTES + 8]
    cdef bint same = 0
    if not 1 <= n <= MAX_STRING_BYTES:
        return 0
    memcpy(wrapped, BEFORE, 5)
    memcpy(wrapped + 5, p, n)
    wrapped[5 + n] = 0x7D
    out.hashed = 0
    document_init(&document)
    if _read_value(&document, wrapped, n + 6) and form_json(document.nodes, document.nodes + 1, &work, &out) == HAS_FORM:
        same = out.n == n and memcmp(out.start, p, n) == 0
        plain[0] = TYPE_NUMBER if document.nodes[1].type == TYPE_DECIMAL else document.nodes[1].type
        if plain[0] > TYPE_TRUTH:
            plain[0] = 0
    document_free(&document)
    return same


# Form a value in at most `work` steps, which are subtracted. The caller sets `out.hashed` to get a digest.
cdef Formed form_json(const JsonNode *nodes, const JsonNode *node, uint32_t *work, JsonForm *out) noexcept nogil:
    cdef Forming forming
    cdef const JsonNode **order = NULL
    cdef size_t below = (node.next - (node - nodes)) if node.type == TYPE_OBJECT or node.type == TYPE_LIST else 0
    cdef Formed formed
    out.n = 0
    if out.hashed:
        hash_begin(&out.hashing)
        hash_add(&out.hashing, <bytes_t> FORM_LABEL, FORM_LABEL_BYTES)
    if below:
        order = <const JsonNode **> malloc(below * sizeof(JsonNode *))
        if order == NULL:
            return HAS_NO_FORM
    forming.nodes = nodes
    forming.work = work[0]
    forming.out = out
    formed = OUT_OF_WORK
    if _spend(&forming, FORM_STEPS + (DIGEST_STEPS if out.hashed else 0)):
        formed = _form_node(&forming, node, order)
    free(order)
    work[0] = forming.work
    if out.hashed:
        hash_end(&out.hashing, out.digest)
    return formed


cdef inline bint _spend(Forming *forming, size_t steps) noexcept nogil:
    if steps > forming.work:
        return 0
    forming.work -= <uint32_t> steps
    return 1


cdef inline bint _spend_on_bytes(Forming *forming, size_t n) noexcept nogil:
    return _spend(forming, n // BYTES_A_STEP * (HASHED if forming.out.hashed else 1))


cdef inline void _add(Forming *forming, bytes_t p, size_t n) noexcept nogil:
    cdef JsonForm *out = forming.out
    if out.n < MAX_STRING_BYTES:
        memcpy(out.start + out.n, p, n if n < MAX_STRING_BYTES - out.n else MAX_STRING_BYTES - out.n)
    if out.hashed:
        hash_add(&out.hashing, p, n)
    out.n += n


cdef inline void _add_char(Forming *forming, unsigned char c) noexcept nogil:
    _add(forming, &c, 1)


cdef Formed _form_node(Forming *forming, const JsonNode *node, const JsonNode **order) noexcept nogil:
    """Add a value. ``order`` has space for every node below it. The reader bounds the depth of the recursion."""
    if node.type == TYPE_TEXT:
        return _form_text(forming, node.text, node.units)
    if node.type == TYPE_OBJECT or node.type == TYPE_LIST:
        return _form_container(forming, node, order)
    if node.type == TYPE_NUMBER or node.type == TYPE_DECIMAL:
        return _form_number(forming, node)
    if node.type == TYPE_TRUTH:
        _add(forming, <bytes_t> (<const char *> "true" if node.truth else <const char *> "false"), 4 + (not node.truth))
        return HAS_FORM
    if node.text[0] != 0x6E:
        return HAS_NO_FORM
    _add(forming, <bytes_t> <const char *> "null", 4)
    return HAS_FORM


cdef Formed _form_number(Forming *forming, const JsonNode *node) noexcept nogil:
    cdef unsigned char digits[NUMBER_DIGITS]
    cdef unsigned char text[MAX_DECIMAL_BYTES]
    cdef Decimal value
    cdef size_t n
    if node.type == TYPE_NUMBER:
        decimal_of_number(node.units, node.nanos, digits, &value)
    else:
        decimal_of_node(node, &value)
    n = put_decimal(text, &value)
    if not _spend_on_bytes(forming, n):
        return OUT_OF_WORK
    _add(forming, text, n)
    return HAS_FORM


cdef Formed _form_text(Forming *forming, bytes_t p, size_t n) noexcept nogil:
    cdef unsigned char escape[8]
    cdef bytes_t end = p + n
    cdef bytes_t start
    if not _spend_on_bytes(forming, n):
        return OUT_OF_WORK
    _add_char(forming, 0x22)
    while p < end:
        start = p
        while p < end and not kinds[p[0]] & STOP:
            p += 1
        _add(forming, start, p - start)
        if p < end:
            _add(forming, escape, put_escape(escape, p[0]) - escape)
            p += 1
    _add_char(forming, 0x22)
    return HAS_FORM


cdef Formed _form_container(Forming *forming, const JsonNode *node, const JsonNode **order) noexcept nogil:
    cdef bint is_object = node.type == TYPE_OBJECT
    cdef uint32_t at = <uint32_t> (node - forming.nodes) + 1
    cdef Formed formed
    cdef uint32_t i
    if not _spend(forming, FORM_STEPS * node.count):
        return OUT_OF_WORK
    for i in range(node.count):
        order[i] = forming.nodes + at
        at = forming.nodes[at].next
    if is_object:
        qsort(order, node.count, sizeof(JsonNode *), compare_names)
    _add_char(forming, 0x7B if is_object else 0x5B)
    for i in range(node.count):
        if i:
            _add_char(forming, 0x2C)
        if is_object:
            formed = _form_text(forming, order[i].name, order[i].name_n)
            if formed != HAS_FORM:
                return formed
            _add_char(forming, 0x3A)
        formed = _form_node(forming, order[i], order + node.count)
        if formed != HAS_FORM:
            return formed
    _add_char(forming, 0x7D if is_object else 0x5D)
    return HAS_FORM


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
    of ``params`` without ``_meta``. ``protocol_version`` is the one in ``_meta``, or None. ``own_meta`` is
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
        # The byte after a number belongs to the text: an object ends with a brace.
        while is_digit(node.text[n]):
            n += 1
        # Not -0, nor a number that is written as a fraction.
        if n <= MAX_ID_DIGITS and node.text[n] not in b".eE" and memcmp(node.text, "-0", 2) != 0:
            return PyBytes_FromStringAndSize(<const char *> node.text, n)
    raise _wrong("id is neither a string nor a whole number")
