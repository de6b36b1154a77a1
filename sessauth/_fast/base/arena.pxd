"""An arena: memory for the parts compiled from one token or record, freed at once."""

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
    """Return n bytes, aligned for any struct of the kernel, or NULL when memory is out."""
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
