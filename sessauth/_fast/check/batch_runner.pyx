"""Judges a batch by one state and one time."""

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t
from libc.string cimport memcmp

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
