"""IP addresses and URLs (docs/token-format.md, sections 4, 6.4 and 6.9)."""

from sessauth._fast.base.text cimport bytes_t

cdef struct Address:
    # 4 or 6. The address fills the first 4 or 16 octets, in network order.
    int family
    unsigned char octets[16]

cdef struct Url:
    bytes_t scheme
    size_t scheme_n
    bytes_t host
    size_t host_n
    int port            # -1: not stated, and the scheme has no default

cdef bint parse_address(bytes_t p, size_t n, Address *out) noexcept nogil
cdef bint parse_cidr(bytes_t p, size_t n, Address *out, int *length) noexcept nogil
cdef bint in_cidr(const Address *address, const Address *network, int length) noexcept nogil
cdef bint parse_url(bytes_t p, size_t n, Url *out) noexcept nogil
