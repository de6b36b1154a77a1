"""Exact decimal numbers of any size (docs/token-format.md, section 7).

Nothing is rounded and no arithmetic is done: numbers are compared by sign, exponent and digits.
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy


# Read a well-formed JSON number of n bytes. 0: it has no value.
cdef bint read_decimal(bytes_t p, size_t n, Decimal *out) noexcept nogil:
    cdef bytes_t end = p + n
    cdef int64_t exponent = 0
    cdef int64_t before = 0         # digits before the point, from the first significant one
    cdef int64_t zeros = 0          # behind the point, before the first significant digit
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
            # At most 1 MiB of digits stand before it.
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
