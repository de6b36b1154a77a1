"""Bits of a byte that several processes map and change: each change is one step, so none is lost.

``page[0] |= bit`` in Python reads and writes apart, and drops a bit that another process sets between them.
"""

from cpython.buffer cimport PyBUF_WRITABLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer

cdef extern from * nogil:
    """
    static inline void sessauth_set_bits(unsigned char *byte, unsigned char bits) {
        __atomic_fetch_or(byte, bits, __ATOMIC_SEQ_CST);
    }
    static inline void sessauth_clear_bits(unsigned char *byte, unsigned char bits) {
        __atomic_fetch_and(byte, (unsigned char) ~bits, __ATOMIC_SEQ_CST);
    }
    """
    void sessauth_set_bits(unsigned char *byte, unsigned char bits)
    void sessauth_clear_bits(unsigned char *byte, unsigned char bits)


def set_bits(page not None, unsigned char bits):
    """Set bits of a page's first byte. Raises BufferError for a page that can't be written."""
    change(page, bits, 0)


def clear_bits(page not None, unsigned char bits):
    """Clear bits of a page's first byte. Raises BufferError for a page that can't be written."""
    change(page, 0, bits)


cdef int change(page, unsigned char set_, unsigned char clear) except -1:
    cdef Py_buffer view
    PyObject_GetBuffer(page, &view, PyBUF_WRITABLE)
    try:
        if view.len < 1:
            raise ValueError("a page has at least one byte")
        sessauth_set_bits(<unsigned char *> view.buf, set_)
        sessauth_clear_bits(<unsigned char *> view.buf, clear)
    finally:
        PyBuffer_Release(&view)
    return 0
