"""Search, validation, matching and number parsing of texts, and the bits of a shared byte.

The text functions are linear in their input, allocate nothing and need no GIL. The rules are those of
docs/token-format.md: sections 4 (texts), 5 (plain segments), 6.7 (glob), 6.8 (under) and 7 (numbers).
"""

from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer, Py_buffer
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp


# Search for one text in another, in linear time for any two texts.

cdef extern from * nogil:
    """
    #define _GNU_SOURCE 1
    #include <stdint.h>
    #include <string.h>

    /* glibc declares it under _GNU_SOURCE only. */
    extern void *memmem(const void *, size_t, const void *, size_t);

    enum {
        /* A table does not pay for texts up to this length. */
        SEARCH_SHORT = 16,
        /* Places that are tried at once: few, since they are tried again if there is a match, but more for long pieces,
           as the parts of the text overlap by a piece. */
        SEARCH_WINDOW = 256,
        SEARCH_LONG_WINDOW = 1024,
        SEARCH_LONG = 16
    };

    /* Shift-Or (Baeza-Yates and Gonnet, 1992): bit i of a state is 0 if the last i + 1 bytes are the first of the piece.
       A state waits for itself at each byte, so parts of the text go on side by side, or the words of one state. */
    static inline __attribute__((always_inline)) int sessauth_window(
        const unsigned char *const *parts, size_t n, const uint64_t *table, int lanes, int words, uint64_t last
    ) {
        uint64_t states[4][4];
        uint64_t seen = ~(uint64_t) 0;
        size_t i;
        int lane, k;
        memset(states, 0xFF, sizeof(states));
        for (i = 0; i < n; i++) {
    #pragma GCC unroll 4
            for (lane = 0; lane < lanes; lane++) {
                const uint64_t *row = table + (size_t) parts[lane][i] * words;
    #pragma GCC unroll 4
                for (k = words - 1; k > 0; k--)
                    states[lane][k] = (states[lane][k] << 1 | states[lane][k - 1] >> 63) | row[k];
                states[lane][0] = states[lane][0] << 1 | row[0];
                seen &= states[lane][words - 1];
            }
        }
        return !(seen & last);
    }

    static const unsigned char *sessauth_first(
        const unsigned char *text, size_t m, const uint64_t *table, int words, uint64_t last
    ) {
        uint64_t states[4];
        size_t i;
        int k;
        memset(states, 0xFF, sizeof(states));
        for (i = 0;; i++) {
            const uint64_t *row = table + (size_t) text[i] * words;
            for (k = words - 1; k > 0; k--)
                states[k] = (states[k] << 1 | states[k - 1] >> 63) | row[k];
            states[0] = states[0] << 1 | row[0];
            if (!(states[words - 1] & last))
                return text + i + 1 - m;
        }
    }

    /* The first place of a piece, or NULL. Up to 256 bytes of it glibc's memmem takes the product of both lengths. */
    static const unsigned char *sessauth_find(
        const unsigned char *text, size_t n, const unsigned char *piece, size_t m
    ) {
        uint64_t table[256 * 4];
        const unsigned char *parts[4];
        const unsigned char *at;
        size_t window = m > SEARCH_LONG ? SEARCH_LONG_WINDOW : SEARCH_WINDOW;
        size_t i, places, length, step;
        int words = (int) (m + 63) / 64;
        int lanes = words == 1 ? 4 : words == 2 ? 2 : 1;
        uint64_t last = (uint64_t) 1 << (m - 1) % 64;
        int filled = 0, found;
        if (m > 256)
            return (const unsigned char *) memmem(text, n, piece, m);
        while (n >= m) {
            at = (const unsigned char *) memchr(text, piece[0], n - m + 1);
            if (at == NULL)
                return NULL;
            n -= at - text;
            text = at;
            if (memcmp(text, piece, m) == 0)
                return text;
            if (n <= SEARCH_SHORT) {
                text++;
                n--;
                continue;
            }
            if (!filled) {
                memset(table, 0xFF, 256 * 8 * (size_t) words);
                for (i = 0; i < m; i++)
                    table[piece[i] * (size_t) words + i / 64] &= ~((uint64_t) 1 << i % 64);
                filled = 1;
            }
            places = n - m + 1 < window ? n - m + 1 : window;
            step = (places + lanes - 1) / lanes;
            length = step + m - 1;
            for (i = 0; i < (size_t) lanes; i++)
                parts[i] = text + (i * step + length <= n ? i * step : n - length);
            if (words == 1)
                found = sessauth_window(parts, length, table, 4, 1, last);
            else if (words == 2)
                found = sessauth_window(parts, length, table, 2, 2, last);
            else if (words == 3)
                found = sessauth_window(parts, length, table, 1, 3, last);
            else
                found = sessauth_window(parts, length, table, 1, 4, last);
            if (found)
                return sessauth_first(text, m, table, words, last);
            text += places;
            n -= places;
        }
        return NULL;
    }
    """
    const unsigned char *find "sessauth_find"(
        const unsigned char *text, size_t n, const unsigned char *piece, size_t m
    )


# Bits of a byte that several processes map and change: each change is one step, so none is lost.
#
# ``page[0] |= bit`` in Python reads, then writes. It drops a bit that another process sets in between.

cdef extern from * nogil:
    """
    static inline void sessauth_set_bits(unsigned char *byte, unsigned char bits) {
        __atomic_fetch_or(byte, bits, __ATOMIC_SEQ_CST);
    }
    static inline void sessauth_clear_bits(unsigned char *byte, unsigned char bits) {
        __atomic_fetch_and(byte, (unsigned char) ~bits, __ATOMIC_SEQ_CST);
    }
    """
    void sessauth_set_bits(unsigned char *byte, unsigned char bits)
    void sessauth_clear_bits(unsigned char *byte, unsigned char bits)


def set_bits(page not None, unsigned char bits):
    """Set bits of a page's first byte. Raises BufferError for a page that can't be written."""
    change(page, bits, 0)


def clear_bits(page not None, unsigned char bits):
    """Clear bits of a page's first byte. Raises BufferError for a page that can't be written."""
    change(page, 0, bits)


cdef int change(page, unsigned char set_, unsigned char clear) except -1:
    cdef Py_buffer view
    PyObject_GetBuffer(page, &view, PyBUF_WRITABLE)
    try:
        if view.len < 1:
            raise ValueError("a page has at least one byte")
        sessauth_set_bits(<unsigned char *> view.buf, set_)
        sessauth_clear_bits(<unsigned char *> view.buf, clear)
    finally:
        PyBuffer_Release(&view)
    return 0


cdef extern from * nogil:
    """
    typedef unsigned __int128 sessauth_u128;
    """
    ctypedef unsigned long long u128 "sessauth_u128"


cdef bint has_control(bytes_t p, size_t n) noexcept nogil:
    """Find U+0000-U+001F or U+007F-U+009F in UTF-8."""
    cdef size_t i
    for i in range(n):
        if p[i] < 0x20 or p[i] == 0x7F:
            return 1
        if p[i] == 0xC2 and i + 1 < n and p[i + 1] < 0xA0:
            return 1
    return 0


cdef bint has_percent_hex(bytes_t p, size_t n) noexcept nogil:
    cdef size_t i
    for i in range(n):
        if p[i] == 0x25 and i + 2 < n and is_hex(p[i + 1]) and is_hex(p[i + 2]):
            return 1
    return 0


cdef bint is_text(bytes_t p, size_t n) noexcept nogil:
    return 1 <= n <= MAX_STRING_BYTES and not has_control(p, n)


cdef bint is_action(bytes_t p, size_t n) noexcept nogil:
    cdef size_t i
    if not 1 <= n <= MAX_ACTION_CHARS:
        return 0
    for i in range(n):
        if not kinds[p[i]] & IN_ACTION:
            return 0
    return 1


cdef bint is_fact_name(bytes_t p, size_t n) noexcept nogil:
    cdef size_t i
    if not 1 <= n <= 64 or is_digit(p[0]):
        return 0
    for i in range(n):
        if not (is_letter(p[i]) or is_digit(p[i]) or p[i] == 0x5F):
            return 0
    return 1


cdef inline bint _is_dots(bytes_t p, size_t n) noexcept nogil:
    return (n == 1 and p[0] == 0x2E) or (n == 2 and p[0] == 0x2E and p[1] == 0x2E)


cdef bint is_plain_checked(bytes_t p, size_t n, bint dots_allowed) noexcept nogil:
    """Refuse bytes that have a special meaning in a path, a URL or a pattern."""
    cdef size_t i
    if not dots_allowed and _is_dots(p, n):
        return 0
    for i in range(n):
        if p[i] == 0xC2 and i + 1 < n and p[i + 1] < 0xA0:
            return 0
        if p[i] == 0x25 and i + 2 < n and is_hex(p[i + 1]) and is_hex(p[i + 2]):
            return 0
    return 1


# --- paths --------------------------------------------------------------------------------------

cdef bint is_clean_path(bytes_t p, size_t n) noexcept nogil:
    cdef size_t start, i
    if not 1 <= n <= MAX_STRING_BYTES or has_control(p, n) or has_percent_hex(p, n):
        return 0
    if memchr(p, 0x5C, n) != NULL:
        return 0
    if p[0] == 0x2F:
        if n == 1:
            return 1
        start = 1
    else:
        start = 0
    for i in range(start, n + 1):
        if i == n or p[i] == 0x2F:
            if i == start or _is_dots(p + start, i - start):
                return 0
            start = i + 1
    return 1


cdef bint is_under(bytes_t v, size_t vn, bytes_t w, size_t wn) noexcept nogil:
    if not is_clean_path(v, vn) or not is_clean_path(w, wn):
        return 0
    if wn == 1 and w[0] == 0x2F:
        return v[0] == 0x2F
    if vn < wn or memcmp(v, w, wn) != 0:
        return 0
    return vn == wn or v[wn] == 0x2F


cdef bint is_glob(bytes_t p, size_t n) noexcept nogil:
    cdef size_t i
    if not 1 <= n <= MAX_STRING_BYTES:
        return 0
    for i in range(n - 1):
        if p[i] == 0x2A and p[i + 1] == 0x2A:
            # `**` is a whole last segment or nothing.
            return i + 2 == n and (i == 0 or p[i - 1] == 0x2F)
    return 1


cdef bint _glob_segment(bytes_t pattern, size_t pn, bytes_t text, size_t tn) noexcept nogil:
    """Match one segment: each literal piece between stars at its leftmost position."""
    cdef bytes_t star = <bytes_t> memchr(pattern, 0x2A, pn)
    cdef size_t piece
    cdef bytes_t match
    if star == NULL:
        return pn == tn and memcmp(pattern, text, pn) == 0
    if _is_dots(text, tn):
        return 0
    piece = star - pattern
    if piece > tn or memcmp(pattern, text, piece) != 0:
        return 0
    text += piece
    tn -= piece
    while True:
        pn -= piece + 1
        pattern = star + 1
        star = <bytes_t> memchr(pattern, 0x2A, pn)
        if star == NULL:
            return pn <= tn and memcmp(pattern, text + tn - pn, pn) == 0
        piece = star - pattern
        if piece:
            match = find(text, tn, pattern, piece)
            if match == NULL:
                return 0
            tn -= (match - text) + piece
            text = match + piece


cdef bint glob_matches(bytes_t pattern, size_t pn, bytes_t text, size_t tn) noexcept nogil:
    cdef bytes_t slash
    cdef size_t ps, ts
    cdef bint text_left = 1
    while True:
        slash = <bytes_t> memchr(pattern, 0x2F, pn)
        ps = pn if slash == NULL else <size_t> (slash - pattern)
        if ps == 2 and pattern[0] == 0x2A and pattern[1] == 0x2A:
            return not text_left or not has_dot_segment(text, tn)
        if not text_left:
            return 0
        slash = <bytes_t> memchr(text, 0x2F, tn)
        ts = tn if slash == NULL else <size_t> (slash - text)
        if not _glob_segment(pattern, ps, text, ts):
            return 0
        if slash == NULL:
            text_left = 0
        else:
            text += ts + 1
            tn -= ts + 1
        if ps == pn:
            return not text_left
        pattern += ps + 1
        pn -= ps + 1


cdef bint has_dot_segment(bytes_t p, size_t n) noexcept nogil:
    cdef size_t start = 0
    cdef size_t i
    for i in range(n + 1):
        if i == n or p[i] == 0x2F:
            if _is_dots(p + start, i - start):
                return 1
            start = i + 1
    return 0


# --- numbers ------------------------------------------------------------------------------------

cdef int parse_any_number(bytes_t p, size_t n, int64_t *units, uint32_t *nanos, size_t *used) noexcept nogil:
    """Read a JSON number exactly: significant digits times a power of ten, then scaled by 10**9."""
    cdef size_t i = 0
    cdef bint negative = 0
    cdef bint exponent_negative = 0
    cdef long power = 0          # of ten, for the last stored digit
    cdef long exponent = 0
    cdef long zeros = 0          # trailing zeros that are not multiplied in yet
    cdef int significant = 0
    cdef bint too_long = 0
    cdef u128 value = 0
    cdef u128 whole, rest
    if i < n and p[i] == 0x2D:
        negative = 1
        i += 1
    if i >= n or not is_digit(p[i]):
        return -1
    if p[i] == 0x30:
        i += 1
        if i < n and is_digit(p[i]):
            return -1
    cdef bint fraction = 0
    while i < n:
        if p[i] == 0x2E and not fraction:
            fraction = 1
            i += 1
            if i >= n or not is_digit(p[i]):
                return -1
            continue
        if not is_digit(p[i]):
            break
        if fraction:
            power -= 1
        if p[i] == 0x30:
            if significant or too_long:
                zeros += 1
        elif not too_long:
            if significant + zeros >= 30:
                too_long = 1
            else:
                while zeros:
                    value = value * 10
                    significant += 1
                    zeros -= 1
                value = value * 10 + <u128> (p[i] - 0x30)
                significant += 1
        i += 1
    if i < n and (p[i] | 0x20) == 0x65:
        i += 1
        if i < n and (p[i] == 0x2B or p[i] == 0x2D):
            exponent_negative = p[i] == 0x2D
            i += 1
        if i >= n or not is_digit(p[i]):
            return -1
        while i < n and is_digit(p[i]):
            # Beyond this no number of at most 1 MiB of digits can have a value.
            if exponent < 10000000:
                exponent = exponent * 10 + (p[i] - 0x30)
            i += 1
    used[0] = i
    units[0] = 0
    nanos[0] = 0
    if significant == 0:
        return 1
    if too_long:
        return 0
    power += zeros + (-exponent if exponent_negative else exponent)
    if power < -9 or significant + power > 19:
        return 0
    while power > -9:
        value = value * 10
        power -= 1
    whole = value // <u128> 1000000000
    rest = value % <u128> 1000000000
    if not negative:
        if whole > <u128> 0x7FFFFFFFFFFFFFFFULL:
            return 0
        units[0] = <int64_t> whole
        nanos[0] = <uint32_t> rest
        return 1
    if rest:
        whole = whole + 1
        rest = <u128> 1000000000 - rest
    if whole > <u128> 0x8000000000000000ULL:
        return 0
    units[0] = <int64_t> (<uint64_t> 0 - <uint64_t> whole)
    nanos[0] = <uint32_t> rest
    return 1
