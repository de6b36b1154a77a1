"""Lookup of JSON values by path (docs/token-format.md, section 6.3)."""

from libc.stdint cimport uint32_t

cdef inline const JsonNode *find_member(const JsonNode *nodes, const JsonNode *of, bytes_t name, size_t n) noexcept nogil:
    """Return an object's member by exact name, or NULL. ``nodes`` are those of its document."""
    cdef uint32_t i = <uint32_t> (of - nodes) + 1
    cdef uint32_t end = of.next
    while i < end:
        if nodes[i].name_n == n and same(nodes[i].name, name, n):
            return nodes + i
        i = nodes[i].next
    return NULL

cdef inline const JsonNode *find_node(const Document *document, const Path *path, bytes_t base) noexcept nogil:
    """Return the node at a path, or NULL. A path descends by exact names, through objects only."""
    cdef const JsonNode *node = document.nodes
    cdef ByteSpan segment = path.first
    cdef int depth
    for depth in range(path.count):
        if node.type != TYPE_OBJECT:
            return NULL
        if depth:
            next_text(base, &segment)
        node = find_member(document.nodes, node, base + segment.at, segment.n)
        if node == NULL:
            return NULL
    return node
