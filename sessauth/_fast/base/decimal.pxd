"""Exact decimal numbers of any size (docs/token-format.md, section 7)."""

from libc.stdint cimport int64_t, uint32_t

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
