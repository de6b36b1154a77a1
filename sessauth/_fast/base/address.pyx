"""IP addresses and URLs, read strictly (docs/token-format.md, sections 4, 6.4 and 6.9).

Text that two parsers could read differently is refused.
"""

from libc.string cimport memchr, memcmp, memcpy, memset

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


cdef extern from "arpa/inet.h" nogil:
    int inet_pton(int family, const char *text, void *out)
    int AF_INET6


cdef bint _parse_ipv4(bytes_t p, size_t n, unsigned char *octets) noexcept nogil:
    cdef size_t i = 0
    cdef int octet, digits, value
    for octet in range(4):
        value = 0
        digits = 0
        while i < n and is_digit(p[i]):
            if digits == 3 or (digits and value == 0):
                return 0
            value = value * 10 + (p[i] - 0x30)
            digits += 1
            i += 1
        if digits == 0 or value > 255:
            return 0
        octets[octet] = <unsigned char> value
        if octet < 3:
            if i >= n or p[i] != 0x2E:
                return 0
            i += 1
    return i == n


cdef bint parse_address(bytes_t p, size_t n, Address *out) noexcept nogil:
    """Parse IPv4 or IPv6 text. A v4-mapped address becomes the IPv4 address in it."""
    cdef char text[48]
    cdef unsigned char octets[16]
    cdef size_t i
    memset(out.octets, 0, 16)
    if n < 2 or n > 45:
        return 0
    if memchr(p, 0x3A, n) == NULL:
        out.family = 4
        return _parse_ipv4(p, n, out.octets)
    for i in range(n):
        if not (is_hex(p[i]) or p[i] == 0x3A or p[i] == 0x2E):
            return 0
    memcpy(text, p, n)
    text[n] = 0
    if inet_pton(AF_INET6, text, octets) != 1:
        return 0
    for i in range(10):
        if octets[i] != 0:
            break
    else:
        if octets[10] == 0xFF and octets[11] == 0xFF:
            out.family = 4
            memcpy(out.octets, octets + 12, 4)
            return 1
    out.family = 6
    memcpy(out.octets, octets, 16)
    return 1


cdef bint parse_cidr(bytes_t p, size_t n, Address *out, int *length) noexcept nogil:
    cdef bytes_t slash = <bytes_t> memchr(p, 0x2F, n)
    cdef size_t digits
    cdef int value = 0
    cdef int bits, i
    if slash == NULL:
        return 0
    digits = n - (slash - p) - 1
    if not 1 <= digits <= 3 or (digits > 1 and slash[1] == 0x30):
        return 0
    for i in range(<int> digits):
        if not is_digit(slash[1 + i]):
            return 0
        value = value * 10 + (slash[1 + i] - 0x30)
    if not parse_address(p, slash - p, out):
        return 0
    if out.family == 4 and memchr(p, 0x3A, slash - p) != NULL:
        # Written as IPv6 inside ::ffff:0:0/96.
        return 0
    bits = 32 if out.family == 4 else 128
    if value > bits:
        return 0
    for i in range(value, bits):
        if out.octets[i >> 3] & (0x80 >> (i & 7)):
            return 0
    length[0] = value
    return 1


cdef bint in_cidr(const Address *address, const Address *network, int length) noexcept nogil:
    cdef int whole = length >> 3
    cdef int rest = length & 7
    cdef unsigned char mask
    if address.family != network.family or memcmp(address.octets, network.octets, whole) != 0:
        return 0
    if rest == 0:
        return 1
    mask = <unsigned char> (0xFF << (8 - rest))
    return (address.octets[whole] & mask) == (network.octets[whole] & mask)


# --- URLs ---------------------------------------------------------------------------------------

cdef bint _equals_folded(bytes_t p, size_t n, const char *lower, size_t m) noexcept nogil:
    cdef size_t i
    if n != m:
        return 0
    for i in range(n):
        if (p[i] | 0x20) != <unsigned char> lower[i]:
            return 0
    return 1


cdef bint _is_host(bytes_t p, size_t n) noexcept nogil:
    cdef size_t i
    cdef size_t start = 0
    cdef bint digits_only = 1
    cdef Address address
    if not 1 <= n <= 253:
        return 0
    for i in range(n):
        if p[i] == 0x2E:
            if i == start:
                return 0
            start = i + 1
        elif not (is_letter(p[i]) or is_digit(p[i]) or p[i] == 0x2D or p[i] == 0x5F):
            return 0
    if start == n:
        return 0
    for i in range(start, n):
        if not is_digit(p[i]):
            digits_only = 0
            break
    # Some clients read these as an IPv4 address in another spelling.
    if digits_only or (n - start >= 2 and p[start] == 0x30 and (p[start + 1] | 0x20) == 0x78):
        return _parse_ipv4(p, n, address.octets)
    return 1


cdef bint parse_url(bytes_t p, size_t n, Url *out) noexcept nogil:
    """Parse an unambiguous absolute URL. Host and scheme point into the text."""
    cdef size_t i, at, end, colon
    cdef unsigned char c
    cdef Address address
    for i in range(n):
        c = p[i]
        if c < 0x21 or c > 0x7E or c == 0x5C or c == 0x22 or c == 0x3C or c == 0x3E:
            return 0
        if c == 0x5E or c == 0x60 or c == 0x7B or c == 0x7C or c == 0x7D:
            return 0
    if n == 0 or not is_letter(p[0]):
        return 0
    at = 1
    while at < n and (is_letter(p[at]) or is_digit(p[at]) or p[at] == 0x2B or p[at] == 0x2D or p[at] == 0x2E):
        at += 1
    if at > MAX_SCHEME_CHARS or at + 3 > n or p[at] != 0x3A or p[at + 1] != 0x2F or p[at + 2] != 0x2F:
        return 0
    out.scheme = p
    out.scheme_n = at
    at += 3
    end = at
    while end < n and p[end] != 0x2F and p[end] != 0x3F and p[end] != 0x23:
        if p[end] == 0x40 or p[end] == 0x25:
            return 0
        end += 1
    if at < end and p[at] == 0x5B:
        colon = at
        while colon < end and p[colon] != 0x5D:
            colon += 1
        if colon == end:
            return 0
        out.host = p + at + 1
        out.host_n = colon - at - 1
        if memchr(out.host, 0x3A, out.host_n) == NULL or not parse_address(out.host, out.host_n, &address):
            return 0
        colon += 1
    else:
        colon = at
        while colon < end and p[colon] != 0x3A:
            colon += 1
        out.host = p + at
        out.host_n = colon - at
        if not _is_host(out.host, out.host_n):
            return 0
    if colon == end:
        out.port = _default_port(p, out.scheme_n)
        return 1
    if p[colon] != 0x3A or not 1 <= end - colon - 1 <= 5 or (end - colon - 1 > 1 and p[colon + 1] == 0x30):
        return 0
    out.port = 0
    for i in range(colon + 1, end):
        if not is_digit(p[i]):
            return 0
        out.port = out.port * 10 + (p[i] - 0x30)
    return out.port <= 65535


cdef int _default_port(bytes_t p, size_t n) noexcept nogil:
    if _equals_folded(p, n, "http", 4) or _equals_folded(p, n, "ws", 2):
        return 80
    if _equals_folded(p, n, "https", 5) or _equals_folded(p, n, "wss", 3):
        return 443
    return -1
