"""Addresses, exact decimals, and the mask for secrets in texts.

IP addresses, URLs and e-mail addresses are read strictly (docs/token-format.md, sections 4, 6.4 and 6.9): a text that two
parsers could read differently is refused. Decimals compare numbers that are too large or too precise for NUMBER.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memchr, memcmp, memcpy, memset, strlen


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
    bytes_t path        # up to the query or the fragment
    size_t path_n


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
    """Parse an unambiguous absolute URL. Scheme, host and path point into the text."""
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
    out.path = p + end
    out.path_n = 0
    while end + out.path_n < n and out.path[out.path_n] != 0x3F and out.path[out.path_n] != 0x23:
        out.path_n += 1
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


cdef bint is_clean_url_path(bytes_t p, size_t n) noexcept nogil:
    """Return 1 for a clean absolute path that every server reads alike: without escapes, and without parameters that
    some of them remove before they resolve `..`."""
    return n > 0 and p[0] == 0x2F and memchr(p, 0x25, n) == NULL and memchr(p, 0x3B, n) == NULL and is_clean_path(p, n)


cdef bint parse_mailbox(bytes_t p, size_t n, bytes_t *domain, size_t *domain_n) noexcept nogil:
    """Parse an e-mail address in its plainest form. The domain points into the text."""
    cdef bytes_t at = <bytes_t> memchr(p, 0x40, n)
    cdef Address address
    cdef unsigned char c
    cdef size_t i, local
    if at == NULL:
        return 0
    local = at - p
    if not 1 <= local <= MAX_LOCAL_PART_CHARS:
        return 0
    for i in range(local):
        c = p[i]
        if c == 0x2E:
            if i == 0 or i + 1 == local or p[i + 1] == 0x2E:
                return 0
        elif not (is_letter(c) or is_digit(c) or c == 0x5F or c == 0x2D or c == 0x2B or c == 0x27 or c == 0x26):
            return 0
    domain[0] = at + 1
    domain_n[0] = n - local - 1
    return _is_host(domain[0], domain_n[0]) and not _parse_ipv4(domain[0], domain_n[0], address.octets)


cdef int _default_port(bytes_t p, size_t n) noexcept nogil:
    if _equals_folded(p, n, "http", 4) or _equals_folded(p, n, "ws", 2):
        return 80
    if _equals_folded(p, n, "https", 5) or _equals_folded(p, n, "wss", 3):
        return 443
    return -1


# Exact decimal numbers of any size (docs/token-format.md, section 7).
#
# Nothing is rounded and no arithmetic is done: numbers are compared by sign, exponent and digits.

# Read a well-formed JSON number of n bytes. 0: it has no value.
cdef bint read_decimal(bytes_t p, size_t n, Decimal *out) noexcept nogil:
    cdef bytes_t end = p + n
    cdef int64_t exponent = 0
    cdef int64_t before = 0         # digits before the point, from the first significant one
    cdef int64_t zeros = 0          # after the point, before the first significant digit
    cdef uint64_t span = 0          # digits from the first significant one to this one
    cdef bint point = 0
    cdef bint minus = 0
    out.negative = p < end and p[0] == 0x2D
    out.digits = NULL
    out.count = 0
    out.adjusted = 0
    p += out.negative
    while p < end and (is_digit(p[0]) or p[0] == 0x2E):
        if p[0] == 0x2E:
            point = 1
        elif out.digits != NULL or p[0] != 0x30:
            if out.digits == NULL:
                out.digits = p
            span += 1
            before += not point
            if p[0] != 0x30:
                if span > MAX_DECIMAL_DIGITS:
                    return 0
                out.count = <uint32_t> span
        else:
            zeros += point
        p += 1
    if out.digits == NULL:
        out.negative = 0
        return 1
    if p < end:
        p += 1
        if p[0] == 0x2B or p[0] == 0x2D:
            minus = p[0] == 0x2D
            p += 1
        while p < end:
            # At most 1 MiB of digits precede it.
            if exponent > 10 * <int64_t> MAX_DECIMAL_EXPONENT:
                return 0
            exponent = 10 * exponent + (p[0] - 0x30)
            p += 1
    out.adjusted = (-exponent if minus else exponent) + (before - 1 if before else -zeros - 1)
    return -MAX_DECIMAL_EXPONENT <= out.adjusted <= MAX_DECIMAL_EXPONENT


# units + nanos / 10^9. The digits are written into `room`.
cdef void decimal_of_number(int64_t units, uint32_t nanos, unsigned char *room, Decimal *out) noexcept nogil:
    cdef uint64_t whole = <uint64_t> units
    cdef uint32_t rest = nanos
    cdef int at = NUMBER_DIGITS
    cdef int i, _
    out.negative = units < 0
    if out.negative:
        # units is the floor: -0.5 is -1 + 0.5.
        whole = 0 - whole
        if nanos:
            whole -= 1
            rest = 1000000000 - nanos
    for _ in range(9):
        at -= 1
        room[at] = <unsigned char> (0x30 + rest % 10)
        rest //= 10
    while whole:
        at -= 1
        room[at] = <unsigned char> (0x30 + whole % 10)
        whole //= 10
    out.adjusted = NUMBER_DIGITS - at - 10
    while at < NUMBER_DIGITS and room[at] == 0x30:
        at += 1
        out.adjusted -= 1
    i = NUMBER_DIGITS
    while i > at and room[i - 1] == 0x30:
        i -= 1
    out.digits = room + at
    out.count = i - at
    if i == at:
        out.adjusted = 0


cdef inline unsigned char _next_digit(bytes_t *p) noexcept nogil:
    cdef unsigned char c = p[0][0]
    if c == 0x2E:
        p[0] += 1
        c = p[0][0]
    p[0] += 1
    return c


cdef int _size_order(const Decimal *a, const Decimal *b) noexcept nogil:
    cdef bytes_t p = a.digits
    cdef bytes_t q = b.digits
    cdef unsigned char c, d
    cdef uint32_t _
    if a.count == 0 or b.count == 0:
        return (a.count > 0) - (b.count > 0)
    if a.adjusted != b.adjusted:
        return -1 if a.adjusted < b.adjusted else 1
    for _ in range(a.count if a.count < b.count else b.count):
        c = _next_digit(&p)
        d = _next_digit(&q)
        if c != d:
            return -1 if c < d else 1
    # The last digit of each is not 0.
    return (a.count > b.count) - (a.count < b.count)


# Compare a and b: below, at or above 0.
cdef int decimal_order(const Decimal *a, const Decimal *b) noexcept nogil:
    if a.negative != b.negative:
        return -1 if a.negative else 1
    return -_size_order(a, b) if a.negative else _size_order(a, b)


cdef size_t put_decimal(unsigned char *out, const Decimal *value) noexcept nogil:
    """Lay the digits out as ECMAScript does (RFC 8785, 3.2.2.3)."""
    cdef unsigned char *p = out
    cdef bytes_t digits = value.digits
    cdef int64_t point = value.adjusted + 1
    cdef int64_t i, _
    cdef uint64_t size
    cdef unsigned char exponent[16]
    cdef int at = 16
    if value.count == 0:
        out[0] = 0x30
        return 1
    if value.negative:
        p[0] = 0x2D
        p += 1
    if 0 < point <= 21:
        for i in range(point if point > value.count else value.count):
            if i == point:
                p[0] = 0x2E
                p += 1
            p[0] = _next_digit(&digits) if i < value.count else 0x30
            p += 1
        return p - out
    if -6 < point <= 0:
        memcpy(p, <const char *> "0.00000", 7)
        p += 2 - point
        for _ in range(value.count):
            p[0] = _next_digit(&digits)
            p += 1
        return p - out
    for i in range(value.count):
        p[0] = _next_digit(&digits)
        p += 1
        if i == 0 and value.count > 1:
            p[0] = 0x2E
            p += 1
    p[0] = 0x65
    p[1] = 0x2B if point > 0 else 0x2D
    p += 2
    size = <uint64_t> (point - 1 if point > 0 else 1 - point)
    while size:
        at -= 1
        exponent[at] = <unsigned char> (0x30 + size % 10)
        size //= 10
    memcpy(p, exponent + at, 16 - at)
    return p + (16 - at) - out


# 1: the canonical form of a number that Number can't hold.
cdef bint is_canonical_decimal(bytes_t p, size_t n) noexcept nogil:
    cdef int64_t units
    cdef uint32_t nanos
    cdef size_t used
    cdef Decimal value
    cdef unsigned char form[MAX_DECIMAL_BYTES]
    if n > MAX_DECIMAL_DIGITS or parse_number(p, n, &units, &nanos, &used) != 0 or used != n:
        return 0
    return read_decimal(p, n, &value) and put_decimal(form, &value) == n and memcmp(form, p, n) == 0


# The mask for tokens, credentials and proofs in logs, records and errors.
#
# An agent may put a token where an action, a resource or a reason belongs. Stored and displayed copies of such a
# text must not carry a usable secret.

cdef const char *MASK = "..."
cdef const char *COMMON = "sessauth_"
cdef const char *KINDS[5]
KINDS[:] = ["token_", "secret_", "key_", "proof_", "approval_"]


cdef bint _of_secret(unsigned char c) noexcept nogil:
    return (
        0x30 <= c <= 0x39 or 0x41 <= c <= 0x5A or 0x61 <= c <= 0x7A
        or c == 0x5F or c == 0x2E or c == 0x3D or c == 0x2D
    )


# The length of the secret that begins here, 0 if none does. `shown`: the length of its visible prefix, which names
# the kind.
cdef size_t secret_at(bytes_t p, bytes_t end, size_t *shown) noexcept nogil:
    cdef size_t common = strlen(COMMON)
    cdef size_t n
    cdef int i
    if <size_t> (end - p) < common or memcmp(p, COMMON, common) != 0:
        return 0
    for i in range(5):
        n = strlen(KINDS[i])
        if <size_t> (end - p) - common >= n and memcmp(p + common, KINDS[i], n) == 0:
            shown[0] = n = common + n
            while p + n < end and _of_secret(p[n]):
                n += 1
            return n
    return 0


def masked(str text not None):
    """Return a text in which tokens, stored tokens, credentials, proofs and approvals are masked after their prefix.

    A text without one is returned unchanged.
    """
    if "sessauth_" not in text:
        return text
    cdef bytes data = text.encode("utf-8", "surrogatepass")
    cdef bytes_t p = <bytes_t> PyBytes_AS_STRING(data)
    cdef bytes_t end = p + PyBytes_GET_SIZE(data)
    cdef size_t mask = strlen(MASK)
    # A prefix has more bytes than the mask, so the text at most doubles.
    cdef char *start = <char *> malloc(2 * (end - p) + 1)
    cdef char *out = start
    cdef size_t n
    cdef size_t shown = 0
    if start == NULL:
        raise MemoryError
    try:
        while p < end:
            n = secret_at(p, end, &shown) if p[0] == 0x73 else 0
            if n:
                memcpy(out, p, shown)
                memcpy(out + shown, MASK, mask)
                out += shown + mask
                p += n
            else:
                out[0] = <char> p[0]
                out += 1
                p += 1
        return PyBytes_FromStringAndSize(start, out - start).decode("utf-8", "surrogatepass")
    finally:
        free(start)


def is_masked(str text not None):
    """Return True if a part of a text may have been masked."""
    cdef int i
    return "sessauth_" in text and any(
        (COMMON + KINDS[i] + MASK).decode("ascii") in text for i in range(5)
    )
