"""Answers to checks that need no thread: every token was verified before, and nothing waits for the writer.

Whatever else a request is, or lacks, is answered by the service: this module refuses nothing.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t
from libc.string cimport memcmp

from sessauth._fast.base.clock cimport monotonic_ns
from sessauth._fast.base.limits cimport STAGE_NEEDS
from sessauth._fast.call.resource cimport TextSlice
from sessauth._fast.check.batch cimport Item
from sessauth._fast.check.chain_cache cimport ChainCache
from sessauth._fast.check.checker cimport Checker
from sessauth._fast.check.recording_runner cimport is_text
from sessauth._fast.record.counters cimport Histograms
from sessauth._fast.rpc_codec.check_messages cimport CheckMessage, TokenTableEntry
from sessauth._fast.token.chain cimport Chain

__all__ = ["DirectCaller", "DirectMethod"]

cdef enum:
    # Items of one answer, and those of them that are denied: an explanation costs more than a check.
    MAX_ITEMS = 256
    MAX_DENIED = 8


cdef class DirectMethod:
    """Answers ``Check`` or ``CheckBatch``: ``kind`` is the kernel's word for its request.

    ``explain(decision, token)`` returns the text of a denial. The time of each call is counted in ``row`` of
    ``times``, unless that is None.
    """

    def __cinit__(self, str kind not None, Checker checker not None, explain not None, Histograms times=None,
                  Py_ssize_t row=0):  # fmt: skip
        if times is not None and not 0 <= row < times.rows:
            raise IndexError("no such row")
        self._kind = kind
        self._checker = checker
        self._explain = explain
        self._times = times
        self._row = row
        self._most = MAX_ITEMS if kind == "batch" else 1


cdef class DirectCaller:
    """A caller of a method: the audiences it may check for (none: any), and its gate of failed signatures."""

    def __cinit__(self, DirectMethod method not None, tuple audiences not None, gate):
        self._method = method
        self._audiences = audiences
        self._gate = gate

    def answer_bytes(self, bytes data not None):
        """Return the answer to a request, encoded; None if it needs a thread."""
        return self.answer(data, monotonic_ns())

    cdef bytes answer(self, bytes data, int64_t started_ns):
        cdef DirectMethod method = self._method
        cdef CheckMessage message
        cdef bytes reply
        cdef str audience
        try:
            message = CheckMessage(method._checker, data, method._kind)
        except ValueError:
            return None
        if not _is_plain(message, method._most):
            return None
        audience = self._audience_of(message)
        if audience is None or not _find_cached_tokens(message):
            return None
        message.judge(audience, self._gate)
        if not _is_final(message):
            return None
        reply = message.answer(method._explain)
        method.answered += 1
        if method._times is not None:
            method._times.count(method._row, monotonic_ns() - started_ns)
        return reply

    cdef str _audience_of(self, CheckMessage message):
        """Return the audience that the service would judge for; None: it would refuse."""
        cdef str stated
        if message.stated_audience.n == 0:
            return self._audiences[0] if len(self._audiences) == 1 else None
        stated = message.audience
        return stated if not self._audiences or stated in self._audiences else None


cdef bint _is_plain(CheckMessage message, int most) except -1:
    """Return True for well-formed items without options. A batch with proofs is judged once only, by the service."""
    cdef Py_ssize_t i
    if not 1 <= message.count <= most or message.stated != message.count or message.options != NULL:
        return False
    if most == 1 and message.token_indexes != NULL:
        return False
    if message.count > 1:
        for i in range(message.count):
            if message.items[i].input.proof.n:
                return False
    return message.well_formed()


cdef bint _is_final(CheckMessage message) noexcept:
    """Return True if no item waits for the writer. Nothing was recorded or used up yet if one does."""
    cdef Py_ssize_t i
    cdef Item *item
    cdef int denied = 0
    for i in range(message.count):
        item = &message.items[i]
        if not item.outcome.allowed:
            denied += 1
            if item.outcome.stage == STAGE_NEEDS or denied > MAX_DENIED:
                return False
    return True


cdef bint _find_cached_tokens(CheckMessage message) except -1:
    """Point each item at its chain in the cache of verified ones, before it is judged. False: one is not there."""
    cdef Py_ssize_t i
    cdef Item *item
    cdef Item *before = NULL
    cdef TokenTableEntry *entry
    for i in range(message.stated_tokens if message.table != NULL else 0):
        entry = &message.table[i]
        entry.chain = _find_cached(message, &entry.token, &entry.refused)
        if entry.chain == NULL:
            return False
        message.references.append(<object> entry.chain)
        entry.looked_up = True
    for i in range(message.count):
        item = &message.items[i]
        if item.input.token.n == 0:
            continue
        if before != NULL and before.input.token.n == item.input.token.n and (
            memcmp(before.input.token.p, item.input.token.p, item.input.token.n) == 0
        ):
            item.chain = before.chain
        else:
            item.chain = _find_cached(message, &item.input.token, &item.refused)
        if item.chain == NULL:
            return False
        Py_INCREF(<object> item.chain)
        before = item
    return True


cdef PyObject *_find_cached(CheckMessage message, TextSlice *token, int *refused) except? NULL:
    """Return the chain of a token, borrowed from the cache; NULL if it was not verified before."""
    cdef ChainCache cache = message.checker.cache
    cdef PyObject *kept = NULL
    cdef Chain chain
    if is_text(token.p, token.n):
        message.read_text(token, refused, &kept)
        return kept
    chain = cache.find(token.p, token.n)
    if chain is None:
        # The thread that judges the call counts the miss.
        cache.misses -= 1
    return <PyObject *> chain if chain is not None else NULL
