"""The equality form of a JSON value: one text for all texts that are equal (docs/token-format.md, section 7.1).

It is the canonical form, but a number has one spelling. The form is never stored whole: its beginning is compared, and
its digest.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memcmp, memcpy

from sessauth._fast.codec.errors import FormError

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

    Raises FormError for bytes that are no JSON value within the limits of a request, and for one without a form.
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
    """Read an object of one member, so that nothing but a value stands in it."""
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


# Form a value, for at most `work` steps, which are taken off. `out.hashed` is the caller's wish for a digest.
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
    """Add a value. ``order`` has room for every node below it. The reader bounds the depth of the recursion."""
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
