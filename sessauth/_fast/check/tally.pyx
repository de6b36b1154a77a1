"""A tally of revoked blocks: their number and a sum by their next byte (state/lmdb/tallies.py)."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memcmp

cdef enum:
    SESSION_ID_BYTES = 16
    BLOCK_ID_BYTES = 32
    REVISION_BYTES = 8
    # The most revoked blocks that are counted by reading them.
    TALLY_LIMIT = 16
    # A byte, the number of 4 bytes, the sum of 8.
    TALLY_ENTRY_BYTES = 13

cdef inline uint64_t big_endian(bytes_t p, int size) noexcept nogil:
    cdef uint64_t value = 0
    cdef int i
    for i in range(size):
        value = (value << 8) | p[i]
    return value

# The last 8 bytes of a revoked block, which it adds to the sum, by the key of its row.
cdef inline uint64_t last_number(bytes key) noexcept:
    return big_endian(<bytes_t> PyBytes_AS_STRING(key) + SESSION_ID_BYTES + BLOCK_ID_BYTES - 8, 8)

# True if a revoked block's row, key and value, has the check sum of its id (state/rules/sessions.py, revoked_value). A
# row that was written without one has the revision alone.
cdef inline bint has_its_sum(bytes key, bytes value) noexcept:
    cdef bytes_t block = <bytes_t> PyBytes_AS_STRING(key) + SESSION_ID_BYTES
    cdef uint64_t total = 0
    cdef int at
    if PyBytes_GET_SIZE(value) != 2 * REVISION_BYTES:
        return PyBytes_GET_SIZE(value) == REVISION_BYTES
    for at in range(0, BLOCK_ID_BYTES, 8):
        total += big_endian(block + at, 8)
    return total == big_endian(<bytes_t> PyBytes_AS_STRING(value) + REVISION_BYTES, 8)

# Replaces number and sum by those of the entry for the block's next byte, 0 if there is none. False if the tally is
# another one, or its entries do not add up to what was expected of it. The first one's sum is not known before.
cdef inline bint read_tally(
    bytes raw, bytes session_id, bytes block_id, Py_ssize_t depth, uint64_t *count, uint64_t *total
) noexcept:
    cdef bytes_t p = <bytes_t> PyBytes_AS_STRING(raw)
    cdef bytes_t block = <bytes_t> PyBytes_AS_STRING(block_id)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(raw) - SESSION_ID_BYTES - depth
    cdef Py_ssize_t at
    cdef uint64_t counts = 0
    cdef uint64_t totals = 0
    cdef uint64_t found_count = 0
    cdef uint64_t found_total = 0
    cdef int latest = -1
    if (
        size < 0
        or size % TALLY_ENTRY_BYTES
        or memcmp(p, PyBytes_AS_STRING(session_id), SESSION_ID_BYTES) != 0
        or memcmp(p + SESSION_ID_BYTES, block, depth) != 0
    ):
        return False
    p += SESSION_ID_BYTES + depth
    at = 0
    while at < size:
        if p[at] <= latest:
            return False
        latest = p[at]
        counts += big_endian(p + at + 1, 4)
        totals += big_endian(p + at + 5, 8)
        if p[at] == block[depth]:
            found_count = big_endian(p + at + 1, 4)
            found_total = big_endian(p + at + 5, 8)
        at += TALLY_ENTRY_BYTES
    if counts != count[0] or (depth and totals != total[0]):
        return False
    count[0] = found_count
    total[0] = found_total
    return True
