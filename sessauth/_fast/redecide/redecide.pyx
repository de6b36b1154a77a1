"""Redecides a logged decision without token, signatures and parts of the request.

The result is no decision and allows nothing. The stages are those of ``stage_runner``, by the rows of a view. Facts
that the log does not have (the peer, lease renewals, possibly the arguments) are reported separately, and no conclusion
depends on them (docs/audit-replay.md).
"""

cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from sessauth._fast._check cimport (
    LEASE_LAPSED,
    LEVEL_NONE,
    MALFORMED_REQUEST,
    NO,
    REVOKED,
    STAGE_REVOCATION,
    STAGE_SCOPE,
    STATUS_ENDED,
    UNKNOWN_ISSUER,
    UNKNOWN_KIND,
    YES,
    Chain,
    CheckInput,
    CheckOutcome,
    Lineage,
    ReadPoint,
    Scratch,
    ScratchBox,
    SessionEntry,
    SessionRules,
    StageRunner,
    deny_block,
    input_init,
    judge_audience,
    judge_kinds,
    judge_scope,
    judge_time,
    lineage_clear,
    outcome_free,
    outcome_init,
    set_observed_position,
    slice_of,
)


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
    """Judges logged chains by the rows of a view. For one thread."""

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
        """Judge a logged call up to its scopes, without signatures, proof and needs.

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
            token_only: the token alone was judged. ``verdict`` is 1 if it stands, and ``match_fits`` if no scope is
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
                # Judge again as if the lease had been renewed.
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
