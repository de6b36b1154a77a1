"""Decides again, from what a log remembers of a decision: no token, no signatures, not all of the request.

What comes out is no decision and allows nothing. The stages are those of ``judge``, by the rows of a view; what the log
does not hold (who the peer was, how far a lease was renewed, perhaps the arguments) is told apart, so that nothing is
concluded from it (docs/audit-replay.md).
"""

cimport cython
from libc.stdint cimport uint32_t, uint64_t
from libc.string cimport memset

from sessauth._fast.base.limits cimport *
from sessauth._fast.call.check_state cimport (
    CheckInput,
    CheckOutcome,
    Scratch,
    ScratchBox,
    asked_init,
    deny_block,
    finding_free,
    finding_init,
    part_of,
)
from sessauth._fast.check.judge cimport StageRunner
from sessauth._fast.check.lineage cimport Lineage, ground_clear
from sessauth._fast.check.stages cimport judge_audience, judge_scope, judge_time
from sessauth._fast.check.three_valued cimport NO, YES
from sessauth._fast.check.view cimport STATUS_ENDED, ReadPoint, SessionRules, SessionEntry
from sessauth._fast.redecide.logged_chain cimport LoggedChain, asks_tool
from sessauth._fast.redecide.logged_scopes cimport LoggedPosition, judge_outlook
from sessauth._fast.token.chain cimport Chain

__all__ = ["Redecision", "Redecider"]


@cython.final
cdef class Redecision:
    """What comes out when a decision is made again; see ``again``. It is no decision, and never true."""

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
    cdef readonly bint place_fits
    cdef readonly bint match_fits
    cdef readonly bint may_have_lapsed
    cdef readonly uint32_t peers
    cdef readonly uint32_t may_cost

    def __init__(self):
        raise TypeError("a Replayer makes these")

    def __bool__(self):
        raise TypeError("what is decided again allows nothing")


@cython.final
cdef class Redecider(StageRunner):
    """Judges remembered chains by the rows of a view, in one thread."""

    def lives(self, bytes session_id not None, uint64_t now_ms):
        """Return what stage ``session`` says of a session's life, as ``again`` does; no token is looked at."""
        cdef Redecision out = Redecision.__new__(Redecision)
        cdef Lineage ground
        cdef CheckOutcome found
        cdef CheckInput asked
        cdef ReadPoint moment
        cdef Chain chain = Chain.__new__(Chain)
        chain.session_id = session_id
        asked_init(&asked)
        asked.now_ms = now_ms
        finding_init(&found)
        ground.count = 0
        transaction = self.view.begin(&moment)
        try:
            out.verdict = YES if self._lives(&moment, chain, &asked, &ground, &found, out) else NO
            _settle(out, &found)
        finally:
            transaction.abort()
            ground_clear(&ground)
        return out

    def again(
        self,
        LoggedChain remembered not None,
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
    ):
        """Judge a call again up to its scopes; signature, proof and needs are not asked for.

        Args:
            remembered: the chain.
            action: as recorded; str or bytes.
            resource: as recorded; str or bytes.
            arguments: the JSON bytes; None if they are not known.
            source: the agent's IP address.
            audience: which verifier was asked.
            now_ms: the time that was judged by, in ms since 1970.
            knows_state: whether the view has the session and all that it stands on; else what depends on it
                is left out, and its facts are not known.
            knows_issuer: whether the view has every issuer key.
            reason: with ``level``, ``index``, ``scope`` and ``clause``: where the record says that the scopes
                refused, and why.
            level: see ``reason``.
            index: see ``reason``.
            scope: see ``reason``.
            clause: see ``reason``.
            matched_index: with ``matched_scope``: which scope the record says admitted the call.
            matched_scope: see ``matched_index``.

        Returns:
            ``verdict`` is 2 (no) if the call is refused whatever is not known, with the reason and the place
            as far as they can be told (wholly, if ``exact``); 1 (yes) if its scopes admit it; 3 (maybe) if
            that depends on what is not known. ``place_fits`` and ``match_fits``: the scopes can have refused,
            or admitted, where the record says. ``may_have_lapsed``: a lease was due to be renewed.
            ``peers`` and ``may_cost`` have a bit for each block that asks who the peer is, and for each in
            which a scope with needs can be what decides.
        """
        cdef Redecision out = Redecision.__new__(Redecision)
        cdef Lineage ground
        cdef CheckOutcome found
        cdef CheckInput asked
        cdef ReadPoint moment
        cdef LoggedPosition place
        cdef object _held_action, _held_resource, _held_source, _held_audience
        asked_init(&asked)
        _held_action = part_of(action, &asked.action)
        _held_resource = part_of(resource, &asked.resource)
        _held_source = part_of(source, &asked.source)
        _held_audience = part_of(audience, &asked.audience)
        if arguments is not None:
            part_of(arguments, &asked.arguments)
        asked.now_ms = now_ms
        asked.proven = True
        memset(&place, 0, sizeof(LoggedPosition))
        place.reason, place.level, place.index, place.scope, place.clause = reason, level, index, scope, clause
        place.matched_index, place.matched_scope = matched_index, matched_scope
        place.knows_arguments = arguments is not None
        place.knows_facts = knows_state
        finding_init(&found)
        ground.count = 0
        transaction = self.view.begin(&moment)
        try:
            out.verdict = NO
            if self._stands(&moment, remembered, &asked, &ground, &found, out, knows_state, knows_issuer):
                self._scopes(remembered, &asked, &ground, &found, &place, out)
            out.peers = remembered.peers
            _settle(out, &found)
        finally:
            transaction.abort()
            ground_clear(&ground)
            finding_free(&found)
        return out

    cdef bint _stands(
        self,
        ReadPoint *moment,
        LoggedChain remembered,
        CheckInput *asked,
        Lineage *ground,
        CheckOutcome *found,
        Redecision out,
        bint knows_state,
        bint knows_issuer,
    ) except -1:
        """The stages before the scopes, but for the signatures."""
        cdef Chain chain = remembered.chain
        cdef SessionEntry session = None
        out.exact = True
        if knows_state:
            if not self._lives(moment, chain, asked, ground, found, out):
                return False
            session = <SessionEntry> ground.entries[0]
            out.epoch = session.epoch
            if self._issuer(moment, chain, session, found) is None:
                if knows_issuer or found.reason != UNKNOWN_ISSUER:
                    return False
                finding_init(found)
        if not judge_time(chain, asked, found) or not judge_audience(chain, asked, found):
            return False
        if not knows_state:
            return True
        if chain.looked_mark != session.revocation_mark:
            self._look_for_revocations(moment, chain, session)
        return chain.revoked_index < 0 or deny_block(found, STAGE_REVOCATION, REVOKED, chain.revoked_index)

    cdef bint _lives(
        self, ReadPoint *moment, Chain chain, CheckInput *asked, Lineage *ground, CheckOutcome *found, Redecision out
    ) except -1:
        """Stage ``session``. Renewals of a lease are in no log: one that was due may have come."""
        cdef SessionEntry entry
        cdef list leased = []
        try:
            while not self._session(moment, chain, asked, ground, found):
                if found.reason != LEASE_LAPSED:
                    return False
                if ground.count:
                    entry = <SessionEntry> ground.entries[ground.count - 1]
                    entry = self.view.session(moment, entry.parent_id, asked.now_ms)
                else:
                    entry = self.view.session(moment, chain.session_id, asked.now_ms)
                if entry.status == STATUS_ENDED:
                    return False
                out.may_have_lapsed = True
                leased.append((entry, entry.lease_ms))
                # As if it had been renewed: asked again.
                entry.lease_ms = 0
                ground_clear(ground)
                finding_init(found)
            return True
        finally:
            for held, lease_ms in leased:
                (<SessionEntry> held).lease_ms = lease_ms

    cdef int _scopes(
        self, LoggedChain remembered, CheckInput *asked, Lineage *ground,
        CheckOutcome *found, LoggedPosition *place, Redecision out
    ) except -1:
        cdef Chain chain = remembered.chain
        cdef ScratchBox box = self.take_box()
        cdef Scratch *scratch = &box.scratch
        cdef SessionRules nothing
        cdef bint admitted
        cdef int i, k
        out.exact = place.knows_arguments and place.knows_facts and not remembered.asks_tool
        for k in range(ground.count):
            for i in range(ground.rules[k].layer_count):
                out.exact = out.exact and not asks_tool(&ground.rules[k].layers[i])
        if ground.count == 0:
            memset(&nothing, 0, sizeof(SessionRules))
            ground.rules[0] = &nothing
        admitted = judge_scope(chain, ground.rules, ground.count if ground.count else 1, asked, scratch, found)
        self.box = box
        if found.reason == UNKNOWN_KIND or (found.reason == MALFORMED_REQUEST and found.level == LEVEL_NONE):
            # Told before a scope is looked at.
            out.exact = True
            return 0
        if out.exact and admitted:
            out.verdict = YES
            out.match_fits = (
                place.matched_index == found.matched_index and place.matched_scope == found.matched_scope
            )
            return 0
        if out.exact and found.stage == STAGE_SCOPE:
            return 0
        finding_free(found)
        finding_init(found)
        out.verdict = judge_outlook(chain, ground, asked, scratch, place, found)
        if out.exact:
            # Only what it costs was left.
            out.verdict = YES
        out.place_fits = place.fits
        out.match_fits = place.match_fits
        out.may_cost = place.may_cost
        return 0


cdef int _settle(Redecision out, const CheckOutcome *found) except -1:
    out.reason = found.reason
    out.stage = found.stage
    out.level = found.level
    out.index = found.index
    out.scope = found.scope
    out.clause = found.clause
    out.argument = ""
    if found.argument != NULL:
        out.argument = found.argument[: found.argument_n].decode("utf-8", "replace")
    return 0
