"""What items of a request ask for beside an answer, and what the writer made of them."""

from libc.stdint cimport uint32_t, uint64_t

from sessauth._fast.base.arena cimport Arena
from sessauth._fast.call.resource cimport TextSlice
from sessauth._fast.check.batch cimport Batch, Item
from sessauth._fast.check.decision cimport Decision
from sessauth._fast.check.recording_runner cimport RecordingRunner
from sessauth._fast.codec.protobuf cimport WireReader

# Of one item: approvals that came with it, what its gateway calls the attempt, a permit.
cdef struct ItemOption:
    # Of too many, only the number.
    const TextSlice *approvals
    int approval_count
    TextSlice retry_id
    uint64_t permit_ms

cdef class ItemOptions(Batch):
    cdef Arena arena
    # One for each item; NULL where no item has one.
    cdef ItemOption *options
    # By item: decisions in the place of what was found, and encoded fields beside it. None: there are none.
    cdef dict overrides
    cdef dict attached

    cdef Item *_item(self, Py_ssize_t i) except NULL
    # Where an item's wish is kept; NULL without memory for it.
    cdef ItemOption *_make_option(self, Py_ssize_t i) noexcept
    # Read a field of CheckItem that is one of these, or step over it.
    cdef bint read_option(self, WireReader *reader, Py_ssize_t i, uint32_t number, uint32_t wire) noexcept
    cdef bint _options_formed(self) noexcept
    # Before the items from `first` up to, not with, `end` are judged.
    cdef int _forget(self, Py_ssize_t first, Py_ssize_t end) except -1
    # Note each item's decision as it is answered, but those that another process decided.
    cdef int record_answers(self, RecordingRunner judge, object elsewhere) except -1
    # The decision in an item's place, or None.
    cdef Decision override_of(self, Py_ssize_t i)

# Keep one of at most 16 parts; of more, only the number. False without memory.
cdef bint append_slice(Arena *arena, const TextSlice **parts, int *count, const TextSlice *part) noexcept
