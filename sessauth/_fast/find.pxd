"""A value in a request's JSON, looked up by its path (docs/token-format.md, section 6.3)."""

from libc.stdint cimport uint32_t

from sessauth._fast.condition cimport Path, Span, next_text
from sessauth._fast.request cimport TYPE_OBJECT, Document, Node
from sessauth._fast.text cimport bytes_t, same


cdef inline const Node *find_node(const Document *document, const Path *path, bytes_t base) noexcept nogil:
    """The node at a path, or NULL: members of objects by exact name, through anything else nothing."""
    cdef const Node *nodes = document.nodes
    cdef const Node *node = nodes
    cdef Span segment = path.first
    cdef uint32_t i, end
    cdef int depth
    for depth in range(path.count):
        if node.type != TYPE_OBJECT:
            return NULL
        if depth:
            next_text(base, &segment)
        i = <uint32_t> (node - nodes) + 1
        end = node.next
        node = NULL
        while i < end:
            if nodes[i].name_n == segment.n and same(nodes[i].name, base + segment.at, segment.n):
                node = nodes + i
                break
            i = nodes[i].next
        if node == NULL:
            return NULL
    return node
