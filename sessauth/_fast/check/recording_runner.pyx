"""Batches, prepared tokens, and records of decisions.

A batch runs the stages that read state item by item, then all scopes without the GIL.

The process that makes a decision records it once, when it answers. The paths of a check record their own answers.
Decisions that are answered later are recorded here.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from cpython.unicode cimport PyUnicode_CheckExact
from libc.stdint cimport int64_t
from libc.string cimport memcmp


# Checks a batch by one state and one time.

cdef enum:
    # Slots of the table of tokens that earlier items presented.
    SAME_TOKENS = 64
    # Slots that one chain may use, so that chains with colliding addresses don't displace each other.
    SAME_PLACES = 4


cdef class BatchRunner(StageRunner):
    """Adds batches to the stages. See StageRunner for the chain of classes."""

    cdef void name(self, Batch batch):
        batch.prefix = self._prefix
        batch.number = self._count + 1
        self._count += batch.count

    cdef int judge_batch(self, Batch batch, Py_ssize_t first, Py_ssize_t end, int64_t now_ms) except -1:
        cdef ReadPoint point
        cdef CheckInput clock
        cdef Py_ssize_t i
        if batch.judged:
            batch.reset(first, end)
        batch.judged = True
        for i in range(first, end):
            batch.items[i].input.signature_known_wrong = False
        if self.decision_queue is not None and self.decision_queue.refusing:
            for i in range(first, end):
                deny(&batch.items[i].outcome, STAGE_NONE, AUDIT_UNAVAILABLE)
            return 0
        try:
            input_init(&clock)
            self.clock(&clock, now_ms)
            if self.view.is_unchanged(&point):
                self._batch_at(&point, batch, first, end, &clock, now_ms < 0)
                if not point.needs_read:
                    return 0
                batch.reset(first, end)
            transaction = self.view.begin(&point)
            try:
                self._batch_at(&point, batch, first, end, &clock, now_ms < 0)
            finally:
                transaction.abort()
        except Exception as fault:
            batch._fault = fault
            batch.release_lineages(first, end)
            for i in range(first, end):
                set_fault(&batch.items[i].outcome)
        return 0

    cdef int _batch_at(
        self, ReadPoint *point, Batch batch, Py_ssize_t first, Py_ssize_t end, const CheckInput *clock, bint apply_floor
    ) except -1:
        """Run the stages that read state, item by item, then the scopes of the items that passed, without the GIL."""
        cdef int same[SAME_TOKENS]
        cdef int alike[SAME_TOKENS]
        cdef Item *item
        cdef Item *earlier
        cdef ScratchBox box
        cdef Py_ssize_t i
        cdef int k
        for k in range(SAME_TOKENS):
            same[k] = -1
            alike[k] = -1
        for i in range(first, end):
            item = &batch.items[i]
            item.input.now_ms = clock.now_ms
            item.input.clock_suspect = item.clock_suspect or clock.clock_suspect
            if item.refused:
                deny(&item.outcome, STAGE_DECODE, item.refused)
                continue
            if item.chain == NULL and not self._decode(batch, item, alike):
                continue
            earlier = _earlier(batch, item, same)
            if earlier != NULL:
                item.outcome = earlier.outcome
                item.passed = earlier.passed
                item.lineage_of = earlier.lineage_of
                continue
            item.passed = self.judge_before_scope(
                point, <Chain> item.chain, &item.input, apply_floor, &item.own_lineage, &item.outcome
            )
            if point.needs_read:
                return 0
            item.input.signature_known_wrong = item.outcome.reason == BAD_SIGNATURE and item.outcome.level == LEVEL_BLOCK
            item.input.wrong_index = item.outcome.index
        box = self.take_box()
        with nogil:
            for i in range(first, end):
                item = &batch.items[i]
                earlier = &batch.items[item.lineage_of]
                if item.passed:
                    judge_item(item, earlier.own_lineage.rules, earlier.own_lineage.count, &box.scratch)
                else:
                    clear_match(&item.outcome)
        self.box = box
        batch.release_lineages(first, end)
        return 0

    cdef bint _decode(self, Batch batch, Item *item, int *alike) except -1:
        """Set an item's chain, from an earlier item with the same token if possible. False: the outcome is a denial."""
        cdef bytes_t signature = NULL
        cdef Item *earlier
        cdef Chain chain
        cdef int k
        if item.input.token.n <= MAX_TOKEN_BYTES:
            signature = last_signature(item.input.token.p, item.input.token.n)
        if signature != NULL:
            k = signature[32] % SAME_TOKENS
            earlier = &batch.items[alike[k]]
            if alike[k] >= 0 and earlier.chain != NULL and _same_slice(&item.input.token, &earlier.input.token):
                Py_INCREF(<object> earlier.chain)
                item.chain = earlier.chain
                return True
            alike[k] = <int> (item - batch.items)
        chain = self.chain_of(&item.input, None, &item.outcome)
        if chain is None:
            return False
        Py_INCREF(chain)
        item.chain = <PyObject *> chain
        return True


cdef inline bint _same_slice(const TextSlice *a, const TextSlice *b) noexcept nogil:
    return a.n == b.n and (a.p == b.p or memcmp(a.p, b.p, a.n) == 0)


cdef Item *_earlier(Batch batch, const Item *item, int *same) noexcept:
    """Return an earlier item that differs in the call only. Without one, record this item for later ones."""
    cdef size_t first = (<size_t> item.chain) >> 5
    cdef size_t place
    cdef int i
    for i in range(SAME_PLACES):
        place = (first + i) % SAME_TOKENS
        if same[place] < 0:
            same[place] = <int> (item - batch.items)
            return NULL
        if _same_but_call(item, &batch.items[same[place]]):
            return &batch.items[same[place]]
    same[first % SAME_TOKENS] = <int> (item - batch.items)
    return NULL


cdef bint _same_but_call(const Item *a, const Item *b) noexcept nogil:
    """Compare the inputs of all stages before the scopes."""
    return (
        a.chain == b.chain
        and _same_slice(&a.input.session, &b.input.session)
        and _same_slice(&a.input.source, &b.input.source)
        and a.input.peer_count == b.input.peer_count
        and a.input.peers == b.input.peers
    )


cdef void judge_item(Item *item, const SessionRules **rules, int rules_count, Scratch *scratch) noexcept nogil:
    if judge_scope(<Chain> item.chain, rules, rules_count, &item.input, scratch, &item.outcome) and consume_nonce(
        <Chain> item.chain, &item.input, &item.outcome
    ):
        allow(<Chain> item.chain, &item.outcome)
    else:
        clear_match(&item.outcome)


@cython.final
cdef class Prepared:
    """A token for repeated use by one checker: looked up once, checked again each time."""


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

        It saves the lookup of the token only: every call is checked in full. A malformed token is denied when it is
        checked. The handle keeps the chain in memory, in addition to the cache's bytes.
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
        """Record one decision of a batch that was checked with ``record=False``.

        ``watched``: it withdraws an allow. Raises IndexError for an index outside the batch.
        """
        if not 0 <= i < batch.count:
            raise IndexError("no such decision")
        self.record_item(batch, &batch.items[i], watched)

    cdef int judge_timed(self, Batch batch, Py_ssize_t first, Py_ssize_t end, int64_t now_ms) except -1:
        """Check a batch and count its time."""
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
            # No text form has characters beyond ASCII. Each is replaced by one character.
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
