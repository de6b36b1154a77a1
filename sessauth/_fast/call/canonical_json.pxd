"""The canonical form of a JSON object (docs/token-format.md, section 8.2)."""

from sessauth._fast.base.text cimport bytes_t
from sessauth._fast.call.json_reader cimport Document, JsonNode

cdef enum:
    # Most bytes for one byte of a string: \u and four digits.
    STRING_FACTOR = 6

# The canonical form, or None for bytes that are not arguments. Never longer than the input, unless that is empty.
cdef bytes canonical_of(bytes_t p, size_t n)
# Write a string with its quotes and return the end. `out` has room for STRING_FACTOR * n + 2 bytes.
cdef unsigned char *put_string(unsigned char *out, bytes_t p, size_t n) noexcept nogil
# The canonical form of an object of a document of `n` bytes, without one member (NULL: with all).
cdef bytes canonical_node(const Document *document, const JsonNode *node, size_t n, const JsonNode *without)
# Order of two members of an object, as pointers to their nodes, by their names' UTF-16 code units.
cdef int compare_names(const void *a, const void *b) noexcept nogil
# Write the shortest escape of a quote, a backslash or a control character, of 6 bytes at most. Return the end.
cdef unsigned char *put_escape(unsigned char *out, unsigned char c) noexcept nogil
