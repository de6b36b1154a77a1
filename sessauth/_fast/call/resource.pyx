"""A resource, split into segments (docs/token-format.md, section 8)."""

cdef bint split_resource(bytes_t p, size_t n, Resource *out) noexcept nogil:
    cdef bytes_t end = p + n
    cdef bytes_t start
    cdef int classes, kind
    cdef int count = 0
    cdef int all_classes = 0
    out.count = 0
    out.marks[0] = 0
    # The bound of a resource is also that of a segment, so no segment is too long.
    if not 1 <= n <= MAX_RESOURCE_BYTES:
        return 0
    while True:
        start = p
        classes = 0
        while p < end:
            kind = kinds[p[0]]
            if kind & SLASH:
                break
            classes |= kind
            p += 1
        if count >= MAX_SEGMENTS or not is_plain(start, p - start, classes, 0):
            return 0
        out.parts[count].p = start
        out.parts[count].n = p - start
        count += 1
        if count <= MARKED_SEGMENTS:
            out.marks[count] = next_mark(out.marks[count - 1], start, p - start)
        all_classes |= classes
        if p == end:
            out.count = count
            return not all_classes & HIGH or utf8_valid(end - n, n)
        p += 1
