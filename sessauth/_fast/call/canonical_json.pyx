"""The canonical form of a JSON object: one text for all equivalent texts (docs/token-format.md, section 8.2).

Members are sorted, white space is dropped, strings have the shortest escapes, and numbers keep their spelling. The
input is parsed by the reader that checks use, so both refuse the same texts.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint32_t
from libc.stdlib cimport free, malloc, qsort
from libc.string cimport memcpy

cdef enum:
    # Most bytes for one byte of a string: \u and four digits.
    STRING_FACTOR = 6


# The canonical form, or None for bytes that are not arguments. Never longer than the input, unless that is empty.
cdef bytes canonical_of(bytes_t p, size_t n):
    cdef Document document
    cdef const JsonNode **order = NULL
    cdef bytes room = PyBytes_FromStringAndSize(NULL, n + 2)
    cdef unsigned char *start = <unsigned char *> PyBytes_AS_STRING(room)
    cdef unsigned char *end = start
    cdef bint formed
    document_init(&document)
    try:
        with nogil:
            formed = read_document(&document, p, n)
            if formed:
                order = <const JsonNode **> malloc(document.used * sizeof(JsonNode *))
                if order != NULL:
                    end = _put_canonical(start, document.nodes, document.nodes, order)
        if not formed:
            return None
        if order == NULL:
            raise MemoryError
        return PyBytes_FromStringAndSize(<const char *> start, end - start)
    finally:
        free(order)
        document_free(&document)


# The canonical form of an object of a document of `n` bytes, without one member (NULL: with all).
cdef bytes canonical_node(const Document *document, const JsonNode *node, size_t n, const JsonNode *without):
    cdef bytes room = PyBytes_FromStringAndSize(NULL, n + 2)
    cdef unsigned char *start = <unsigned char *> PyBytes_AS_STRING(room)
    cdef unsigned char *end
    cdef const JsonNode **order = <const JsonNode **> malloc(document.used * sizeof(JsonNode *))
    if order == NULL:
        raise MemoryError
    end = _put_canonical_container(start, document.nodes, node, order, without)
    free(order)
    return PyBytes_FromStringAndSize(<const char *> start, end - start)


cdef unsigned char *_put_canonical(
    unsigned char *out, const JsonNode *nodes, const JsonNode *node, const JsonNode **order
) noexcept nogil:
    """Write a value. ``order`` has room for every node below it. The reader bounds the depth of the recursion."""
    if node.type == TYPE_TEXT:
        return put_string(out, node.text, node.units)
    if node.type == TYPE_TRUTH:
        return <unsigned char *> put_plain(<char *> out, "true" if node.truth else "false")
    if node.type != TYPE_OBJECT and node.type != TYPE_LIST:
        return _put_canonical_number(out, node.text)
    return _put_canonical_container(out, nodes, node, order, NULL)


cdef unsigned char *_put_canonical_container(
    unsigned char *out, const JsonNode *nodes, const JsonNode *node, const JsonNode **order, const JsonNode *without
) noexcept nogil:
    """Write an object or a list but for one child."""
    cdef bint is_object = node.type == TYPE_OBJECT
    cdef uint32_t at = <uint32_t> (node - nodes) + 1
    cdef uint32_t count = 0
    cdef uint32_t i, _
    for _ in range(node.count):
        if nodes + at != without:
            order[count] = nodes + at
            count += 1
        at = nodes[at].next
    if is_object:
        qsort(order, count, sizeof(JsonNode *), compare_names)
    out[0] = 0x7B if is_object else 0x5B
    out += 1
    for i in range(count):
        if i:
            out[0] = 0x2C
            out += 1
        if is_object:
            out = put_string(out, order[i].name, order[i].name_n)
            out[0] = 0x3A
            out += 1
        out = _put_canonical(out, nodes, order[i], order + count)
    out[0] = 0x7D if is_object else 0x5D
    return out + 1


cdef unsigned char *_put_canonical_number(unsigned char *out, bytes_t p) noexcept nogil:
    """Copy a number, or null. The byte behind it belongs to neither."""
    if p[0] == 0x6E:
        return <unsigned char *> put_plain(<char *> out, "null")
    while is_digit(p[0]) or p[0] == 0x2D or p[0] == 0x2B or p[0] == 0x2E or (p[0] | 0x20) == 0x65:
        out[0] = p[0]
        out += 1
        p += 1
    return out


# Write a string with its quotes and return the end. `out` has room for STRING_FACTOR * n + 2 bytes.
cdef unsigned char *put_string(unsigned char *out, bytes_t p, size_t n) noexcept nogil:
    cdef bytes_t end = p + n
    cdef bytes_t start
    out[0] = 0x22
    out += 1
    while p < end:
        start = p
        while p < end and not kinds[p[0]] & STOP:
            p += 1
        memcpy(out, start, p - start)
        out += p - start
        if p < end:
            out = put_escape(out, p[0])
            p += 1
    out[0] = 0x22
    return out + 1


cdef unsigned char *put_escape(unsigned char *out, unsigned char c) noexcept nogil:
    """Write the shortest JSON escape of a quote, a backslash or a control character."""
    cdef unsigned char letter = 0
    if c == 0x22 or c == 0x5C:
        letter = c
    elif c == 0x08:
        letter = 0x62
    elif c == 0x09:
        letter = 0x74
    elif c == 0x0A:
        letter = 0x6E
    elif c == 0x0C:
        letter = 0x66
    elif c == 0x0D:
        letter = 0x72
    out[0] = 0x5C
    if letter:
        out[1] = letter
        return out + 2
    memcpy(out + 1, <const char *> "u00", 3)
    out[4] = hex_digit(c >> 4)
    out[5] = hex_digit(c & 15)
    return out + 6


cdef int compare_names(const void *a, const void *b) noexcept nogil:
    """Compare UTF-8 names by their UTF-16 code units (RFC 8785)."""
    cdef const JsonNode *x = (<const JsonNode **> a)[0]
    cdef const JsonNode *y = (<const JsonNode **> b)[0]
    cdef uint32_t n = min(x.name_n, y.name_n)
    cdef uint32_t i
    for i in range(n):
        if x.name[i] != y.name[i]:
            return -1 if _rank(x.name[i]) < _rank(y.name[i]) else 1
    return (x.name_n > y.name_n) - (x.name_n < y.name_n)


cdef inline int _rank(unsigned char c) noexcept nogil:
    """Return the sort rank of a UTF-8 byte: U+E000 to U+FFFF sort after characters of two code units."""
    return c + 0x10 if c == 0xEE or c == 0xEF else c
