"""Arenas, character classes and the kernel's clock, all inline.

An arena is memory for the parts compiled from one token or record, freed at once.
"""

from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc


cdef struct Chunk:
    Chunk *next

cdef struct Arena:
    Chunk *chunks
    char *p
    char *end
    size_t total

cdef enum:
    CHUNK = 256
    # Allocations of this size or more get their own chunk, so the rest of the shared chunk stays usable.
    LARGE = 96
    # Overhead of the allocator for each chunk.
    CHUNK_OVERHEAD = 16

cdef inline void arena_init(Arena *arena) noexcept nogil:
    arena.chunks = NULL
    arena.p = NULL
    arena.end = NULL
    arena.total = 0

cdef inline void *arena_take(Arena *arena, size_t n) noexcept nogil:
    """Return n bytes, aligned for any struct of the kernel, or NULL without memory."""
    cdef Chunk *chunk
    cdef void *out
    cdef size_t size
    n = (n + 7) & ~(<size_t> 7)
    if <size_t> (arena.end - arena.p) < n:
        size = sizeof(Chunk) + n if n >= LARGE else CHUNK
        chunk = <Chunk *> malloc(size)
        if chunk == NULL:
            return NULL
        chunk.next = arena.chunks
        arena.chunks = chunk
        arena.total += size + CHUNK_OVERHEAD
        if n >= LARGE:
            return <char *> chunk + sizeof(Chunk)
        arena.p = <char *> chunk + sizeof(Chunk)
        arena.end = <char *> chunk + size
    out = arena.p
    arena.p += n
    return out

cdef inline void arena_free(Arena *arena) noexcept nogil:
    cdef Chunk *chunk = arena.chunks
    cdef Chunk *after
    while chunk != NULL:
        after = chunk.next
        free(chunk)
        chunk = after
    arena_init(arena)


# Character classes: one table lookup answers several rules about a byte.

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


# The kernel's clock: wall time, and a monotonic one that counts suspend.

cdef extern from * nogil:
    """
    #include <time.h>
    #include <stdint.h>
    /* Linux: CLOCK_BOOTTIME counts suspend, CLOCK_MONOTONIC does not. macOS: CLOCK_MONOTONIC does. */
    #ifdef CLOCK_BOOTTIME
    #define SESSAUTH_STEADY CLOCK_BOOTTIME
    #else
    #define SESSAUTH_STEADY CLOCK_MONOTONIC
    #endif
    static int64_t sessauth_ms(clockid_t clock) {
        struct timespec t;
        clock_gettime(clock, &t);
        return (int64_t) t.tv_sec * 1000 + t.tv_nsec / 1000000;
    }
    static int64_t sessauth_ns(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        return (int64_t) t.tv_sec * 1000000000 + t.tv_nsec;
    }
    static int64_t sessauth_wall_ms(void) { return sessauth_ms(CLOCK_REALTIME); }
    static int64_t sessauth_steady_ms(void) { return sessauth_ms(SESSAUTH_STEADY); }
    """
    int64_t wall_ms "sessauth_wall_ms"()
    int64_t steady_ms "sessauth_steady_ms"()
    int64_t monotonic_ns "sessauth_ns"()
