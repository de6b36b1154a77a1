"""The equality form of a JSON value (docs/token-format.md, section 7.1)."""

from libc.stdint cimport uint8_t, uint32_t

from sessauth._fast.base.limits cimport MAX_STRING_BYTES
from sessauth._fast.base.text cimport bytes_t
from sessauth._fast.call.json_reader cimport JsonNode
from sessauth._fast.crypto.hashing cimport Hashing

cdef enum:
    DIGEST_BYTES = 32

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

# Form a value, for at most `work` steps, which are taken off. `out.hashed` is the caller's wish for a digest.
cdef Formed form_json(const JsonNode *nodes, const JsonNode *node, uint32_t *work, JsonForm *out) noexcept nogil
# 1: n bytes are the equality form of a JSON value. `plain`: TYPE_TEXT, TYPE_NUMBER or TYPE_TRUTH, 0 for other values.
cdef bint is_json_form(bytes_t p, size_t n, uint8_t *plain) noexcept nogil
