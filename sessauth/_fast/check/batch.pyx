"""A batch of calls: their inputs and outcomes, and decisions created on access."""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.ref cimport Py_DECREF
from libc.stdlib cimport calloc, free


cdef class Batch:
    """The decisions of one batch, in the order of its calls: with a length, an index and an iterator.

    Each access creates a new object with the same ``decision_id``.
    """

    cdef int allocate(self, Py_ssize_t count) except -1:
        """Allocate the items. Called once."""
        cdef Py_ssize_t i
        self.items = <Item *> calloc(count if count else 1, sizeof(Item))
        if self.items == NULL:
            raise MemoryError
        self.count = count
        for i in range(count):
            input_init(&self.items[i].input)
            outcome_init(&self.items[i].outcome)
            self.items[i].lineage_of = <int> i
        return 0

    def __dealloc__(self):
        cdef Py_ssize_t i
        if self.items == NULL:
            return
        self.release_lineages(0, self.count)
        for i in range(self.count):
            outcome_free(&self.items[i].outcome)
            if self.items[i].chain != NULL:
                Py_DECREF(<object> self.items[i].chain)
        free(self.items)

    cdef Chain chain_of(self, Item *item):
        """Return the chain of a decoded item, or None."""
        return None if item.chain == NULL else <Chain> item.chain

    cdef void reset(self, Py_ssize_t first, Py_ssize_t end):
        """Reset outcomes, so that the items can be judged again."""
        cdef Py_ssize_t i
        self.release_lineages(first, end)
        for i in range(first, end):
            outcome_free(&self.items[i].outcome)
            outcome_init(&self.items[i].outcome)
            self.items[i].lineage_of = <int> i
            self.items[i].passed = False

    cdef void release_lineages(self, Py_ssize_t first, Py_ssize_t end):
        cdef Py_ssize_t i
        for i in range(first, end):
            lineage_clear(&self.items[i].own_lineage)

    cdef bytes token_of(self, Py_ssize_t i):
        """Return the token's bytes as presented."""
        cdef TextSlice *token = &self.items[i].input.token
        return PyBytes_FromStringAndSize(<const char *> token.p, token.n)

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.count))]
        cdef Py_ssize_t i = index
        cdef Decision out
        cdef Item *item
        if i < 0:
            i += self.count
        if not 0 <= i < self.count:
            raise IndexError("no such decision")
        item = &self.items[i]
        out = Decision.__new__(Decision)
        out.prefix = self.prefix
        out.number = self.number + i
        out.fill(&item.outcome, self.chain_of(item))
        if item.outcome.reason == INTERNAL_ERROR:
            out._fault = self._fault
        return out

    def __iter__(self):
        for i in range(self.count):
            yield self[i]

    @property
    def fault(self):
        """The exception behind INTERNAL_ERROR, or None."""
        return self._fault

    @property
    def all_allowed(self):
        """True if every call is allowed; True for an empty batch."""
        cdef Py_ssize_t i
        for i in range(self.count):
            if not self.items[i].outcome.allowed:
                return False
        return True

    def __repr__(self):
        return f"<{type(self).__name__} of {self.count}>"
