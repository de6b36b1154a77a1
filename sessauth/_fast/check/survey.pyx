"""A survey: verdicts on candidate calls of one token (docs/token-format.md, section 9.12).

The token is checked once. Each candidate is checked by the scopes alone, with its arguments or for all possible
arguments. ``scopes/match`` decides on scopes and conditions.
"""

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from sessauth._fast._check cimport (
    ALLOWED,
    ENDING_BOUND,
    MAYBE,
    NO,
    STAGE_DECODE,
    STAGE_NEEDS,
    STAGE_PROOF,
    YES,
    Batch,
    Block,
    Chain,
    CheckInput,
    CheckOutcome,
    Checker,
    Item,
    PartialCall,
    ReadPoint,
    Scratch,
    ScratchBox,
    SessionRules,
    TextSlice,
    and3,
    bytes_t,
    deny,
    eval_condition3,
    eval_scopes3,
    is_action,
    json_slice,
    judge_kinds,
    judge_scope,
    lineage_clear,
    may_overwork,
    outcome_free,
    outcome_init,
    read_document,
    read_facts_of,
    set_fault,
    set_slice,
    slice_of,
    split_resource,
)

# One candidate call. `given` is false for all possible arguments.
cdef struct Candidate:
    TextSlice action
    TextSlice resource
    TextSlice arguments
    TextSlice tool
    bint given
    int verdict


@cython.final
cdef class Survey:
    """A token, checked once up to its scopes as in ``Checker.check``, for verdicts on candidate calls.

    ``reason`` and ``stage`` are the numbers of a refusal of the token for every call, 1 and 0 without one. The
    parameters are those of ``Checker.check``; ``gate`` is that of ``CheckMessage.judge``.
    """

    cdef Checker _checker
    cdef Batch _batch
    cdef object _gate
    cdef list _references

    def __cinit__(
        self,
        Checker checker not None,
        token not None,
        *,
        bytes session not None=b"",
        str source not None="",
        peer=(),
        str audience=None,
        uint64_t at_least_revision=0,
        int64_t now_ms=-1,
        bint clock_suspect=False,
        bint verify_new_signatures=True,
        gate=None,
    ):
        cdef Item *item
        self._checker = checker
        self._gate = gate
        self._references = [checker.audience if audience is None else audience]
        self._batch = Batch.__new__(Batch)
        self._batch.references = self._references
        self._batch.allocate(1)
        item = &self._batch.items[0]
        # A placeholder: the stages before the scopes read no call.
        checker._read_call((token, b"", b"", b"", b"", session, source, peer), item, self._references)
        self._references.append(slice_of(self._references[0], &item.input.audience))
        item.input.at_least_revision = at_least_revision
        item.input.clock_suspect = clock_suspect
        item.input.verify_new_signatures = verify_new_signatures
        item.input.gate = NULL if gate is None else <PyObject *> gate
        try:
            item.passed = self._judge_token(item, now_ms)
        except Exception as fault:
            self._batch._fault = fault
            lineage_clear(&item.own_lineage)
            set_fault(&item.outcome)

    @property
    def reason(self):
        """The number of the ``Reason`` that refuses the token; that of ALLOWED without a refusal."""
        return ALLOWED if self._batch.items[0].passed else self._batch.items[0].outcome.reason

    @property
    def stage(self):
        """The number of the ``Stage`` that refuses the token; 0 if none does."""
        return self._batch.items[0].outcome.stage

    @property
    def revision(self):
        """The revision of the state at the survey."""
        return self._batch.items[0].outcome.revision

    @property
    def fault(self):
        """The exception that caused INTERNAL_ERROR, or None."""
        return self._batch._fault

    def verdicts(self, candidates not None):
        """Return a verdict for each candidate: 1 yes, 2 no, 3 maybe.

        Args:
            candidates: tuples ``(action, resource[, arguments[, tool]])``, the parts as in ``Checker.check``.
                Arguments of None, the default, ask about all possible arguments.

        Raises:
            TypeError: for another form of candidate. Input that an agent controls raises nothing.
        """
        cdef Candidate *rows
        cdef list references = []
        cdef list each = list(candidates)
        cdef Py_ssize_t i
        cdef Py_ssize_t count = len(each)
        cdef ScratchBox box
        cdef Chain chain
        cdef Item *item = &self._batch.items[0]
        rows = <Candidate *> calloc(count if count else 1, sizeof(Candidate))
        if rows == NULL:
            raise MemoryError
        try:
            for i in range(count):
                _read(each[i], &rows[i], references)
            if item.passed:
                chain = <Chain> item.chain
                box = self._checker.take_box()
                with nogil:
                    for i in range(count):
                        rows[i].verdict = _verdict(chain, item, &rows[i], &box.scratch)
                self._checker.box = box
            return [rows[i].verdict for i in range(count)]
        finally:
            free(rows)

    cdef bint _judge_token(self, Item *item, int64_t now_ms) except -1:
        """Check the token by mirrored rows, and again by a transaction if rows are missing."""
        cdef ReadPoint point
        cdef CheckInput input
        cdef Chain chain
        cdef bint passed
        self._checker.clock(&item.input, now_ms)
        if item.refused:
            return deny(&item.outcome, STAGE_DECODE, item.refused)
        if item.chain == NULL:
            chain = self._checker.chain_of(&item.input, None, &item.outcome)
            if chain is None:
                return False
            Py_INCREF(chain)
            item.chain = <PyObject *> chain
        chain = <Chain> item.chain
        input = item.input
        if self._checker.view.is_unchanged(&point):
            passed = self._checker.judge_before_scope(&point, chain, &item.input, now_ms < 0, &item.own_lineage, &item.outcome)
            if not point.needs_read:
                return passed and judge_kinds(chain, &item.outcome)
            lineage_clear(&item.own_lineage)
            outcome_free(&item.outcome)
            outcome_init(&item.outcome)
            item.input = input
        transaction = self._checker.view.begin(&point)
        try:
            passed = self._checker.judge_before_scope(&point, chain, &item.input, now_ms < 0, &item.own_lineage, &item.outcome)
        finally:
            transaction.abort()
        return passed and judge_kinds(chain, &item.outcome)


cdef int _read(object candidate, Candidate *out, list references) except -1:
    """Point at the parts of a candidate. Its verdict is NO until it is checked."""
    cdef Py_ssize_t n
    out.verdict = NO
    if not isinstance(candidate, tuple) or not 2 <= len(candidate) <= 4:
        raise TypeError("a candidate is a tuple of action, resource and at most arguments and tool")
    n = len(candidate)
    set_slice(&out.arguments, <bytes_t> <const char *> "", 0)
    set_slice(&out.tool, <bytes_t> <const char *> "", 0)
    references.append(candidate)
    references.append(slice_of(candidate[0], &out.action))
    references.append(slice_of(candidate[1], &out.resource))
    if n > 2 and candidate[2] is not None:
        out.given = True
        references.append(json_slice(candidate[2], &out.arguments))
    if n > 3:
        references.append(json_slice(candidate[3], &out.tool))
    return 0


cdef int _verdict(Chain chain, Item *item, const Candidate *candidate, Scratch *scratch) noexcept nogil:
    cdef CheckInput input
    cdef CheckOutcome outcome
    cdef int out = NO
    if not candidate.given:
        return _whatever(chain, item.own_lineage.rules, item.own_lineage.count, candidate, scratch)
    input = item.input
    input.action = candidate.action
    input.resource = candidate.resource
    input.arguments = candidate.arguments
    input.tool = candidate.tool
    outcome_init(&outcome)
    if judge_scope(chain, item.own_lineage.rules, item.own_lineage.count, &input, scratch, &outcome):
        out = YES
    elif outcome.stage == STAGE_PROOF or outcome.stage == STAGE_NEEDS:
        out = MAYBE
    outcome_free(&outcome)
    return out


cdef int _whatever(
    Chain chain, const SessionRules **rules, int rules_count, const Candidate *candidate, Scratch *scratch
) noexcept nogil:
    """Return the verdict for all possible arguments."""
    cdef PartialCall call
    cdef Block *block
    cdef int out = YES
    cdef int i, k, n, one
    if not is_action(candidate.action.p, candidate.action.n):
        return NO
    if not split_resource(candidate.resource.p, candidate.resource.n, &scratch.resource):
        return NO
    if not read_document(&scratch.tool, candidate.tool.p, candidate.tool.n):
        return NO
    # No argument is read; an empty object replaces them.
    if not read_document(&scratch.arguments, candidate.arguments.p, candidate.arguments.n):
        return NO
    memset(&call, 0, sizeof(PartialCall))
    call.context.arguments = &scratch.arguments
    call.context.tool = &scratch.tool
    call.action = candidate.action
    call.resource = &scratch.resource
    call.knows_tool = True
    call.knows_facts = True
    for k in range(rules_count):
        read_facts_of(rules[k], &call.context)
        for i in range(rules[k].layer_count):
            one = eval_scopes3(&rules[k].layers[i], False, &call)
            if rules[k].observe:
                # Its refusals do not count; its work does.
                continue
            out = and3(out, one)
            if out == NO:
                return NO
    read_facts_of(rules[0], &call.context)
    for i in range(chain.block_count):
        block = &chain.blocks[i]
        call.context.visible_only = i > 0
        if block.scopes.count:
            out = and3(out, eval_scopes3(&block.scopes, True, &call))
        elif i == 0:
            return NO
        for n in range(block.where_count):
            out = and3(out, eval_condition3(&block.where[n], chain.base, &call))
    if out == YES and (
        chain.blocks[chain.block_count - 1].ending == ENDING_BOUND or may_overwork(&call)
    ):
        return MAYBE
    return out
