"""Character classes: one table lookup answers several rules about a byte."""

cdef extern from * nogil:
    """
    /* UNPLAIN: never in a plain segment. CLOSER: depends on the bytes that follow. ACTION: allowed in an action.
       SLASH: separates segments. STOP: ends a JSON string's plain run. HIGH: not ASCII. */
    enum { SESSAUTH_UNPLAIN = 1, SESSAUTH_CLOSER = 2, SESSAUTH_ACTION = 4, SESSAUTH_SLASH = 8, SESSAUTH_STOP = 16,
           SESSAUTH_HIGH = 32 };
    static const unsigned char sessauth_kinds[256] __attribute__((unused)) = {
        [0x00 ... 0x1F] = SESSAUTH_UNPLAIN | SESSAUTH_STOP,
        [0x22] = SESSAUTH_STOP,
        ['%'] = SESSAUTH_CLOSER,
        ['*'] = SESSAUTH_UNPLAIN,
        ['-'] = SESSAUTH_ACTION,
        ['.'] = SESSAUTH_ACTION,
        ['/'] = SESSAUTH_SLASH | SESSAUTH_UNPLAIN,
        ['0' ... '9'] = SESSAUTH_ACTION,
        ['A' ... 'Z'] = SESSAUTH_ACTION,
        [0x5C] = SESSAUTH_UNPLAIN | SESSAUTH_STOP,
        ['_'] = SESSAUTH_ACTION,
        ['a' ... 'z'] = SESSAUTH_ACTION,
        ['{'] = SESSAUTH_UNPLAIN,
        ['}'] = SESSAUTH_UNPLAIN,
        [0x7F] = SESSAUTH_UNPLAIN,
        [0x80 ... 0xC1] = SESSAUTH_HIGH,
        [0xC2] = SESSAUTH_CLOSER | SESSAUTH_HIGH,
        [0xC3 ... 0xFF] = SESSAUTH_HIGH,
    };
    """
    const unsigned char kinds "sessauth_kinds"[256]
    enum:
        UNPLAIN "SESSAUTH_UNPLAIN"
        CLOSER "SESSAUTH_CLOSER"
        IN_ACTION "SESSAUTH_ACTION"
        SLASH "SESSAUTH_SLASH"
        STOP "SESSAUTH_STOP"
        HIGH "SESSAUTH_HIGH"

cdef extern from * nogil:
    """
    #include <stdint.h>
    #include <string.h>
    /* Number of the next eight bytes before the first quote, backslash or control character: 0 to 8. */
    static inline int sessauth_plain_run(const unsigned char *p) {
        const uint64_t ones = 0x0101010101010101ULL, highs = 0x8080808080808080ULL;
        uint64_t x, quote, backslash, stop;
        memcpy(&x, p, 8);
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
        x = __builtin_bswap64(x);
    #endif
        quote = x ^ (ones * 0x22);
        backslash = x ^ (ones * 0x5C);
        /* Only the lowest marked byte is reliable: a borrow may mark bytes above it. */
        stop = (((quote - ones) & ~quote) | ((backslash - ones) & ~backslash) | ((x - ones * 0x20) & ~x)) & highs;
        return stop ? __builtin_ctzll(stop) >> 3 : 8;
    }
    """
    int plain_run "sessauth_plain_run"(const unsigned char *p)
