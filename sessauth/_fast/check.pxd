"""What callers of a check call."""

from sessauth._fast.batch cimport Item
from sessauth._fast.finding cimport Asked
from sessauth._fast.noting cimport NotingJudge
from sessauth._fast.proof cimport ProofKeys

cdef class Checker(NotingJudge):
    # What proofs are judged by; a check that began goes on with what there was then.
    cdef public ProofKeys proofs
    cdef object _read_proof

    cdef int _read_call(self, object call, Item *item, list held) except -1
    cdef tuple _take_proof(self, object proof, Asked *asked)
