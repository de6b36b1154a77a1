"""Redecisions: logged decisions, decided again from their records (docs/audit-replay.md).

A chain from a log has payloads without signatures. It is built from records, never from a presented token. It yields no
token and no checker accepts it. ``Redecider`` runs the stages of ``stage_runner`` for it by the rows of a view, and
evaluates its scopes to yes, no or maybe. The result is no decision and allows nothing.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from sessauth._fast._check cimport (
    ALLOWED, CONDITION_FAILED, ENDING_BOUND, ENDING_OPEN, LEASE_LAPSED, LEVEL_BLOCK, LEVEL_CEILING,
    LEVEL_NONE, MALFORMED_REQUEST, MALFORMED_TOKEN, MAYBE, NO, NO_NEEDS, OPEN_TOKEN, OUT_OF_SCOPE, REVOKED,
    SIGNATURE_BYTES, SOURCE_TOOL, STAGE_REVOCATION, STAGE_SCOPE, STATUS_ENDED, UNKNOWN_ISSUER, UNKNOWN_KIND,
    YES, Block, Chain, CheckInput, CheckOutcome, Condition, Lineage, PartialCall, ReadPoint, Scope, ScopeList,
    Scratch, ScratchBox, SessionEntry, SessionRules, StageRunner, and3, begin_work, closed_paths, deny,
    deny_block, eval_condition3, eval_exception3, eval_scope3, eval_scopes3, input_init, judge_audience, judge_kinds,
    judge_scope, judge_time, lineage_clear, may_overwork, outcome_free, outcome_init, parse_chain,
    pattern_matches, read_facts_of, set_observed_position, slice_of,
)
from sessauth._fast.codec.errors import FormError


cdef enum:
    TAG_VERSION = 0x08
    TAG_BLOCK = 0x12
    TAG_SIGNATURE = 0x0A
    TAG_PAYLOAD = 0x12
    ID_BYTES = 32


@cython.final
cdef class LoggedChain:
    """A chain from a log.

    ``root_id_matches`` is True if the first id is that of the first payload. The other ids also cover a signature,
    which the log does not have, so they are not verified.
    """

    # Never cached, and never exposed.
    cdef Chain chain
    # A bit a block: the block requires a peer, and logs don't record peers.
    cdef uint32_t peers
    cdef bint reads_tool
    cdef readonly bint root_id_matches

    def __cinit__(self, payloads not None, block_ids not None):
        """Take encoded blocks (bytes) without their signatures, and their ids (32 bytes each).

        Raises:
            FormError: for payloads and ids that no token can have.
        """
        cdef Chain chain
        cdef Block *block
        cdef int reason = 0
        cdef int at = -1
        cdef const char *wrong = NULL
        cdef int i
        chain = parse_chain(_unsigned(payloads), &reason, &at, &wrong)
        if chain is None:
            raise FormError(reason, wrong.decode("ascii"))
        if chain.blocks[chain.block_count - 1].ending == ENDING_OPEN:
            raise FormError(OPEN_TOKEN, "the last block is open")
        if len(block_ids) != chain.block_count or not chain.compute_ids():
            raise FormError(MALFORMED_TOKEN, "not as many ids as blocks")
        for i in range(chain.block_count):
            block_id = <bytes?> block_ids[i]
            if PyBytes_GET_SIZE(block_id) != ID_BYTES:
                raise FormError(MALFORMED_TOKEN, "a block id has 32 bytes")
            if i == 0:
                self.root_id_matches = memcmp(chain.ids, PyBytes_AS_STRING(block_id), ID_BYTES) == 0
            memcpy(chain.ids + ID_BYTES * i, PyBytes_AS_STRING(block_id), ID_BYTES)
            block = &chain.blocks[i]
            if block.peer.count:
                # Reported separately, since the peer is unknown.
                self.peers |= <uint32_t> 1 << i
                block.peer.count = 0
            self.reads_tool |= reads_tool(&block.scopes) or _any_reads_tool(block.where, block.where_count)
        self.chain = chain

    @property
    def session_id(self):
        """The session's id, 16 bytes."""
        return self.chain.session_id

    @property
    def bound(self):
        """True if its calls need a proof by the holder."""
        return self.chain.blocks[self.chain.block_count - 1].ending == ENDING_BOUND


cdef bint _any_reads_tool(const Condition *conditions, int count) noexcept nogil:
    cdef int i
    for i in range(count):
        if conditions[i].path.source == SOURCE_TOOL:
            return True
    return False


# True if a condition of the scopes reads the gateway's facts about the tool.
cdef bint reads_tool(const ScopeList *scopes) noexcept nogil:
    cdef int i
    for i in range(scopes.count + scopes.exceptions):
        if _any_reads_tool(scopes.scopes[i].conditions, scopes.scopes[i].condition_count):
            return True
    return False


cdef bytes _unsigned(object payloads):
    """Return a token of these payloads with zeros in place of signatures."""
    cdef bytearray out = bytearray((TAG_VERSION, 1))
    cdef bytes signature = bytes((TAG_SIGNATURE, SIGNATURE_BYTES)) + bytes(SIGNATURE_BYTES)
    for payload in payloads:
        block = signature + bytes((TAG_PAYLOAD,)) + _length(len(payload)) + <bytes?> payload
        out += bytes((TAG_BLOCK,)) + _length(len(block)) + block
    return bytes(out)


cdef bytes _length(Py_ssize_t n):
    cdef bytearray out = bytearray()
    while n >= 0x80:
        out.append((n & 0x7F) | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


# Three-valued evaluation of the scopes of a logged call.
#
# Walks ceilings and blocks in the order of stage ``scope`` (docs/token-format.md, section 9.8). Each verdict covers all
# possible values of the unknown parts. The walk also checks if the record's own position is possible.

# The position in a record, the known parts of its call, and the consistency of the two.
cdef struct LoggedPosition:
    int reason
    int level
    int index
    int scope
    int clause
    int matched_index
    int matched_scope
    bint knows_arguments
    bint knows_facts
    # The scopes can have refused at the record's position, or admitted by its matched scope.
    bint fits
    bint match_fits
    # Of an allow: the ceilings in observe mode can have refused at its position, or not at all if it has none.
    bint observed_fits
    # A bit a block: a scope with needs can decide.
    uint32_t may_cost


# YES, NO or MAYBE. The outcome has the position of a NO. The request was read into `scratch`.
cdef int evaluate_logged_scopes(
    Chain chain, const Lineage *lineage, const CheckInput *input, const Scratch *scratch,
    LoggedPosition *position, CheckOutcome *outcome
) noexcept nogil:
    cdef PartialCall call
    cdef int out = YES
    cdef int layer = 0
    cdef int i, k
    # Without the state nothing is known of ceilings. A block never refuses an allowed call.
    position.observed_fits = position.level != LEVEL_BLOCK
    memset(&call, 0, sizeof(PartialCall))
    call.context.arguments = &scratch.arguments
    call.context.tool = &scratch.tool
    call.action = input.action
    call.resource = &scratch.resource
    call.knows_arguments = position.knows_arguments
    if call.knows_arguments:
        begin_work(&call.context, input.arguments.n)
    call.knows_facts = position.knows_facts
    for k in range(lineage.count):
        read_facts_of(lineage.rules[k], &call.context)
        for i in range(lineage.rules[k].layer_count):
            if lineage.rules[k].observe:
                _look_at_observed(&lineage.rules[k].layers[i], layer, &call, position)
            else:
                out = and3(out, _eval_list(&lineage.rules[k].layers[i], LEVEL_CEILING, layer, &call, position, outcome))
                if out == NO:
                    return NO
                # An enforced layer refuses no allowed call.
                position.observed_fits &= not _is_at(position, LEVEL_CEILING, layer)
            layer += 1
    position.observed_fits &= position.level != LEVEL_CEILING or position.index < layer or not position.knows_facts
    if lineage.count:
        read_facts_of(lineage.rules[0], &call.context)
    for i in range(chain.block_count):
        call.context.visible_only = i > 0
        out = and3(out, _eval_block(chain, i, &call, position, outcome))
        if out == NO:
            return NO
    return MAYBE if out == YES and may_overwork(&call) else out


cdef int _eval_block(
    Chain chain, int index, PartialCall *call, LoggedPosition *position, CheckOutcome *outcome
) noexcept nogil:
    cdef const Block *block = &chain.blocks[index]
    cdef int out = YES
    cdef int i, one
    if block.scopes.count:
        out = _eval_list(&block.scopes, LEVEL_BLOCK, index, call, position, outcome)
        if out == NO:
            return NO
        if _may_cost(&block.scopes, call):
            position.may_cost |= <uint32_t> 1 << index
        # The match is that of the last block with scopes.
        position.match_fits = position.matched_index == index and _may_match(&block.scopes, position.matched_scope, call)
    elif index == 0:
        if _is_at(position, LEVEL_BLOCK, 0):
            position.fits = position.reason == OUT_OF_SCOPE and position.scope < 0
        return _refuse(LEVEL_BLOCK, 0, OUT_OF_SCOPE, outcome)
    for i in range(block.where_count):
        one = eval_condition3(&block.where[i], chain.base, call)
        if _is_at(position, LEVEL_BLOCK, index) and position.scope < 0 and position.clause == i:
            position.fits = one != YES and (position.reason == CONDITION_FAILED or position.reason == MALFORMED_REQUEST)
        if one == NO:
            outcome.clause = i
            return _refuse(LEVEL_BLOCK, index, CONDITION_FAILED, outcome)
        out = and3(out, one)
    return out


cdef int _eval_list(
    const ScopeList *scopes, int level, int index, PartialCall *call, LoggedPosition *position, CheckOutcome *outcome
) noexcept nogil:
    cdef int out = eval_scopes3(scopes, False, call)
    cdef int first = _first_matching(scopes, call)
    if _is_at(position, level, index) and (position.scope >= 0 or position.reason == OUT_OF_SCOPE):
        position.fits = out != YES and _fits(scopes, first, position.reason, call, position)
    if out != NO:
        return out
    outcome.scope = _first_exception(scopes, call)
    if outcome.scope < 0:
        outcome.scope = first
        return _refuse(level, index, OUT_OF_SCOPE if first < 0 else CONDITION_FAILED, outcome)
    return _refuse(level, index, OUT_OF_SCOPE, outcome)


cdef void _look_at_observed(const ScopeList *scopes, int layer, PartialCall *call, LoggedPosition *position) noexcept nogil:
    """Evaluate a layer in observe mode: it denies only calls whose work is spent on it, and overrules are recorded."""
    cdef int one = eval_scopes3(scopes, False, call)
    cdef int reason = CONDITION_FAILED if 0 <= position.scope < scopes.count else OUT_OF_SCOPE
    if not _is_at(position, LEVEL_CEILING, layer):
        # The record has the first layer that refused.
        position.observed_fits &= one != NO or (position.level == LEVEL_CEILING and position.index < layer)
    elif position.reason == ALLOWED:
        position.observed_fits &= one != YES and _fits(scopes, _first_matching(scopes, call), reason, call, position)
    elif position.scope >= 0 and position.reason == MALFORMED_REQUEST:
        position.fits = one != YES and _fits(scopes, -1, MALFORMED_REQUEST, call, position)


cdef inline bint _is_at(const LoggedPosition *position, int level, int index) noexcept nogil:
    return position.level == level and position.index == index


cdef inline int _refuse(int level, int index, int reason, CheckOutcome *outcome) noexcept nogil:
    outcome.level = level
    outcome.index = index
    deny(outcome, STAGE_SCOPE, reason)
    return NO


cdef int _first_matching(const ScopeList *scopes, PartialCall *call) noexcept nogil:
    """Return the scope whose failed condition a denial reports; -1: none."""
    cdef int i
    for i in range(scopes.count):
        if pattern_matches(&scopes.scopes[i], scopes.base, call):
            return i
    return -1


cdef int _first_exception(const ScopeList *scopes, const PartialCall *call) noexcept nogil:
    """Return the first exception that denies a call which a scope permits; -1: none is known to."""
    cdef PartialCall copy = call[0]
    cdef ScopeList permitting = scopes[0]
    cdef int i
    permitting.exceptions = 0
    if scopes.count and eval_scopes3(&permitting, False, &copy) == NO:
        return -1
    for i in range(scopes.count, scopes.count + scopes.exceptions):
        if eval_exception3(&scopes.scopes[i], scopes.base, &copy) == NO:
            return i
    return -1


cdef bint _fits(
    const ScopeList *scopes, int first, int reason, const PartialCall *call, const LoggedPosition *position
) noexcept nogil:
    """Return True if a list with a verdict other than YES can have refused for a reason at the record's position."""
    cdef PartialCall copy = call[0]
    cdef const Scope *scope
    cdef int i, one
    if position.scope >= scopes.count + scopes.exceptions:
        return False
    if reason == OUT_OF_SCOPE and position.scope < scopes.count:
        return first < 0 and position.scope < 0
    scope = &scopes.scopes[position.scope]
    if reason == OUT_OF_SCOPE:
        return eval_exception3(scope, scopes.base, &copy) != YES
    if reason == MALFORMED_REQUEST:
        # Work ran out, which every evaluated scope can cause.
        return pattern_matches(scope, scopes.base, &copy)
    # Any scope for the call can be the nearest, or the first, which earlier versions reported.
    if reason != CONDITION_FAILED or scope.exception or position.clause >= scope.condition_count:
        return False
    if not pattern_matches(scope, scopes.base, &copy):
        return False
    for i in range(scope.condition_count):
        one = eval_condition3(&scope.conditions[i], scopes.base, &copy)
        if i == position.clause:
            return one != YES
        if one == NO:
            return False
    return closed_paths(scope) >= 0


cdef bint _may_cost(const ScopeList *scopes, const PartialCall *call) noexcept nogil:
    """Return True if a scope with needs can decide."""
    cdef PartialCall copy = call[0]
    cdef bint out = False
    cdef int i, one
    for i in range(scopes.count):
        one = eval_scope3(&scopes.scopes[i], scopes.base, &copy)
        if one == YES and scopes.scopes[i].needs == NO_NEEDS:
            return False
        out |= one != NO and scopes.scopes[i].needs != NO_NEEDS
    return out


cdef bint _may_match(const ScopeList *scopes, int scope, const PartialCall *call) noexcept nogil:
    """Return True if this scope of a list can have admitted the call."""
    cdef PartialCall copy = call[0]
    cdef bint needs
    cdef int i, one
    if not 0 <= scope < scopes.count:
        return False
    needs = scopes.scopes[scope].needs != NO_NEEDS
    for i in range(scopes.count):
        one = eval_scope3(&scopes.scopes[i], scopes.base, &copy)
        if i == scope:
            if one == NO:
                return False
        elif one == YES and scopes.scopes[i].needs == NO_NEEDS and (i < scope or needs):
            return False
    return True


# A redecision, without token, signatures and parts of the request.
#
# Facts that the log does not have (the peer, lease renewals, possibly the arguments) are reported separately, and no
# conclusion depends on them.

@cython.final
cdef class Redecision:
    """The result of ``Redecider.redecide``. It is no decision, and has no truth value."""

    cdef readonly int verdict
    cdef readonly int reason
    cdef readonly int stage
    cdef readonly int level
    cdef readonly int index
    cdef readonly int scope
    cdef readonly int clause
    cdef readonly str argument
    cdef readonly uint64_t epoch
    cdef readonly bint exact
    cdef readonly bint position_fits
    cdef readonly bint match_fits
    cdef readonly bint observed_fits
    cdef readonly bint may_have_lapsed
    cdef readonly uint32_t peers
    cdef readonly uint32_t may_cost

    def __init__(self):
        raise TypeError("a Redecider makes these")

    def __bool__(self):
        raise TypeError("a Redecision allows nothing")


@cython.final
cdef class Redecider(StageRunner):
    """Checks logged chains by the rows of a view. For one thread."""

    def session_alive(self, bytes session_id not None, uint64_t now_ms):
        """Run stage ``session`` for a session without a token. The result is as in ``redecide``."""
        cdef Redecision out = Redecision.__new__(Redecision)
        cdef Lineage lineage
        cdef CheckOutcome outcome
        cdef CheckInput input
        cdef ReadPoint point
        cdef Chain chain = Chain.__new__(Chain)
        chain.session_id = session_id
        input_init(&input)
        input.now_ms = now_ms
        outcome_init(&outcome)
        lineage.count = 0
        transaction = self.view.begin(&point)
        try:
            out.verdict = YES if self._session_alive(&point, chain, &input, &lineage, &outcome, out) else NO
            _fill(out, &outcome)
        finally:
            transaction.abort()
            lineage_clear(&lineage)
        return out

    def redecide(
        self,
        LoggedChain logged not None,
        action not None,
        resource not None,
        bytes arguments,
        *,
        str source not None,
        str audience not None,
        uint64_t now_ms,
        bint knows_state=True,
        bint knows_issuer=True,
        int reason=0,
        int level=0,
        int index=-1,
        int scope=-1,
        int clause=-1,
        int matched_index=-1,
        int matched_scope=-1,
        bint token_only=False,
    ):
        """Check a logged call up to its scopes, without signatures, proof and needs.

        Args:
            logged: the chain.
            action: as recorded; str or bytes.
            resource: as recorded; str or bytes.
            arguments: the JSON bytes; None if unknown.
            source: the agent's IP address.
            audience: the recorded audience.
            now_ms: the time of the decision, in ms since 1970.
            knows_state: True if the view has the session and its ancestors. Without them the stages that read them
                are skipped, and their facts are unknown.
            knows_issuer: True if the view has every issuer key.
            reason: with ``level``, ``index``, ``scope`` and ``clause``: the recorded reason and position of a
                refusal.
            level: see ``reason``.
            index: see ``reason``.
            scope: see ``reason``.
            clause: see ``reason``.
            matched_index: with ``matched_scope``: the recorded scope that admitted the call.
            matched_scope: see ``matched_index``.
            token_only: the token alone was checked. ``verdict`` is 1 if it is valid, and ``match_fits`` if no scope is
                recorded.

        Returns:
            ``verdict`` is 2 (no) if the call is refused for all possible values of the unknown parts, with reason
            and position as far as they are certain (complete if ``exact``); 1 (yes) if its scopes admit it; 3 (maybe)
            if that depends on unknown parts. ``position_fits`` and ``match_fits``: the scopes can have refused, or
            admitted, at the recorded position. ``observed_fits``: the ceilings in observe mode can have refused, or
            not, as an allow records. ``may_have_lapsed``: a lease was due for renewal. ``peers`` has a bit for each
            block that requires a peer, ``may_cost`` for each in which a scope with needs can decide.
        """
        cdef Redecision out = Redecision.__new__(Redecision)
        cdef Lineage lineage
        cdef CheckOutcome outcome
        cdef CheckInput input
        cdef ReadPoint point
        cdef LoggedPosition position
        cdef object _held_action, _held_resource, _held_source, _held_audience
        input_init(&input)
        _held_action = slice_of(action, &input.action)
        _held_resource = slice_of(resource, &input.resource)
        _held_source = slice_of(source, &input.source)
        _held_audience = slice_of(audience, &input.audience)
        if arguments is not None:
            slice_of(arguments, &input.arguments)
        input.now_ms = now_ms
        input.skip_proof = True
        input.token_only = token_only
        memset(&position, 0, sizeof(LoggedPosition))
        position.reason, position.level, position.index, position.scope, position.clause = reason, level, index, scope, clause
        position.matched_index, position.matched_scope = matched_index, matched_scope
        position.knows_arguments = arguments is not None
        position.knows_facts = knows_state
        outcome_init(&outcome)
        lineage.count = 0
        transaction = self.view.begin(&point)
        try:
            out.verdict = NO
            if self._judge_before_scope(&point, logged, &input, &lineage, &outcome, out, knows_state, knows_issuer):
                self._scopes(logged, &input, &lineage, &outcome, &position, out)
            out.peers = logged.peers
            _fill(out, &outcome)
        finally:
            transaction.abort()
            lineage_clear(&lineage)
            outcome_free(&outcome)
        return out

    cdef bint _judge_before_scope(
        self,
        ReadPoint *point,
        LoggedChain logged,
        CheckInput *input,
        Lineage *lineage,
        CheckOutcome *outcome,
        Redecision out,
        bint knows_state,
        bint knows_issuer,
    ) except -1:
        """Run the stages before the scopes, except the signatures."""
        cdef Chain chain = logged.chain
        cdef SessionEntry session = None
        out.exact = True
        if knows_state:
            if not self._session_alive(point, chain, input, lineage, outcome, out):
                return False
            session = <SessionEntry> lineage.entries[0]
            out.epoch = session.epoch
            if self._issuer(point, chain, session, outcome) is None:
                if knows_issuer or outcome.reason != UNKNOWN_ISSUER:
                    return False
                outcome_init(outcome)
        if not judge_time(chain, input, outcome) or not judge_audience(chain, input, outcome):
            return False
        if not knows_state:
            return True
        if chain.revocation_mark != session.revocation_mark and not self._find_revocation(
            point, chain, session, outcome
        ):
            return False
        return chain.revoked_index < 0 or deny_block(outcome, STAGE_REVOCATION, REVOKED, chain.revoked_index)

    cdef bint _session_alive(
        self, ReadPoint *point, Chain chain, CheckInput *input, Lineage *lineage, CheckOutcome *outcome, Redecision out
    ) except -1:
        """Run stage ``session``. Logs have no lease renewals, so a lease that was due may have been renewed."""
        cdef SessionEntry entry
        cdef list leased = []
        try:
            while not self._session(point, chain, input, lineage, outcome):
                if outcome.reason != LEASE_LAPSED:
                    return False
                if lineage.count:
                    entry = <SessionEntry> lineage.entries[lineage.count - 1]
                    entry = self.view.session(point, entry.parent_id, input.now_ms)
                else:
                    entry = self.view.session(point, chain.session_id, input.now_ms)
                if entry.status == STATUS_ENDED:
                    return False
                out.may_have_lapsed = True
                leased.append((entry, entry.lease_ms))
                # Check again as if the lease had been renewed.
                entry.lease_ms = 0
                lineage_clear(lineage)
                outcome_init(outcome)
            return True
        finally:
            for leased_entry, lease_ms in leased:
                (<SessionEntry> leased_entry).lease_ms = lease_ms

    cdef int _scopes(
        self, LoggedChain logged, CheckInput *input, Lineage *lineage,
        CheckOutcome *outcome, LoggedPosition *position, Redecision out
    ) except -1:
        cdef Chain chain = logged.chain
        cdef ScratchBox box = self.take_box()
        cdef Scratch *scratch = &box.scratch
        cdef SessionRules nothing
        cdef bint admitted
        cdef int i, k
        out.observed_fits = True
        if input.token_only:
            out.exact = True
            out.verdict = YES if judge_kinds(chain, outcome) else NO
            out.match_fits = position.matched_index < 0 and position.matched_scope < 0
            return 0
        out.exact = position.knows_arguments and position.knows_facts and not logged.reads_tool
        for k in range(lineage.count):
            for i in range(lineage.rules[k].layer_count):
                out.exact = out.exact and not reads_tool(&lineage.rules[k].layers[i])
        if lineage.count == 0:
            memset(&nothing, 0, sizeof(SessionRules))
            lineage.rules[0] = &nothing
        admitted = judge_scope(chain, lineage.rules, lineage.count if lineage.count else 1, input, scratch, outcome)
        self.box = box
        if outcome.reason == UNKNOWN_KIND or (outcome.reason == MALFORMED_REQUEST and outcome.level == LEVEL_NONE):
            # These denials precede the scopes.
            out.exact = True
            return 0
        if out.exact and admitted:
            out.verdict = YES
            set_observed_position(outcome)
            out.match_fits = (
                position.matched_index == outcome.matched_index and position.matched_scope == outcome.matched_scope
            )
            return 0
        if out.exact and outcome.stage == STAGE_SCOPE:
            return 0
        if out.exact and outcome.observed_layer >= 0:
            # Only stage needs refused; the position is that of the ceiling in observe mode.
            set_observed_position(outcome)
            outcome.reason = outcome.stage = 0
        else:
            outcome_free(outcome)
            outcome_init(outcome)
        out.verdict = evaluate_logged_scopes(chain, lineage, input, scratch, position, outcome)
        if out.exact:
            # Only stage needs refused.
            out.verdict = YES
        out.position_fits = position.fits
        out.match_fits = position.match_fits
        out.observed_fits = position.observed_fits
        out.may_cost = position.may_cost
        return 0


cdef int _fill(Redecision out, const CheckOutcome *outcome) except -1:
    out.reason = outcome.reason
    out.stage = outcome.stage
    out.level = outcome.level
    out.index = outcome.index
    out.scope = outcome.scope
    out.clause = outcome.clause
    out.argument = ""
    if outcome.argument != NULL:
        out.argument = outcome.argument[: outcome.argument_n].decode("utf-8", "replace")
    return 0
