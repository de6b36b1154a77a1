"""What callers of a check call."""

from sessauth._fast.batch cimport Item
from sessauth._fast.chain cimport Chain
from sessauth._fast.finding cimport Asked
from sessauth._fast.many cimport JudgeOfMany
from sessauth._fast.proof cimport ProofKeys
from sessauth._fast.text cimport bytes_t

cdef class Prepared:
    cdef object checker
    cdef readonly bytes data
    cdef Chain chain
    cdef int reason

cdef class Checker(JudgeOfMany):
    cdef readonly str audience
    # What proofs are judged by; a check that began goes on with what there was then.
    cdef public ProofKeys proofs
    cdef object _present
    cdef object _read_proof

    cdef Prepared _taken(self, object token)
    cdef int _read_call(self, object call, Item *item, list held) except -1
    cdef tuple _take_proof(self, object proof, Asked *asked)

# Whether bytes are a token's text form, or claim to be.
cdef bint is_text(bytes_t p, size_t n) noexcept nogil
