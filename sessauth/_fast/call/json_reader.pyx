"""Strict readers of a call's JSON and of its resource (docs/token-format.md, section 8).

JSON becomes a flat list of nodes. The grammar is RFC 8259, restricted: no duplicate names, no lone surrogates, bounded
bytes, depth and number of values. The input may be hostile. A malformed text yields no nodes at all.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc, qsort, realloc
from libc.string cimport memcmp


cdef struct Cursor:
    bytes_t p
    bytes_t end
    Document *document


cdef void document_init(Document *document) noexcept nogil:
    document.nodes = NULL
    document.used = 0
    document.room = 0
    document.unescaped = NULL
    document.unescaped_room = 0
    document.unescaped_used = 0


cdef void document_free(Document *document) noexcept nogil:
    free(document.nodes)
    free(document.unescaped)
    document_init(document)


cdef bint read_document_anew(Document *document, bytes_t p, size_t n) noexcept nogil:
    """Read a JSON object. Empty input is an empty object."""
    cdef Cursor cursor
    document.used = 0
    document.unescaped_used = 0
    if n == 0:
        return _append(document, TYPE_OBJECT, NULL, 0) != NULL and _close(document, 0, 0)
    if n > MAX_JSON_BYTES or not utf8_valid(p, n):
        return 0
    cursor.p = p
    cursor.end = p + n
    cursor.document = document
    _skip(&cursor)
    if cursor.p == cursor.end or cursor.p[0] != 0x7B or not _container(&cursor, 1, 1, NULL, 0):
        return 0
    _skip(&cursor)
    return cursor.p == cursor.end


cdef inline void _skip(Cursor *cursor) noexcept nogil:
    cdef unsigned char c
    while cursor.p < cursor.end:
        c = cursor.p[0]
        if c > 0x20 or (c != 0x20 and c != 0x09 and c != 0x0A and c != 0x0D):
            return
        cursor.p += 1


cdef inline JsonNode *_append(Document *document, int type, bytes_t name, size_t name_n) noexcept nogil:
    cdef uint32_t room
    cdef void *nodes
    cdef JsonNode *node
    if document.used == document.room:
        if document.used >= MAX_JSON_VALUES:
            return NULL
        room = document.room * 2 if document.room else 32
        if room > MAX_JSON_VALUES:
            room = MAX_JSON_VALUES
        nodes = realloc(document.nodes, room * sizeof(JsonNode))
        if nodes == NULL:
            return NULL
        document.nodes = <JsonNode *> nodes
        document.room = room
    node = document.nodes + document.used
    document.used += 1
    node.type = <unsigned char> type
    node.truth = 0
    node.next = document.used
    node.count = 0
    node.name = name
    node.name_n = <uint32_t> name_n
    node.text = NULL
    node.units = 0
    node.nanos = 0
    return node


cdef bint _close(Document *document, uint32_t index, uint32_t count) noexcept nogil:
    document.nodes[index].count = count
    document.nodes[index].next = document.used
    return 1


cdef bint _word(Cursor *cursor, const char *word, size_t n) noexcept nogil:
    if <size_t> (cursor.end - cursor.p) < n or memcmp(cursor.p, word, n) != 0:
        return 0
    cursor.p += n
    return 1


cdef inline bint _plain_value(Cursor *cursor, unsigned char c, bytes_t name, size_t name_n) noexcept nogil:
    """Read a scalar whose first byte is ``c``."""
    cdef JsonNode *node
    cdef Decimal decimal
    cdef bytes_t text
    cdef size_t n
    cdef int kind
    if c == 0x22:
        if not _string(cursor, &text, &n):
            return 0
        node = _append(cursor.document, TYPE_TEXT, name, name_n)
        if node == NULL:
            return 0
        node.text = text
        node.units = <int64_t> n
        return 1
    node = _append(cursor.document, TYPE_NO_VALUE, name, name_n)
    if node == NULL:
        return 0
    node.text = cursor.p
    if c == 0x74:
        node.type = TYPE_TRUTH
        node.truth = 1
        return _word(cursor, "true", 4)
    if c == 0x66:
        node.type = TYPE_TRUTH
        return _word(cursor, "false", 5)
    if c == 0x6E:
        return _word(cursor, "null", 4)
    kind = parse_number(cursor.p, cursor.end - cursor.p, &node.units, &node.nanos, &n)
    if kind < 0:
        return 0
    if kind == 1:
        node.type = TYPE_NUMBER
    elif read_decimal(cursor.p, n, &decimal):
        node.type = TYPE_DECIMAL
        node.truth = decimal.negative
        node.nanos = <uint32_t> (decimal.digits - cursor.p)
        node.count = decimal.count
        node.units = decimal.adjusted
    cursor.p += n
    return 1


cdef bint _container(Cursor *cursor, int depth, bint is_object, bytes_t own_name, size_t own_name_n) noexcept nogil:
    cdef Document *document = cursor.document
    cdef uint32_t index = document.used
    cdef uint32_t count = 0
    cdef unsigned char closing = 0x7D if is_object else 0x5D
    cdef unsigned char c
    cdef bytes_t name = NULL
    cdef size_t name_n = 0
    cdef uint64_t bit
    cdef uint64_t bits = 0
    cdef uint64_t alike = 0
    if depth > MAX_JSON_DEPTH:
        return 0
    if _append(document, TYPE_OBJECT if is_object else TYPE_LIST, own_name, own_name_n) == NULL:
        return 0
    cursor.p += 1
    _skip(cursor)
    if cursor.p < cursor.end and cursor.p[0] == closing:
        cursor.p += 1
        return _close(document, index, 0)
    while True:
        if is_object:
            if cursor.p == cursor.end or cursor.p[0] != 0x22 or not _string(cursor, &name, &name_n):
                return 0
            _skip(cursor)
            if cursor.p == cursor.end or cursor.p[0] != 0x3A:
                return 0
            cursor.p += 1
            _skip(cursor)
            bit = _name_bit(name, name_n)
            alike |= bits & bit
            bits |= bit
        if cursor.p == cursor.end:
            return 0
        c = cursor.p[0]
        if c == 0x7B or c == 0x5B:
            if not _container(cursor, depth + 1, c == 0x7B, name, name_n):
                return 0
        elif not _plain_value(cursor, c, name, name_n):
            return 0
        count += 1
        _skip(cursor)
        if cursor.p == cursor.end:
            return 0
        if cursor.p[0] == closing:
            cursor.p += 1
            _close(document, index, count)
            return not alike or _names_differ(document, index)
        if cursor.p[0] != 0x2C:
            return 0
        cursor.p += 1
        _skip(cursor)


cdef int _compare_names(const void *a, const void *b) noexcept nogil:
    cdef const JsonNode *x = (<const JsonNode **> a)[0]
    cdef const JsonNode *y = (<const JsonNode **> b)[0]
    if x.name_n != y.name_n:
        return -1 if x.name_n < y.name_n else 1
    return memcmp(x.name, y.name, x.name_n)


cdef inline uint64_t _name_bit(bytes_t name, size_t n) noexcept nogil:
    """Map a name to one of 64 bits. Equal names share a bit."""
    return (<uint64_t> 1) << ((n * 5 + (name[0] if n else 0)) & 63)


cdef bint _names_differ(Document *document, uint32_t index) noexcept nogil:
    """Compare few names pairwise and sort more, so that hostile input can't cause quadratic work."""
    cdef JsonNode *nodes = document.nodes
    cdef uint32_t count = nodes[index].count
    cdef uint32_t end = nodes[index].next
    cdef uint32_t i, j, k
    cdef JsonNode **order
    cdef bint differ = 1
    if count < 2:
        return 1
    if count <= 12:
        i = index + 1
        while i < end:
            j = nodes[i].next
            while j < end:
                if nodes[i].name_n == nodes[j].name_n and same(nodes[i].name, nodes[j].name, nodes[i].name_n):
                    return 0
                j = nodes[j].next
            i = nodes[i].next
        return 1
    order = <JsonNode **> malloc(count * sizeof(JsonNode *))
    if order == NULL:
        return 0
    i = index + 1
    k = 0
    while i < end:
        order[k] = nodes + i
        k += 1
        i = nodes[i].next
    qsort(order, count, sizeof(JsonNode *), _compare_names)
    for k in range(1, count):
        if _compare_names(order + k - 1, order + k) == 0:
            differ = 0
            break
    free(order)
    return differ


cdef inline bint _string(Cursor *cursor, bytes_t *text, size_t *n) noexcept nogil:
    """Read a string. The text points into the request, or with escapes into the unescaped bytes."""
    cdef bytes_t start
    cdef unsigned char c
    cdef int run
    cursor.p += 1
    start = cursor.p
    while cursor.p < cursor.end:
        if cursor.end - cursor.p >= 8:
            run = plain_run(cursor.p)
            cursor.p += run
            if run == 8:
                continue
        c = cursor.p[0]
        if not kinds[c] & STOP:
            cursor.p += 1
            continue
        if c == 0x22:
            text[0] = start
            n[0] = cursor.p - start
            cursor.p += 1
            return 1
        return c == 0x5C and _escaped_string(cursor, start, text, n)
    return 0


cdef bint _escaped_string(Cursor *cursor, bytes_t start, bytes_t *text, size_t *n) noexcept nogil:
    cdef Document *document = cursor.document
    cdef size_t room = cursor.end - start
    cdef unsigned char *out
    cdef unsigned char *begin
    cdef unsigned char c
    cdef uint32_t code, low
    cdef void *grown
    cdef bytes_t p
    if document.unescaped_used == 0 and document.unescaped_room < room:
        # Allocated once a document: unescaped text is never longer than its escaped form, so later strings fit after
        # it and no pointer moves.
        grown = realloc(document.unescaped, room)
        if grown == NULL:
            return 0
        document.unescaped = <unsigned char *> grown
        document.unescaped_room = room
    begin = document.unescaped + document.unescaped_used
    out = begin
    p = start
    while p < cursor.end:
        c = p[0]
        p += 1
        if c == 0x22:
            text[0] = begin
            n[0] = out - begin
            document.unescaped_used += out - begin
            cursor.p = p
            return 1
        if c < 0x20:
            return 0
        if c != 0x5C:
            out[0] = c
            out += 1
            continue
        if p == cursor.end:
            return 0
        c = p[0]
        p += 1
        if c == 0x22 or c == 0x5C or c == 0x2F:
            out[0] = c
        elif c == 0x62:
            out[0] = 0x08
        elif c == 0x66:
            out[0] = 0x0C
        elif c == 0x6E:
            out[0] = 0x0A
        elif c == 0x72:
            out[0] = 0x0D
        elif c == 0x74:
            out[0] = 0x09
        elif c == 0x75:
            if not hex4(p, cursor.end, &code):
                return 0
            p += 4
            if 0xDC00 <= code <= 0xDFFF:
                return 0
            if 0xD800 <= code <= 0xDBFF:
                if cursor.end - p < 6 or p[0] != 0x5C or p[1] != 0x75 or not hex4(p + 2, cursor.end, &low):
                    return 0
                if not 0xDC00 <= low <= 0xDFFF:
                    return 0
                p += 6
                code = 0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00)
            out = put_utf8(out, code)
            continue
        else:
            return 0
        out += 1
    return 0


cdef bint hex4(bytes_t p, bytes_t end, uint32_t *code) noexcept nogil:
    cdef int i
    cdef unsigned char c
    code[0] = 0
    if end - p < 4:
        return 0
    for i in range(4):
        c = p[i]
        if 0x30 <= c <= 0x39:
            c -= 0x30
        elif 0x41 <= c <= 0x46 or 0x61 <= c <= 0x66:
            c = (c | 0x20) - 0x57
        else:
            return 0
        code[0] = (code[0] << 4) | c
    return 1


cdef unsigned char *put_utf8(unsigned char *out, uint32_t code) noexcept nogil:
    if code < 0x80:
        out[0] = <unsigned char> code
        return out + 1
    if code < 0x800:
        out[0] = <unsigned char> (0xC0 | (code >> 6))
        out[1] = <unsigned char> (0x80 | (code & 0x3F))
        return out + 2
    if code < 0x10000:
        out[0] = <unsigned char> (0xE0 | (code >> 12))
        out[1] = <unsigned char> (0x80 | ((code >> 6) & 0x3F))
        out[2] = <unsigned char> (0x80 | (code & 0x3F))
        return out + 3
    out[0] = <unsigned char> (0xF0 | (code >> 18))
    out[1] = <unsigned char> (0x80 | ((code >> 12) & 0x3F))
    out[2] = <unsigned char> (0x80 | ((code >> 6) & 0x3F))
    out[3] = <unsigned char> (0x80 | (code & 0x3F))
    return out + 4


# A resource, split into segments.

cdef bint split_resource(bytes_t p, size_t n, Resource *out) noexcept nogil:
    cdef bytes_t end = p + n
    cdef bytes_t start
    cdef int classes, kind
    cdef int count = 0
    cdef int all_classes = 0
    out.count = 0
    out.marks[0] = 0
    # The bound of a resource is also that of a segment, so no segment is too long.
    if not 1 <= n <= MAX_RESOURCE_BYTES:
        return 0
    while True:
        start = p
        classes = 0
        while p < end:
            kind = kinds[p[0]]
            if kind & SLASH:
                break
            classes |= kind
            p += 1
        if count >= MAX_SEGMENTS or not is_plain(start, p - start, classes, 0):
            return 0
        out.parts[count].p = start
        out.parts[count].n = p - start
        count += 1
        if count <= MARKED_SEGMENTS:
            out.marks[count] = next_mark(out.marks[count - 1], start, p - start)
        all_classes |= classes
        if p == end:
            out.count = count
            return not all_classes & HIGH or utf8_valid(end - n, n)
        p += 1
