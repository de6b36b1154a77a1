"""What texts may look like, and what is read out of them (docs/token-format.md, 4, 6.4-6.9, 7)."""

from libc.stdint cimport int64_t, uint8_t, uint32_t

ctypedef const unsigned char *bytes_t

cdef struct Address:
    # 4 or 6; the address in network order in the first 4 or 16 bytes.
    int family
    unsigned char octets[16]

cdef struct Url:
    bytes_t scheme
    size_t scheme_n
    bytes_t host
    size_t host_n
    int port            # -1: none, and the scheme has no default

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
cdef bint parse_address(bytes_t p, size_t n, Address *out) noexcept nogil
cdef bint parse_cidr(bytes_t p, size_t n, Address *out, int *length) noexcept nogil
cdef bint in_cidr(const Address *address, const Address *network, int length) noexcept nogil
cdef bint parse_url(bytes_t p, size_t n, Url *out) noexcept nogil
# 1: a value; 0: well-formed, but no value; -1: not a JSON number. *used is its length.
cdef int parse_number(bytes_t p, size_t n, int64_t *units, uint32_t *nanos, size_t *used) noexcept nogil
