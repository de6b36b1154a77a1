"""The chain of an audit stream: each line carries a hash over itself and the line before.

A line is a JSON object, ``{"n":7,"kind":"decision",…,"chain":"<64 hex digits>"}``. Its chain is BLAKE2b-256
over a label, the chain of the previous line (zeros before the first), and the line's own bytes up to
``,"chain":"``, 76 bytes before the line's end (docs/audit.md). No function here parses the JSON.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcmp, memcpy

from sessauth._fast._check cimport Hashing, begin_output, end_output, hash_add, hash_begin, hash_end

cdef enum:
    # Including its zero byte.
    LABEL_BYTES = 24
    CHAIN_BYTES = 32
    # ,"chain":"<64>"} and the line feed.
    BEHIND_BYTES = 10 + 64 + 2 + 1
    # {"n": and a comma around at most 19 digits.
    NUMBER_BYTES = 6 + 19
    HEAD_BYTES = 9

cdef const char *LABEL = "sessauth/audit-chain/v1"
cdef const char *BODY_HEAD = '{"kind":"'
cdef const char *NUMBER = '{"n":'
cdef const char *KIND = ',"kind":"'
cdef const char *CHAIN = ',"chain":"'
cdef const char *AT = ',"at_ms":'
cdef const char *DIGITS = "0123456789abcdef"
# A larger time is invalid.
cdef int64_t MAX_AT = 0x1FFFFFFFFFFFFF

cdef struct ChainMark:
    int64_t n
    Py_ssize_t start
    Py_ssize_t end

# Lines that a walk collects: those of other kinds, or those whose time is far behind an earlier one.
cdef struct ChainMarks:
    ChainMark *marks
    Py_ssize_t count
    Py_ssize_t room


cdef void _link(const char *line, size_t n, unsigned char *chain) noexcept nogil:
    """Replace the previous line's chain by that of a line, given without its chain field."""
    cdef Hashing hashing
    hash_begin(&hashing)
    hash_add(&hashing, <const unsigned char *> LABEL, LABEL_BYTES)
    hash_add(&hashing, chain, CHAIN_BYTES)
    hash_add(&hashing, <const unsigned char *> line, n)
    hash_end(&hashing, chain)


cdef void _to_hex(const unsigned char *chain, char *out) noexcept nogil:
    cdef int i
    for i in range(CHAIN_BYTES):
        out[2 * i] = DIGITS[chain[i] >> 4]
        out[2 * i + 1] = DIGITS[chain[i] & 15]


cdef int _write_number(int64_t n, char *out) noexcept nogil:
    """Write a number in decimal. Return the number of digits."""
    cdef char digits[20]
    cdef int count = 0
    cdef int i
    while True:
        digits[count] = <char> (48 + n % 10)
        count += 1
        n = n // 10
        if n == 0:
            break
    for i in range(count):
        out[i] = digits[count - 1 - i]
    return count


cdef bint _add(ChainMarks *marks, int64_t n, Py_ssize_t start, Py_ssize_t end) noexcept nogil:
    cdef void *grown
    if marks.count == marks.room:
        marks.room = 2 * marks.room + 16
        grown = realloc(marks.marks, marks.room * sizeof(ChainMark))
        if grown == NULL:
            return False
        marks.marks = <ChainMark *> grown
    marks.marks[marks.count] = ChainMark(n, start, end)
    marks.count += 1
    return True


cdef list _listed(ChainMarks *marks):
    cdef Py_ssize_t i
    return [(marks.marks[i].n, marks.marks[i].start, marks.marks[i].end) for i in range(marks.count)]


cdef Py_ssize_t _count(const char *p, Py_ssize_t n) noexcept nogil:
    """Return the number of bodies, or -1 - index of the first invalid one."""
    cdef const char *end = p + n
    cdef const char *stop
    cdef Py_ssize_t count = 0
    while p < end:
        stop = <const char *> memchr(p, 10, end - p)
        if stop == NULL or stop - p < HEAD_BYTES + 2 or memcmp(p, BODY_HEAD, HEAD_BYTES) != 0 or (stop - 1)[0] != 125:
            return -1 - count
        count += 1
        p = stop + 1
    return count


cdef char *_seal(const char *p, const char *end, int64_t n, unsigned char *chain, char *out) noexcept nogil:
    """Write the lines of validated bodies. Return the end."""
    cdef const char *stop
    cdef char *line
    while p < end:
        stop = <const char *> memchr(p, 10, end - p)
        line = out
        memcpy(out, NUMBER, 5)
        out += 5
        out += _write_number(n, out)
        out[0] = 44
        # The body without its braces.
        memcpy(out + 1, p + 1, stop - p - 2)
        out += stop - p - 1
        _link(line, out - line, chain)
        memcpy(out, CHAIN, 10)
        _to_hex(chain, out + 10)
        memcpy(out + 74, '"}\n', 3)
        out += BEHIND_BYTES
        p = stop + 1
        n += 1
    return out


def seal(bytes bodies not None, long long first_n, bytes previous not None):
    """Convert bodies into lines of a stream.

    Args:
        bodies: JSON objects, ``{"kind":"…",…}`` and a line feed each. May be empty.
        first_n: the number of the first line.
        previous: the chain of the previous line, 32 bytes; zeros for number 0.

    Returns:
        The lines, the chain of the last one (32 bytes), and their number. Works without the GIL.

    Raises:
        ValueError: for a negative number, a chain of another length, or bodies of another form.
    """
    cdef unsigned char chain[CHAIN_BYTES]
    cdef const char *p = PyBytes_AS_STRING(bodies)
    cdef Py_ssize_t n = PyBytes_GET_SIZE(bodies)
    cdef Py_ssize_t count
    cdef PyObject *memory = NULL
    cdef char *out
    cdef char *end
    _take(chain, first_n, previous)
    with nogil:
        count = _count(p, n)
    if count < 0:
        raise ValueError(f'body {-1 - count} is not {{"kind":"…",…}} and a line feed')
    if first_n > MAX_AT - count:
        raise ValueError("the number of a line is at most 2**53 - 1")
    # Without the line feed and the braces that body and line share.
    out = begin_output(&memory, n + count * (NUMBER_BYTES + BEHIND_BYTES))
    with nogil:
        end = _seal(p, p + n, first_n, chain, out)
    return end_output(memory, end), PyBytes_FromStringAndSize(<char *> chain, CHAIN_BYTES), count


def link(bytes content not None, bytes previous not None):
    """Return the chain (32 bytes) of one line, given up to ``,"chain":"``, exclusive.

    Raises:
        ValueError: for a previous chain of another length than 32 bytes.
    """
    cdef unsigned char chain[CHAIN_BYTES]
    _take(chain, 0, previous)
    _link(PyBytes_AS_STRING(content), PyBytes_GET_SIZE(content), chain)
    return PyBytes_FromStringAndSize(<char *> chain, CHAIN_BYTES)


cdef int _take(unsigned char *chain, long long first_n, bytes previous) except -1:
    if first_n < 0:
        raise ValueError("the number of a line is not negative")
    if PyBytes_GET_SIZE(previous) != CHAIN_BYTES:
        raise ValueError("a chain has 32 bytes")
    memcpy(chain, PyBytes_AS_STRING(previous), CHAIN_BYTES)
    return 0


@cython.final
cdef class _Walk:
    """A walk over lines: its position, and the lines it collected."""

    cdef unsigned char chain[CHAIN_BYTES]
    cdef int64_t n
    cdef Py_ssize_t at
    cdef int64_t latest
    cdef int64_t slack
    cdef bint no_memory
    cdef ChainMarks read
    cdef ChainMarks back

    def __dealloc__(self):
        free(self.read.marks)
        free(self.back.marks)

    cdef void run(self, const char *data, Py_ssize_t n) noexcept nogil:
        """Walk until a line is invalid or has no line feed."""
        cdef const char *end = data + n
        cdef const char *p
        cdef const char *stop
        while self.at < n:
            p = data + self.at
            stop = <const char *> memchr(p, 10, end - p)
            if stop == NULL or not self.step(p, stop + 1 - p) or self.no_memory:
                return

    cdef bint step(self, const char *line, Py_ssize_t n) noexcept nogil:
        """Verify one line, its line feed included. 0 if it is not the next one."""
        cdef char expected[NUMBER_BYTES + HEAD_BYTES]
        cdef unsigned char chain[CHAIN_BYTES]
        cdef char text[64]
        cdef const char *behind = line + n - BEHIND_BYTES
        cdef int head
        memcpy(expected, NUMBER, 5)
        head = 5 + _write_number(self.n, expected + 5)
        memcpy(expected + head, KIND, HEAD_BYTES)
        head += HEAD_BYTES
        if n < head + 1 + BEHIND_BYTES or memcmp(line, expected, head) != 0:
            return False
        if memcmp(behind, CHAIN, 10) != 0 or memcmp(behind + 74, '"}\n', 3) != 0:
            return False
        memcpy(chain, self.chain, CHAIN_BYTES)
        _link(line, behind - line, chain)
        _to_hex(chain, text)
        if memcmp(text, behind + 10, 64) != 0:
            return False
        memcpy(self.chain, chain, CHAIN_BYTES)
        self.inspect(line + head, behind, n)
        self.n += 1
        self.at += n
        return True

    cdef void inspect(self, const char *p, const char *end, Py_ssize_t n) noexcept nogil:
        """Collect a line of another kind, or with a time far behind."""
        cdef const char *stop = <const char *> memchr(p, 34, end - p)
        cdef Py_ssize_t kind = (end if stop == NULL else stop) - p
        cdef int64_t at = 0
        if not (
            (kind == 8 and memcmp(p, "decision", 8) == 0)
            or (kind == 6 and memcmp(p, "change", 6) == 0)
            or (kind == 5 and memcmp(p, "chain", 5) == 0)
        ):
            if not _add(&self.read, self.n, self.at, self.at + n):
                self.no_memory = True
        if stop == NULL or end - stop < 11 or memcmp(stop + 1, AT, 9) != 0:
            return
        stop += 10
        while stop < end and 48 <= stop[0] <= 57:
            at = at * 10 + stop[0] - 48
            stop += 1
            if at > MAX_AT:
                return
        if at + self.slack < self.latest:
            if not _add(&self.back, self.n, self.at, self.at + n):
                self.no_memory = True
            # Collect one line a clock step, not each line that follows it.
            self.latest = at
        elif at > self.latest:
            self.latest = at


def walk(
    bytes data not None, Py_ssize_t start, long long first_n, bytes previous not None,
    long long latest_ms, long long slack_ms
):
    """Verify the chain over lines, up to the first that is not the next one.

    Args:
        data: whole lines. Bytes before ``start`` were walked already.
        start: the offset of the first line.
        first_n: the number that it must have.
        previous: the chain of the previous line, 32 bytes.
        latest_ms: the latest time of earlier lines, in ms since 1970.
        slack_ms: the tolerance for a line's ``at_ms`` behind the latest time.

    Returns:
        The number of valid lines; the offset of the first line that is invalid or has no line feed (the length of
        ``data``: none); the chain of the last valid line; the lines of other kinds than decision, change and chain,
        and the lines with a time behind, each as ``(n, start, end)``; the latest time. Works without the GIL.

    Raises:
        ValueError: for a negative number or offset, or a chain of another length.
    """
    cdef _Walk walking = _Walk.__new__(_Walk)
    cdef const char *p = PyBytes_AS_STRING(data)
    cdef Py_ssize_t n = PyBytes_GET_SIZE(data)
    _take(walking.chain, first_n, previous)
    if start < 0:
        raise ValueError("a place in the data is not negative")
    walking.n = first_n
    walking.at = start
    walking.latest = latest_ms
    walking.slack = slack_ms
    with nogil:
        walking.run(p, n)
    if walking.no_memory:
        raise MemoryError
    return (
        walking.n - first_n,
        walking.at,
        PyBytes_FromStringAndSize(<char *> walking.chain, CHAIN_BYTES),
        _listed(&walking.read),
        _listed(&walking.back),
        walking.latest,
    )
