"""Validation, matching and number parsing of texts, and exact decimals (docs/token-format.md, sections 4 to 7)."""

from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef extern from * nogil:
    """
    #include <stddef.h>
    #include <stdint.h>
    #include <string.h>
    /* memcmp(a, b, n) == 0, inlined for the few bytes of names and segments. */
    static inline int sessauth_same(const unsigned char *a, const unsigned char *b, size_t n) {
        uint64_t x, y, v, w;
        uint32_t i, j, k, l;
        if (n > 16)
            return memcmp(a, b, n) == 0;
        if (n >= 8) {
            memcpy(&x, a, 8);
            memcpy(&y, b, 8);
            memcpy(&v, a + n - 8, 8);
            memcpy(&w, b + n - 8, 8);
            return ((x ^ y) | (v ^ w)) == 0;
        }
        if (n >= 4) {
            memcpy(&i, a, 4);
            memcpy(&j, b, 4);
            memcpy(&k, a + n - 4, 4);
            memcpy(&l, b + n - 4, 4);
            return ((i ^ j) | (k ^ l)) == 0;
        }
        while (n--)
            if (a[n] != b[n])
                return 0;
        return 1;
    }
    /* A hash of the length and some of the bytes: texts with different marks differ. */
    static inline uint32_t sessauth_mark(const unsigned char *p, size_t n) {
        uint64_t x;
        uint32_t i, j;
        if (n >= 8)
            memcpy(&x, p, 8);
        else if (n >= 4) {
            memcpy(&i, p, 4);
            memcpy(&j, p + n - 4, 4);
            x = (uint64_t) j << 32 | i;
        } else
            x = n ? p[0] | (uint64_t) p[n / 2] << 8 | (uint64_t) p[n - 1] << 16 : 0;
        return (uint32_t) (((x + n) * 0x9E3779B97F4A7C15ULL) >> 32);
    }
    """
    bint same "sessauth_same"(const unsigned char *a, const unsigned char *b, size_t n)
    uint32_t mark "sessauth_mark"(const unsigned char *p, size_t n)

ctypedef const unsigned char *bytes_t

cdef inline bint is_digit(unsigned char c) noexcept nogil:
    return 0x30 <= c <= 0x39

cdef inline bint is_letter(unsigned char c) noexcept nogil:
    return 0x41 <= c <= 0x5A or 0x61 <= c <= 0x7A

cdef inline bint is_hex(unsigned char c) noexcept nogil:
    return is_digit(c) or 0x41 <= c <= 0x46 or 0x61 <= c <= 0x66

cdef bint is_action(bytes_t p, size_t n) noexcept nogil
cdef bint is_plain_checked(bytes_t p, size_t n, bint dots_allowed) noexcept nogil

cdef inline bint is_plain(bytes_t p, size_t n, int classes, bint dots_allowed) noexcept nogil:
    """Return 1 if n bytes whose combined classes are ``classes`` are a plain segment of any length."""
    if n == 0 or classes & UNPLAIN:
        return 0
    return (not classes & CLOSER and p[0] != 0x2E) or is_plain_checked(p, n, dots_allowed)

# parse_number for numbers with a fraction, an exponent or many digits.
cdef int parse_any_number(bytes_t p, size_t n, int64_t *units, uint32_t *nanos, size_t *used) noexcept nogil

cdef inline int parse_number(bytes_t p, size_t n, int64_t *units, uint32_t *nanos, size_t *used) noexcept nogil:
    """Parse a JSON number. 1: a value; 0: well-formed but out of range; -1: not a number. *used is its length."""
    cdef size_t start = n > 0 and p[0] == 0x2D
    cdef size_t i = start
    cdef uint64_t small = 0
    # Nearly all are short integers, which need no exact fractions.
    while i < n and is_digit(p[i]) and i < 18:
        small = small * 10 + (p[i] - 0x30)
        i += 1
    if i == start or i == 18 or (p[start] == 0x30 and i > start + 1):
        return parse_any_number(p, n, units, nanos, used)
    if i < n and (p[i] == 0x2E or (p[i] | 0x20) == 0x65):
        return parse_any_number(p, n, units, nanos, used)
    used[0] = i
    units[0] = -<int64_t> small if start else <int64_t> small
    nanos[0] = 0
    return 1


# Exact decimal numbers of any size (docs/token-format.md, section 7).

cdef enum:
    # Bounds of a number with a value.
    MAX_DECIMAL_DIGITS = 1024
    MAX_DECIMAL_EXPONENT = 999999999
    # Bytes of the longest canonical form, and of the digits of a Number.
    MAX_DECIMAL_BYTES = 1088
    NUMBER_DIGITS = 32

# ±0.d₁d₂… × 10^(adjusted + 1). Without digits it is 0.
cdef struct Decimal:
    bint negative
    uint32_t count          # of significant digits
    bytes_t digits          # the first of them; a decimal point may stand between two
    int64_t adjusted        # the exponent of the first
