"""Options of a request's items, and overrides by the writer."""

from libc.stdint cimport uint32_t, uint64_t
from sessauth._fast._check cimport Arena, Batch, Decision, Item, RecordingRunner, TextSlice, WireReader

# The options of one item: approvals, the gateway's retry id, the deadline of a permit.
cdef struct ItemOption:
    # Above the limit only the number is stored.
    const TextSlice *approvals
    int approval_count
    TextSlice retry_id
    uint64_t permit_ms

cdef class ItemOptions(Batch):
    cdef Arena arena
    # One for each item; NULL if no item has options.
    cdef ItemOption *options
    # By item: decisions that replace the outcome, and encoded extra fields. None: no item has any.
    cdef dict overrides
    cdef dict attached
    # Set for a Commit.
    cdef bint is_commit

    cdef Item *_item(self, Py_ssize_t i) except NULL
    # The options of an item, allocated if needed. NULL without memory.
    cdef ItemOption *_make_option(self, Py_ssize_t i) noexcept
    # Read an option's field of CheckItem, or skip another field.
    cdef bint read_option(self, WireReader *reader, Py_ssize_t i, uint32_t number, uint32_t wire) noexcept
    cdef bint _options_formed(self) noexcept
    # Reset the items from `first` up to `end`, exclusive, before they are judged.
    cdef int _reset_overrides(self, Py_ssize_t first, Py_ssize_t end) except -1
    # Record each item's decision, except those that another process decided.
    cdef int record_answers(self, RecordingRunner judge, object elsewhere) except -1
    # The decision that overrides an item's outcome, or None.
    cdef Decision override_of(self, Py_ssize_t i)
