"""The lineage of a token: its session and the ancestors whose rules apply to it."""

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF

# The rules of the session and of its ancestors, the nearest first. Owns a reference to each entry: another thread
# may replace the view's entries while this one verifies.
cdef struct Lineage:
    PyObject *entries[MAX_ANCESTORS + 1]
    const SessionRules *rules[MAX_ANCESTORS + 1]
    int count

cdef inline void lineage_add(Lineage *lineage, SessionEntry entry) noexcept:
    Py_INCREF(entry)
    lineage.entries[lineage.count] = <PyObject *> entry
    lineage.rules[lineage.count] = &entry.rules
    lineage.count += 1

cdef inline void lineage_clear(Lineage *lineage) noexcept:
    cdef int i
    for i in range(lineage.count):
        Py_DECREF(<object> lineage.entries[i])
    lineage.count = 0
