"""The arguments of a call, however they are given, as the bytes to judge (docs/token-format.md, section 8.2)."""

from cpython.bytes cimport PyBytes_CheckExact

from sessauth._fast.call.check_state cimport slice_of
from sessauth._fast.call.resource cimport TextSlice

# Never raises for what an agent controls: values that JSON can't say become bytes that are denied.
cdef bytes judged_bytes(object arguments)

cdef inline object json_slice(object arguments, TextSlice *out):
    """Point at the bytes to judge; returns what has to live as long, or None."""
    if PyBytes_CheckExact(arguments):
        return slice_of(arguments, out)
    cdef bytes encoded = judged_bytes(arguments)
    slice_of(encoded, out)
    return encoded
