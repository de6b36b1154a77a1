"""What a token stands on in one moment: the sessions whose rules its scopes meet."""

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF

from sessauth._fast.base.limits cimport MAX_ANCESTORS
from sessauth._fast.check.view cimport SessionRules, SessionEntry

# The session's rules and then its ancestors', the nearest first. Owns a reference to each entry:
# another thread may replace those of the view while this one verifies.
cdef struct Lineage:
    PyObject *entries[MAX_ANCESTORS + 1]
    const SessionRules *rules[MAX_ANCESTORS + 1]
    int count

cdef inline void ground_add(Lineage *ground, SessionEntry entry) noexcept:
    Py_INCREF(entry)
    ground.entries[ground.count] = <PyObject *> entry
    ground.rules[ground.count] = &entry.rules
    ground.count += 1


cdef inline void ground_clear(Lineage *ground) noexcept:
    cdef int i
    for i in range(ground.count):
        Py_DECREF(<object> ground.entries[i])
    ground.count = 0
