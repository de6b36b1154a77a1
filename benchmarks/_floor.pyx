# cython: language_level=3
"""Floors: what no check can do without, and nothing else. Built when the benchmarks run, never shipped."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject
from libc.stdint cimport uintptr_t

from nacl._sodium import ffi, lib
from nacl.bindings import sodium_init

sodium_init()

cdef extern from "<time.h>" nogil:
    cdef struct timespec:
        long tv_sec
        long tv_nsec
    int CLOCK_REALTIME
    int clock_gettime(int clock, timespec *now)

cdef extern from *:
    """
    #include <alloca.h>
    static PyObject * __attribute__((noinline)) sessauth_call_below(PyObject *run, PyObject *items, int bytes) {
        volatile char *room = alloca(bytes + 16);
        room[0] = 0;
        return PyObject_CallOneArg(run, items);
    }
    """
    object call_below "sessauth_call_below"(object run, object items, int bytes)

ctypedef int (*sign_open_t)(
    unsigned char *, unsigned long long *, const unsigned char *, unsigned long long, const unsigned char *
) noexcept nogil


def _address(name):
    return int(ffi.cast("uintptr_t", ffi.addressof(lib, name)))


cdef sign_open_t _sign_open = <sign_open_t> <uintptr_t> _address("crypto_sign_open")


def below(run, items, int bytes):
    """Return ``run(items)``, called that many bytes further down the stack."""
    return call_below(run, items, bytes)


cdef class Lookup:
    """The lookup floor: a compiled call, one look-up in a dict, one clock read."""

    cdef dict _table

    def __init__(self, dict table not None):
        self._table = table

    def find(self, bytes token not None):
        """Return what the table has for the token, or None."""
        cdef timespec now
        cdef PyObject *found = PyDict_GetItem(self._table, token)
        clock_gettime(CLOCK_REALTIME, &now)
        return None if found == NULL or now.tv_sec == 0 else <object> found


def verify(bytes signed not None, bytes public_key not None):
    """Return whether signature and message, in one piece, stand under a key of 32 bytes."""
    cdef unsigned long long length = 0
    cdef const unsigned char *data = <const unsigned char *> PyBytes_AS_STRING(signed)
    cdef const unsigned char *key = <const unsigned char *> PyBytes_AS_STRING(public_key)
    cdef unsigned long long n = PyBytes_GET_SIZE(signed)
    cdef bint right
    if PyBytes_GET_SIZE(public_key) != 32:
        return False
    with nogil:
        right = _sign_open(NULL, &length, data, n, key) == 0
    return right
