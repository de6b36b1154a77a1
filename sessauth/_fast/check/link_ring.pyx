"""Rings of links: a queue of chains whose end has no owner."""

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF


cdef inline void link_init(Link *link) noexcept:
    link.before = link
    link.behind = link
    link.owner = NULL

cdef inline void link_add(Link *end, Link *link) noexcept:
    """Insert a link before the end of a ring."""
    link.before = end.before
    link.behind = end
    end.before.behind = link
    end.before = link

cdef inline void link_remove(Link *link) noexcept:
    link.before.behind = link.behind
    link.behind.before = link.before

cdef inline void release_all(Link *end):
    cdef Link *link = end.behind
    cdef PyObject *owner
    while link.owner != NULL:
        owner = link.owner
        link = link.behind
        Py_DECREF(<object> owner)
