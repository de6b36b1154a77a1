"""Decoder of the text forms (docs/token-format.md, section 10): prefix, base64url, checksum.

A text has one spelling: what this decoder accepts is what an encoder makes of the bytes.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t
from libc.string cimport memchr, memcmp, memset

cdef enum:
    TEXT_TRUNCATED = 1
    TEXT_DAMAGED = 2
    TEXT_MALFORMED = 3

cdef enum:
    # Prefix of a presented token, and of the stored form, which nobody presents.
    PRESENTED_CHARS = 15
    STORED_CHARS = 16
    # A `.` and the checksum.
    CHECK_CHARS = 7


TRUNCATED = TEXT_TRUNCATED
DAMAGED = TEXT_DAMAGED
MALFORMED = TEXT_MALFORMED

cdef const char *PROOF_PREFIX = "sessauth_proof_"
cdef const char *ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
cdef const char *PRESENTED_PREFIX = "sessauth_token_"
cdef const char *STORED_PREFIX = "sessauth_secret_"

cdef enum:
    PROOF_CHARS = 15
    NO_VALUE = 0x80

# Six bits of each character; NO_VALUE for those outside the alphabet.
cdef unsigned char VALUES[256]
# CRC-32 (ISO-HDLC) of eight bytes at once: table k is for a byte with k bytes after it.
cdef uint32_t SUMS[8][256]


cdef void _fill_tables() noexcept:
    cdef uint32_t i, k, value, _
    memset(VALUES, NO_VALUE, 256)
    for i in range(64):
        VALUES[<unsigned char> ALPHABET[i]] = <unsigned char> i
    for i in range(256):
        value = i
        for _ in range(8):
            value = (value >> 1) ^ (0xEDB88320u if value & 1 else 0)
        SUMS[0][i] = value
    for k in range(1, 8):
        for i in range(256):
            SUMS[k][i] = (SUMS[k - 1][i] >> 8) ^ SUMS[0][SUMS[k - 1][i] & 0xFF]


_fill_tables()


cdef uint32_t _checksum(bytes_t p, size_t n) noexcept nogil:
    cdef uint32_t value = 0xFFFFFFFFu
    while n >= 8:
        value ^= p[0] | <uint32_t> p[1] << 8 | <uint32_t> p[2] << 16 | <uint32_t> p[3] << 24
        value = (
            SUMS[7][value & 0xFF] ^ SUMS[6][value >> 8 & 0xFF] ^ SUMS[5][value >> 16 & 0xFF] ^ SUMS[4][value >> 24]
            ^ SUMS[3][p[4]] ^ SUMS[2][p[5]] ^ SUMS[1][p[6]] ^ SUMS[0][p[7]]
        )
        p += 8
        n -= 8
    while n:
        value = (value >> 8) ^ SUMS[0][(value ^ p[0]) & 0xFF]
        p += 1
        n -= 1
    return ~value


cdef bint _is_checksum(bytes_t p, uint32_t value) noexcept nogil:
    """Return True if six characters are the base64url of four bytes, big-endian."""
    cdef int i
    for i in range(5):
        if p[i] != <unsigned char> ALPHABET[value >> (26 - 6 * i) & 63]:
            return False
    return p[5] == <unsigned char> ALPHABET[value << 4 & 63]


cdef bint _decode_body(bytes_t body, size_t n, unsigned char *out) noexcept nogil:
    """Decode canonical base64url. False for any other text, of which ``out`` may hold a part."""
    cdef unsigned char a, b, c, d
    cdef unsigned char seen = 0
    if n == 0 or n % 4 == 1:
        return False
    while n >= 4:
        a, b, c, d = VALUES[body[0]], VALUES[body[1]], VALUES[body[2]], VALUES[body[3]]
        seen |= a | b | c | d
        out[0] = a << 2 | b >> 4
        out[1] = b << 4 | c >> 2
        out[2] = c << 6 | d
        body += 4
        out += 3
        n -= 4
    if n:
        a, b = VALUES[body[0]], VALUES[body[1]]
        c = VALUES[body[2]] if n == 3 else 0
        seen |= a | b | c
        out[0] = a << 2 | b >> 4
        if n == 3:
            out[1] = b << 4 | c >> 2
        # Unused bits.
        if c & 3 if n == 3 else b & 15:
            return False
    return not seen & NO_VALUE


cdef bytes decode_text(bytes_t p, size_t n, size_t prefix_chars, int *fault):
    """Return the bytes of a text, whose prefix the caller compared; None with the fault."""
    cdef bytes_t dot = <bytes_t> memchr(p + prefix_chars, 0x2E, n - prefix_chars)
    cdef size_t covered = dot - p
    cdef bytes out
    if dot == NULL or n - covered < CHECK_CHARS:
        fault[0] = TEXT_TRUNCATED
        return None
    if n - covered != CHECK_CHARS or not _is_checksum(dot + 1, _checksum(p, covered)):
        fault[0] = TEXT_DAMAGED
        return None
    out = PyBytes_FromStringAndSize(NULL, (covered - prefix_chars) * 3 // 4)
    if not _decode_body(p + prefix_chars, covered - prefix_chars, <unsigned char *> PyBytes_AS_STRING(out)):
        fault[0] = TEXT_MALFORMED
        return None
    return out


# Decodes `count` bytes from byte `at` of a body that has them. Nothing is validated.
cdef void body_bytes(bytes_t body, size_t at, size_t count, unsigned char *out) noexcept nogil:
    cdef bytes_t quad = body + at // 3 * 4
    cdef int place = <int> (at % 3)
    cdef size_t i
    for i in range(count):
        if place == 0:
            out[i] = VALUES[quad[0]] << 2 | VALUES[quad[1]] >> 4
            place = 1
        elif place == 1:
            out[i] = VALUES[quad[1]] << 4 | VALUES[quad[2]] >> 2
            place = 2
        else:
            out[i] = VALUES[quad[2]] << 6 | VALUES[quad[3]]
            place = 0
            quad += 4


def text_form_bytes(str text not None, Py_ssize_t prefix_chars):
    """Return the bytes of a text after a prefix of so many characters, or one of the faults of this module.

    Raises ValueError if the text is no longer than that.
    """
    cdef bytes data = text.encode("ascii", "replace")
    cdef int fault = 0
    if not 0 <= prefix_chars <= PyBytes_GET_SIZE(data):
        raise ValueError("the text is shorter than the prefix")
    out = decode_text(<bytes_t> PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), prefix_chars, &fault)
    if fault != TEXT_TRUNCATED and not text.isascii():
        return DAMAGED
    return fault if out is None else out


cpdef bytes proof_bytes(object proof):
    """Return the bytes of a proof's text, or other bytes as they are.

    A text that is damaged, or of something else, comes back as it is too: it is the encoding of no proof. Raises
    TypeError for other objects than bytes and str.
    """
    cdef bytes data, out
    cdef bytes_t p
    cdef size_t n
    cdef int fault = 0
    if isinstance(proof, str):
        data = (<str> proof).encode("utf-8", "replace")
    elif isinstance(proof, bytes):
        data = bytes(proof)
    else:
        raise TypeError(f"the proof is bytes or str, not {type(proof).__name__}")
    p = <bytes_t> PyBytes_AS_STRING(data)
    n = PyBytes_GET_SIZE(data)
    # No form has a longer text.
    if not PROOF_CHARS <= n <= (MAX_TOKEN_BYTES + 64) * 4 // 3 + 64 or memcmp(p, PROOF_PREFIX, PROOF_CHARS) != 0:
        return data
    out = decode_text(p, n, PROOF_CHARS, &fault)
    return data if out is None else out
