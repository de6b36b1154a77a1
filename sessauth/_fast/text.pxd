"""What texts may look like, and what is read out of them (docs/token-format.md, 4-7)."""

from libc.stdint cimport int64_t, uint32_t

ctypedef const unsigned char *bytes_t

cdef inline bint is_digit(unsigned char c) noexcept nogil:
    return 0x30 <= c <= 0x39

cdef inline bint is_letter(unsigned char c) noexcept nogil:
    return 0x41 <= c <= 0x5A or 0x61 <= c <= 0x7A

cdef inline bint is_hex(unsigned char c) noexcept nogil:
    return is_digit(c) or 0x41 <= c <= 0x46 or 0x61 <= c <= 0x66

cdef bint has_control(bytes_t p, size_t n) noexcept nogil
cdef bint has_percent_hex(bytes_t p, size_t n) noexcept nogil
cdef bint is_text(bytes_t p, size_t n) noexcept nogil
cdef bint is_action(bytes_t p, size_t n) noexcept nogil
cdef bint is_fact_name(bytes_t p, size_t n) noexcept nogil
cdef bint is_plain_segment(bytes_t p, size_t n, bint dots_allowed) noexcept nogil
cdef bint is_clean_path(bytes_t p, size_t n) noexcept nogil
cdef bint is_under(bytes_t v, size_t vn, bytes_t w, size_t wn) noexcept nogil
cdef bint is_glob(bytes_t p, size_t n) noexcept nogil
cdef bint glob_matches(bytes_t pattern, size_t pn, bytes_t text, size_t tn) noexcept nogil
# 1: a value; 0: well-formed, but no value; -1: not a JSON number. *used is its length.
cdef int parse_number(bytes_t p, size_t n, int64_t *units, uint32_t *nanos, size_t *used) noexcept nogil
