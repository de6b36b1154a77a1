"""Masks tokens, credentials and proofs where they don't belong: in logs, records and errors.

An agent may put a token where an action, a resource or a reason belongs. Stored and displayed copies of such a
text must not carry a usable secret.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdlib cimport free, malloc
from libc.string cimport memcmp, memcpy, strlen

cdef const char *MASK = "..."
cdef const char *COMMON = "sessauth_"
cdef const char *KINDS[5]
KINDS[:] = ["token_", "secret_", "key_", "proof_", "approval_"]


cdef bint _of_secret(unsigned char c) noexcept nogil:
    return (
        0x30 <= c <= 0x39 or 0x41 <= c <= 0x5A or 0x61 <= c <= 0x7A
        or c == 0x5F or c == 0x2E or c == 0x3D or c == 0x2D
    )


# The length of the secret that begins here, 0 if none does. `shown`: the length of its visible prefix, which names
# the kind.
cdef size_t secret_at(bytes_t p, bytes_t end, size_t *shown) noexcept nogil:
    cdef size_t common = strlen(COMMON)
    cdef size_t n
    cdef int i
    if <size_t> (end - p) < common or memcmp(p, COMMON, common) != 0:
        return 0
    for i in range(5):
        n = strlen(KINDS[i])
        if <size_t> (end - p) - common >= n and memcmp(p + common, KINDS[i], n) == 0:
            shown[0] = n = common + n
            while p + n < end and _of_secret(p[n]):
                n += 1
            return n
    return 0


def masked(str text not None):
    """Return a text in which tokens, stored tokens, credentials, proofs and approvals are masked behind their prefix.

    A text without one is returned unchanged.
    """
    if "sessauth_" not in text:
        return text
    cdef bytes data = text.encode("utf-8", "surrogatepass")
    cdef bytes_t p = <bytes_t> PyBytes_AS_STRING(data)
    cdef bytes_t end = p + PyBytes_GET_SIZE(data)
    cdef size_t mask = strlen(MASK)
    # A prefix has more bytes than the mask, so the text at most doubles.
    cdef char *start = <char *> malloc(2 * (end - p) + 1)
    cdef char *out = start
    cdef size_t n
    cdef size_t shown = 0
    if start == NULL:
        raise MemoryError
    try:
        while p < end:
            n = secret_at(p, end, &shown) if p[0] == 0x73 else 0
            if n:
                memcpy(out, p, shown)
                memcpy(out + shown, MASK, mask)
                out += shown + mask
                p += n
            else:
                out[0] = <char> p[0]
                out += 1
                p += 1
        return PyBytes_FromStringAndSize(start, out - start).decode("utf-8", "surrogatepass")
    finally:
        free(start)


def is_masked(str text not None):
    """Return True if a part of a text may have been masked."""
    cdef int i
    return "sessauth_" in text and any(
        (COMMON + KINDS[i] + MASK).decode("ascii") in text for i in range(5)
    )
