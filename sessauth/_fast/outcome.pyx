"""What a check came to, and what it was asked."""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize

from sessauth._fast.request cimport document_free, document_init

cdef extern from "Python.h":
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    unsigned char *PyUnicode_1BYTE_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)

__all__ = ["Outcome"]


cdef class Outcome:
    """What a check came to. Truth of an outcome is ``allowed``; positions are -1 where they don't apply."""

    def __bool__(self):
        return self.allowed

    @property
    def session_id(self):
        """The session's id, 16 bytes; empty until the signature stands."""
        return b"" if self._chain is None else self._chain.session_id

    @property
    def block_ids(self):
        """The ids of the chain's blocks, the root's first; empty until the signature stands."""
        return () if self._chain is None else self._chain.block_ids

    @property
    def view_age_ms(self):
        """How old the view may be, in ms: 0, since every check reads the state it shares a host with."""
        return 0

    @property
    def decision_id(self):
        """16 bytes, of this decision alone."""
        return self._prefix + self._count.to_bytes(8, "big")


@cython.final
@cython.freelist(16)
cdef class Request:
    """The arguments of one check."""


@cython.final
cdef class Scratch:
    """Memory for one request's JSON, used again by the next."""

    def __cinit__(self):
        document_init(&self.arguments)
        document_init(&self.tool)

    def __dealloc__(self):
        document_free(&self.arguments)
        document_free(&self.tool)


cdef bytes utf8(object text):
    """Bytes as they are; a str in UTF-8, with what UTF-8 can't say made invalid, not lost."""
    if isinstance(text, bytes):
        return text
    if isinstance(text, str):
        if PyUnicode_IS_COMPACT_ASCII(text):
            return PyBytes_FromStringAndSize(<const char *> PyUnicode_1BYTE_DATA(text), PyUnicode_GET_LENGTH(text))
        return (<str> text).encode("utf-8", "surrogatepass")
    raise TypeError(f"bytes or str expected, got {type(text).__name__}")
