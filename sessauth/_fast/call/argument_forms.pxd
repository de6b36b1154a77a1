"""Arguments of a call in any form, as the bytes to judge (docs/token-format.md, section 8.2)."""

from cpython.bytes cimport PyBytes_CheckExact

# Never raises for values that an agent controls: values without a JSON form become bytes that are denied.
cdef bytes judged_bytes(object arguments)

cdef inline object json_slice(object arguments, TextSlice *out):
    """Point at the bytes to judge. Return the object that owns them, or None if ``arguments`` does."""
    if PyBytes_CheckExact(arguments):
        return slice_of(arguments, out)
    cdef bytes encoded = judged_bytes(arguments)
    slice_of(encoded, out)
    return encoded
