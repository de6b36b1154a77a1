"""Judges a batch by one state and one time."""

from libc.stdint cimport int64_t

cdef class BatchRunner(StageRunner):
    # Number the decisions of an allocated batch.
    cdef void name(self, Batch batch)
    # Judge the items from `first` up to `end`, exclusive, at one read point. Scopes are judged without the GIL.
    # A denial raises nothing.
    cdef int judge_batch(self, Batch batch, Py_ssize_t first, Py_ssize_t end, int64_t now_ms) except -1
    cdef int _batch_at(
        self, ReadPoint *point, Batch batch, Py_ssize_t first, Py_ssize_t end, const CheckInput *clock, bint apply_floor
    ) except -1
    cdef bint _decode(self, Batch batch, Item *item, int *alike) except -1
