"""Memory for what is compiled from one token or record: taken in pieces, freed at once."""

from libc.stdlib cimport free, malloc

cdef struct Chunk:
    Chunk *next

cdef struct Arena:
    Chunk *chunks
    char *p
    char *end
    size_t total

cdef enum:
    MIN_CHUNK = 512

cdef inline void arena_init(Arena *arena) noexcept nogil:
    arena.chunks = NULL
    arena.p = NULL
    arena.end = NULL
    arena.total = 0

cdef inline void *arena_take(Arena *arena, size_t n) noexcept nogil:
    """Return n bytes, aligned for any struct of the kernel, or NULL when memory is out."""
    cdef size_t size
    cdef Chunk *chunk
    cdef void *out
    n = (n + 7) & ~(<size_t> 7)
    if <size_t> (arena.end - arena.p) < n:
        size = n + sizeof(Chunk)
        if size < MIN_CHUNK:
            size = MIN_CHUNK
        chunk = <Chunk *> malloc(size)
        if chunk == NULL:
            return NULL
        chunk.next = arena.chunks
        arena.chunks = chunk
        arena.p = <char *> chunk + sizeof(Chunk)
        arena.end = <char *> chunk + size
        arena.total += size
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
