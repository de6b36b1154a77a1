"""Validation, matching and number parsing of texts.

Every function is linear in its input, allocates nothing and needs no GIL. The rules are those of
docs/token-format.md: sections 4 (texts), 5 (plain segments), 6.7 (glob), 6.8 (under) and 7 (numbers).
"""

from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp

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
    """Refuse bytes to which a path, a URL or a pattern gives a meaning of its own."""
    cdef size_t i
    if not dots_allowed and _is_dots(p, n):
        return 0
    for i in range(n):
        if p[i] == 0xC2 and i + 1 < n and p[i + 1] < 0xA0:
            return 0
        if p[i] == 0x25 and i + 2 < n and is_hex(p[i + 1]) and is_hex(p[i + 2]):
            return 0
    return 1


cdef bint is_plain_segment(bytes_t p, size_t n, bint dots_allowed) noexcept nogil:
    cdef size_t i
    cdef int classes = 0
    if n > MAX_STRING_BYTES:
        return 0
    for i in range(n):
        classes |= kinds[p[i]]
    return is_plain(p, n, classes, dots_allowed)


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
            return not text_left or not _has_dot_segment(text, tn)
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


cdef bint _has_dot_segment(bytes_t p, size_t n) noexcept nogil:
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
