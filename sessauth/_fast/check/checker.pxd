"""The entry points of a check."""

from libc.stdint cimport int64_t

cdef class Checker(RecordingRunner):
    # Keys that verify proofs. A check uses the keys that it started with.
    cdef public ProofKeys proofs

    cdef Decision _judge_call(
        self, CheckInput *input, object token, object action, object resource, object arguments, object tool, bytes session,
        str source, object peer, str audience, object proof, int64_t now_ms, bint record_needs,
    )  # fmt: skip
    cdef int _read_call(self, object call, Item *item, list references) except -1
    cdef tuple _set_proof(self, object proof, CheckInput *input)
