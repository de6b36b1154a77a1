"""Exact decimal numbers of any size (docs/token-format.md, section 7)."""

from libc.stdint cimport int64_t, uint32_t

from sessauth._fast.base.text cimport bytes_t

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

# Read a well-formed JSON number of n bytes. 0: it has no value.
cdef bint read_decimal(bytes_t p, size_t n, Decimal *out) noexcept nogil
# units + nanos / 10^9. The digits are written into `room`.
cdef void decimal_of_number(int64_t units, uint32_t nanos, unsigned char *room, Decimal *out) noexcept nogil
# Compare a and b: below, at or above 0.
cdef int decimal_order(const Decimal *a, const Decimal *b) noexcept nogil
# Write the canonical form, return its length.
cdef size_t put_decimal(unsigned char *out, const Decimal *value) noexcept nogil
# 1: the canonical form of a number that Number can't hold.
cdef bint is_canonical_decimal(bytes_t p, size_t n) noexcept nogil
