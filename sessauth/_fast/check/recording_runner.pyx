"""Prepared tokens, and records of decisions.

The process that makes a decision records it once, when it answers. The paths of a check record their own answers.
Decisions that are answered later are recorded here.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_CheckExact
from libc.stdint cimport int64_t
from libc.string cimport memcmp


@cython.final
cdef class Prepared:
    """A token for repeated use by one checker: looked up once, judged anew each time."""


cdef class RecordingRunner(BatchRunner):
    """Adds records and counters of decisions. See StageRunner for the chain of classes."""

    def record_decision(
        self,
        Decision decision not None,
        token not None,
        action not None,
        resource not None,
        arguments not None=b"",
        *,
        str source not None="",
        str audience=None,
        int64_t now_ms=-1,
        bint token_only=False,
    ):
        """Record a decision that its check did not record: one of ``refuse``, or a delayed one.

        The parts are those of ``check``, or of ``_check``. Without a decision queue only the counters change. A full
        queue raises nothing.
        """
        cdef CheckInput input
        cdef CheckOutcome outcome
        cdef object data
        cdef int reason = 0
        cdef DecisionQueue queue = self.decision_queue
        if self.counters is not None:
            self.counters.count_outcome(&decision.outcome)
        if queue is None:
            return
        input_init(&input)
        if not PyBytes_CheckExact(token) or holds_token_text(token):
            data = self.read_token(token, &reason)
            if data is not None:
                token = (<Chain> data).raw if type(data) is Chain else data
        references = [
            _slice_or_empty(token, &input.token),
            _slice_or_empty(action, &input.action),
            _slice_or_empty(resource, &input.resource),
        ]
        references.append(json_slice(arguments, &input.arguments))
        references.append(_slice_or_empty(source, &input.source))
        references.append(_slice_or_empty(self.audience if audience is None else audience, &input.audience))
        input.now_ms = max(now_ms, 0)
        input.token_only = token_only
        outcome = decision.outcome
        outcome.argument = NULL
        if decision._argument is not None:
            text = decision._argument.encode()
            set_argument(&outcome, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
        queue.put(&input, &outcome, decision.chain, <bytes_t> PyBytes_AS_STRING(decision.prefix), decision.number, False)
        outcome_free(&outcome)

    def prepare(self, token not None):
        """Return a handle that ``check`` accepts in place of the token, for callers that use it again.

        It saves the lookup of the token only: every call is judged anew. A malformed token is denied when it is
        checked. The handle keeps the chain in memory beside the cache's bytes.
        """
        cdef Prepared prepared
        cdef CheckOutcome ignored
        cdef CheckInput input
        cdef object data
        cdef int reason = 0
        if type(token) is Prepared and ((<Prepared> token).checker is self or (<Prepared> token).reason):
            return token
        data = self.read_token(token, &reason)
        prepared = Prepared.__new__(Prepared)
        prepared.checker = self
        prepared.reason = reason
        if type(data) is Chain:
            prepared.chain = data
            prepared.data = prepared.chain.raw
        elif data is not None:
            input_init(&input)
            outcome_init(&ignored)
            slice_of(data, &input.token)
            prepared.data = data
            prepared.chain = self.chain_of(&input, data, &ignored)
        return prepared

    def record_batch_item(self, Batch batch not None, Py_ssize_t i, *, bint watched=False):
        """Record one decision of a batch that was judged with ``record=False``.

        ``watched``: it withdraws an allow. Raises IndexError for an index outside the batch.
        """
        if not 0 <= i < batch.count:
            raise IndexError("no such decision")
        self.record_item(batch, &batch.items[i], watched)

    cdef int judge_timed(self, Batch batch, Py_ssize_t first, Py_ssize_t end, int64_t now_ms) except -1:
        """Judge a batch and count its time."""
        cdef CheckCounters counters = self.counters
        cdef int64_t started
        if counters is None:
            return self.judge_batch(batch, first, end, now_ms)
        started = counters.begin()
        self.judge_batch(batch, first, end, now_ms)
        counters.add_time(started, end - first)
        return 0

    cdef void record_item(self, Batch batch, Item *item, bint watched) noexcept:
        """Record an item's outcome when it is answered."""
        cdef DecisionQueue queue = self.decision_queue
        if self.counters is not None and not watched:
            self.counters.count_outcome(&item.outcome)
        if queue is None:
            return
        queue.put(
            &item.input,
            &item.outcome,
            batch.chain_of(item),
            <bytes_t> PyBytes_AS_STRING(batch.prefix),
            batch.number + (item - batch.items),
            watched,
        )

    cdef object read_token(self, object token, int *reason):
        cdef Prepared prepared
        cdef bytes data
        if type(token) is Prepared:
            prepared = token
            if prepared.reason:
                reason[0] = prepared.reason
                return None
            return <bytes?> prepared.data if prepared.checker is not self or prepared.chain is None else prepared.chain
        if isinstance(token, bytes):
            data = token if PyBytes_CheckExact(token) else bytes(token)
            if not holds_token_text(data):
                return data
        elif isinstance(token, str):
            if PyUnicode_CheckExact(token) and PyUnicode_IS_COMPACT_ASCII(token):
                return self.read_text(PyUnicode_1BYTE_DATA(token), PyUnicode_GET_LENGTH(token), reason)
            # What is not ASCII is in no text form. Replaced, it stays one character.
            data = (<str> token).encode("ascii", "replace")
        elif self._token_type is not None and isinstance(token, self._token_type):
            return <bytes?> token.data
        else:
            raise TypeError(f"the token is bytes, str or Token, not {type(token).__name__}")
        return self.read_text(<bytes_t> PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), reason)

    cdef object read_text(self, bytes_t p, size_t n, int *reason):
        cdef Chain chain = self.cache.find_text(p, n)
        cdef bytes data = None
        cdef int fault
        if chain is not None:
            return chain
        if n >= STORED_CHARS and memcmp(p, STORED_PREFIX, STORED_CHARS) == 0:
            reason[0] = OPEN_TOKEN
        elif n > PRESENTED_CHARS + (MAX_TOKEN_BYTES * 4 + 2) // 3 + CHECK_CHARS:
            reason[0] = TOKEN_TOO_LARGE
        else:
            if n >= PRESENTED_CHARS and memcmp(p, PRESENTED_PREFIX, PRESENTED_CHARS) == 0:
                data = decode_text(p, n, PRESENTED_CHARS, &fault)
            if data is None:
                reason[0] = MALFORMED_TOKEN
        if data is None:
            return None
        chain = self.cache.find(<bytes_t> PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))
        if chain is None:
            # The stage that parses it looks again.
            self.cache.misses -= 1
            return data
        self.cache.keep_text(chain, p, n)
        return chain


cdef object _slice_or_empty(object text, TextSlice *out):
    """Point at a text or bytes; leave the slice empty for other objects."""
    return slice_of(text, out) if isinstance(text, (bytes, str)) else None
