"""Readers of a call's JSON, as nodes, and of its resource, as segments (docs/token-format.md, section 8)."""

from libc.stdint cimport int64_t, uint32_t, uint8_t


cdef enum:
    # Types of a JSON value. NOTHING and NO_VALUE compare with nothing.
    TYPE_NO_VALUE = 0
    TYPE_TEXT = 1
    TYPE_NUMBER = 2
    TYPE_TRUTH = 3
    TYPE_LIST = 4
    TYPE_OBJECT = 5
    # A number with a value that NUMBER can't hold.
    TYPE_DECIMAL = 6

cdef struct JsonNode:
    # Nodes are in document order: a container's first child is the next node. `next` is the index of the first node
    # after this one's subtree.
    uint8_t type
    uint8_t truth
    uint32_t next
    uint32_t count      # of a container; DECIMAL: of its digits
    uint32_t name_n
    bytes_t name
    bytes_t text        # TEXT; for other scalars their position in the input
    int64_t units       # NUMBER; the length of a TEXT; DECIMAL: its exponent
    uint32_t nanos      # NUMBER; DECIMAL: where its digits begin in the text

cdef struct Document:
    JsonNode *nodes
    uint32_t used
    uint32_t room
    unsigned char *unescaped
    size_t unescaped_room
    size_t unescaped_used

cdef void document_init(Document *document) noexcept nogil
cdef void document_free(Document *document) noexcept nogil
cdef bint read_document_anew(Document *document, bytes_t p, size_t n) noexcept nogil

# Four hexadecimal digits of an escape; 0: they are none.
cdef bint hex4(bytes_t p, bytes_t end, uint32_t *code) noexcept nogil
# Return the end of at most four bytes of output.
cdef unsigned char *put_utf8(unsigned char *out, uint32_t code) noexcept nogil

cdef inline void decimal_of_node(const JsonNode *node, Decimal *out) noexcept nogil:
    """Return the value of a DECIMAL."""
    out.negative = node.truth
    out.digits = node.text + node.nanos
    out.count = node.count
    out.adjusted = node.units

cdef inline bint read_document(Document *document, bytes_t p, size_t n) noexcept nogil:
    """Read a JSON object. 1: success; 0: malformed."""
    # No bytes are an empty object, and mostly the last document was empty too.
    if n == 0 and document.used == 1 and document.nodes[0].type == TYPE_OBJECT and document.nodes[0].next == 1:
        return 1
    return read_document_anew(document, p, n)


# A resource, split into segments (docs/token-format.md, section 8).

cdef struct TextSlice:
    bytes_t p
    size_t n

cdef enum:
    MARKED_SEGMENTS = 2

cdef inline uint32_t next_mark(uint32_t before, bytes_t p, size_t n) noexcept nogil:
    """Extend the mark of a run of segments by one segment. Runs with different marks differ."""
    return before * 31 + mark(p, n)

cdef struct Resource:
    int count
    # Marks of the first zero, one and two segments.
    uint32_t marks[MARKED_SEGMENTS + 1]
    TextSlice parts[MAX_SEGMENTS]

# 0: malformed.
cdef bint split_resource(bytes_t p, size_t n, Resource *out) noexcept nogil
