"""Which of many calls a token could make (docs/token-format.md, section 9.12).

The token is judged once; then each candidate by its scopes alone, with its arguments or for all that there
could be. What a scope matches and a condition means is asked of ``match`` and ``evaluate``.
"""

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memset

from sessauth._fast.base.limits cimport (
    ALLOWED,
    MAX_WORK,
    STAGE_DECODE,
    STAGE_NEEDS,
    STAGE_PROOF,
    STAGE_SCOPE,
    UNKNOWN_KIND,
)
from sessauth._fast.base.text cimport bytes_t, is_action
from sessauth._fast.call.argument_forms cimport json_part
from sessauth._fast.call.check_state cimport (
    CheckInput,
    CheckOutcome,
    Scratch,
    ScratchBox,
    deny,
    finding_free,
    finding_init,
    part_of,
    set_part,
)
from sessauth._fast.call.json_reader cimport read_document
from sessauth._fast.call.resource cimport TextSlice, split_resource
from sessauth._fast.check.batch cimport Batch, Item
from sessauth._fast.check.checker cimport Checker
from sessauth._fast.check.judge cimport set_fault
from sessauth._fast.check.lineage cimport ground_clear
from sessauth._fast.check.stages cimport judge_scope
from sessauth._fast.check.three_valued cimport (
    MAYBE,
    NO,
    YES,
    PartialCall,
    both,
    of_condition,
    of_scopes,
    read_facts_of,
)
from sessauth._fast.check.view cimport ReadPoint, SessionRules
from sessauth._fast.token.block cimport ENDING_BOUND, Block
from sessauth._fast.token.chain cimport Chain

__all__ = ["Survey"]

# One call that could be made. Without arguments: about all that there could be.
cdef struct Candidate:
    TextSlice action
    TextSlice resource
    TextSlice arguments
    TextSlice tool
    bint given
    int verdict


@cython.final
cdef class Survey:
    """A token, judged once as ``Checker.check`` judges it before its scopes, to be asked about many calls.

    ``reason`` and ``stage`` are the numbers of why the token is refused, whatever the call; 1 and 0 if it is
    not. The parameters are those of ``Checker.check``; ``gate`` is that of ``Asking.judge``.
    """

    cdef Checker _checker
    cdef Batch _batch
    cdef object _gate
    cdef list _held

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
        bint new_signatures=True,
        gate=None,
    ):
        cdef Item *item
        self._checker = checker
        self._gate = gate
        self._held = [checker.audience if audience is None else audience]
        self._batch = Batch.__new__(Batch)
        self._batch.held = self._held
        self._batch.allocate(1)
        item = &self._batch.items[0]
        # A call in form only: what is judged here looks at none.
        checker._read_call((token, b"", b"", b"", b"", session, source, peer), item, self._held)
        self._held.append(part_of(self._held[0], &item.asked.audience))
        item.asked.at_least_revision = at_least_revision
        item.asked.clock_suspect = clock_suspect
        item.asked.new_signatures = new_signatures
        item.asked.gate = NULL if gate is None else <PyObject *> gate
        try:
            item.stands = self._stand(item, now_ms)
        except Exception as fault:
            self._batch._fault = fault
            ground_clear(&item.own)
            set_fault(&item.found)

    @property
    def reason(self):
        """Why the token is refused: the number of a ``Reason``; that of ALLOWED if it is not."""
        return ALLOWED if self._batch.items[0].stands else self._batch.items[0].found.reason

    @property
    def stage(self):
        """The number of the ``Stage`` that refused it; 0 if none did."""
        return self._batch.items[0].found.stage

    @property
    def revision(self):
        """The revision of the state that was judged by."""
        return self._batch.items[0].found.revision

    @property
    def fault(self):
        """The exception behind INTERNAL_ERROR, or None."""
        return self._batch._fault

    def verdicts(self, candidates not None):
        """Return a verdict for each of some candidates: 1 yes, 2 no, 3 maybe.

        Args:
            candidates: for each a tuple ``(action, resource[, arguments[, tool]])``, the parts as in
                ``Checker.check``; arguments of None, the default, ask about all that there could be.

        Raises:
            TypeError: for a candidate that is no such tuple. Nothing for what an agent controls.
        """
        cdef Candidate *rows
        cdef list held = []
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
                _read(each[i], &rows[i], held)
            if item.stands:
                chain = <Chain> item.chain
                box = self._checker.take_box()
                with nogil:
                    for i in range(count):
                        rows[i].verdict = _verdict(chain, item, &rows[i], &box.scratch)
                self._checker.box = box
            return [rows[i].verdict for i in range(count)]
        finally:
            free(rows)

    cdef bint _stand(self, Item *item, int64_t now_ms) except -1:
        """Judge the token by what is mirrored; if that does not do, by a transaction."""
        cdef ReadPoint moment
        cdef CheckInput asked
        cdef Chain chain
        cdef bint stands
        self._checker.clock(&item.asked, now_ms)
        if item.refused:
            return deny(&item.found, STAGE_DECODE, item.refused)
        if item.chain == NULL:
            chain = self._checker.chain_of(&item.asked, None, &item.found)
            if chain is None:
                return False
            Py_INCREF(chain)
            item.chain = <PyObject *> chain
        chain = <Chain> item.chain
        asked = item.asked
        if self._checker.view.still(&moment):
            stands = self._checker.stand(&moment, chain, &item.asked, now_ms < 0, &item.own, &item.found)
            if not moment.wanting:
                return stands and self._known(chain, item)
            ground_clear(&item.own)
            finding_free(&item.found)
            finding_init(&item.found)
            item.asked = asked
        transaction = self._checker.view.begin(&moment)
        try:
            stands = self._checker.stand(&moment, chain, &item.asked, now_ms < 0, &item.own, &item.found)
        finally:
            transaction.abort()
        return stands and self._known(chain, item)

    cdef bint _known(self, Chain chain, Item *item) noexcept:
        return not chain.any_unknown or deny(&item.found, STAGE_SCOPE, UNKNOWN_KIND)


cdef int _read(object candidate, Candidate *out, list held) except -1:
    """Point at the parts of a candidate, which says no until it is judged."""
    cdef Py_ssize_t n
    out.verdict = NO
    if not isinstance(candidate, tuple) or not 2 <= len(candidate) <= 4:
        raise TypeError("a candidate is a tuple of action, resource and at most arguments and tool")
    n = len(candidate)
    set_part(&out.arguments, <bytes_t> <const char *> "", 0)
    set_part(&out.tool, <bytes_t> <const char *> "", 0)
    held.append(candidate)
    held.append(part_of(candidate[0], &out.action))
    held.append(part_of(candidate[1], &out.resource))
    if n > 2 and candidate[2] is not None:
        out.given = True
        held.append(json_part(candidate[2], &out.arguments))
    if n > 3:
        held.append(json_part(candidate[3], &out.tool))
    return 0


cdef int _verdict(Chain chain, Item *item, const Candidate *candidate, Scratch *scratch) noexcept nogil:
    cdef CheckInput asked
    cdef CheckOutcome found
    cdef int out = NO
    if not candidate.given:
        return _whatever(chain, item.own.rules, item.own.count, candidate, scratch)
    asked = item.asked
    asked.action = candidate.action
    asked.resource = candidate.resource
    asked.arguments = candidate.arguments
    asked.tool = candidate.tool
    finding_init(&found)
    if judge_scope(chain, item.own.rules, item.own.count, &asked, scratch, &found):
        out = YES
    elif found.stage == STAGE_PROOF or found.stage == STAGE_NEEDS:
        out = MAYBE
    finding_free(&found)
    return out


cdef int _whatever(
    Chain chain, const SessionRules **rules, int rules_count, const Candidate *candidate, Scratch *scratch
) noexcept nogil:
    """The verdict for all arguments that there could be."""
    cdef PartialCall sight
    cdef Block *block
    cdef int out = YES
    cdef int i, k, n
    if not is_action(candidate.action.p, candidate.action.n):
        return NO
    if not split_resource(candidate.resource.p, candidate.resource.n, &scratch.resource):
        return NO
    if not read_document(&scratch.tool, candidate.tool.p, candidate.tool.n):
        return NO
    # None are looked at; an empty object stands for them.
    if not read_document(&scratch.arguments, candidate.arguments.p, candidate.arguments.n):
        return NO
    memset(&sight, 0, sizeof(PartialCall))
    sight.context.arguments = &scratch.arguments
    sight.context.tool = &scratch.tool
    sight.action = candidate.action
    sight.resource = &scratch.resource
    sight.knows_tool = True
    sight.knows_facts = True
    for k in range(rules_count):
        read_facts_of(rules[k], &sight.context)
        for i in range(rules[k].layer_count):
            out = both(out, of_scopes(&rules[k].layers[i], False, &sight))
            if out == NO:
                return NO
    read_facts_of(rules[0], &sight.context)
    for i in range(chain.block_count):
        block = &chain.blocks[i]
        sight.context.visible_only = i > 0
        if block.scopes.count:
            out = both(out, of_scopes(&block.scopes, True, &sight))
        elif i == 0:
            return NO
        for n in range(block.where_count):
            out = both(out, of_condition(&block.where[n], chain.base, &sight))
    if out == YES and (
        chain.blocks[chain.block_count - 1].ending == ENDING_BOUND or sight.context.work + sight.worst > MAX_WORK
    ):
        return MAYBE
    return out
