"""The id of the last commit, read without a transaction.

LMDB writes the id of each transaction into one of two meta pages, in turn, before the commit returns.
While the newer id equals the one that a mirror was read at, nothing was committed since, and nothing need be
read again (docs/decisions.md#7-freshness-without-a-transaction). In doubt the number differs from the
mirror's, and the check asks LMDB.
"""

from cpython.buffer cimport PyBUF_SIMPLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint64_t

# The number after close: no transaction has this id.
cdef uint64_t NEVER = 0


cdef class CommitId:
    """Two 64-bit words of a mapped file, in the machine's byte order. The larger one counts."""

    def __cinit__(self, buffer not None, size_t first, size_t second):
        """Read the words at two offsets of a buffer, multiples of 8 inside it."""
        cdef Py_buffer view
        self._first = self._second = &NEVER
        # The memory outlives the release: the memoryview keeps it mapped.
        self._buffer = memoryview(buffer)
        PyObject_GetBuffer(self._buffer, &view, PyBUF_SIMPLE)
        try:
            for offset in (first, second):
                if offset % 8 or offset + 8 > <size_t> view.len or (<size_t> view.buf) % 8:
                    raise ValueError("the words of a pulse lie at multiples of 8 inside the buffer")
            self._first = <const uint64_t *> (<const unsigned char *> view.buf + first)
            self._second = <const uint64_t *> (<const unsigned char *> view.buf + second)
        finally:
            PyBuffer_Release(&view)

    @property
    def number(self):
        """The current number; 0 when closed."""
        return self.current()

    @property
    def numbers(self):
        """Both numbers, the first page's first; zeros when closed."""
        return self._first[0], self._second[0]

    def close(self):
        """Return 0 from now on, which is no transaction's id: every check asks the source."""
        self._closed = True
        self._first = self._second = &NEVER
