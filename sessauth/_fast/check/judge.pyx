"""The stages, in their order: one call from a token's bytes and the state to a finding.

The stages and their order are those of docs/token-format.md, section 9; the first refusal is the
decision. Only the last line of the last stage says ALLOWED: whatever goes wrong on the way there,
an exception included, is a denial.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp

from sessauth._fast.base.clock cimport steady_ms, wall_ms
from sessauth._fast.base.limits cimport *
from sessauth._fast.base.text cimport bytes_t
from sessauth._fast.call.check_state cimport (
    CheckInput,
    CheckOutcome,
    Scratch,
    ScratchBox,
    deny,
    deny_block,
    finding_free,
    finding_init,
)
from sessauth._fast.call.resource cimport TextSlice
from sessauth._fast.check.chain_cache cimport ChainCache
from sessauth._fast.check.cost_claims cimport CostClaims, claims_of
from sessauth._fast.check.decision cimport Decision
from sessauth._fast.check.lineage cimport Lineage, ground_add, ground_clear
from sessauth._fast.check.proof_stage cimport proof_is_costly, take_nonce
from sessauth._fast.check.stages cimport judge_audience, judge_lives, judge_scope, judge_time
from sessauth._fast.check.view cimport (
    KEY_ACTIVE,
    KEY_DISTRUSTED,
    KEY_PREPARED,
    KEY_RETIRED,
    KeyEntry,
    ReadPoint,
    SessionEntry,
    View,
)
from sessauth._fast.token.block cimport ENDING_OPEN
from sessauth._fast.token.chain cimport Chain, parse_chain

from nacl.bindings import randombytes

cdef enum:
    # How long a state folder that was swapped under its name, or a clock that stepped, may go unnoticed.
    LOOK_EVERY_MS = 100


cdef class StageRunner:
    """What a checker judges by: a view, the verified chains, a clock."""

    def __cinit__(self, View view not None, *, size_t cache_bytes=67108864, size_t session_cache_bytes=0, **_):
        # What else a subclass takes, it judges itself.
        self.view = view
        self.cache = ChainCache(cache_bytes, session_cache_bytes)
        self._prefix = randombytes(8)
        self._offset_ms = wall_ms() - steady_ms()

    cdef Decision new_decision(self):
        cdef Decision out = Decision.__new__(Decision)
        self._count += 1
        out.number = self._count
        out.prefix = self._prefix
        return out

    cdef bint judge(self, Chain chain, CheckInput *asked, bint floored, CheckOutcome *out) except -1:
        """The stages, in their order, by what is mirrored; if that does not do, by a transaction."""
        cdef ReadPoint moment
        cdef uint64_t now_ms = asked.now_ms
        cdef bint clock_suspect = asked.clock_suspect
        cdef bint allowed
        if self.view.still(&moment):
            allowed = self._judge_at(&moment, chain, asked, floored, out)
            if not moment.wanting:
                return allowed
            finding_free(out)
            finding_init(out)
            asked.now_ms = now_ms
            asked.clock_suspect = clock_suspect
        transaction = self.view.begin(&moment)
        try:
            return self._judge_at(&moment, chain, asked, floored, out)
        finally:
            transaction.abort()

    cdef bint clock(self, CheckInput *asked, int64_t now_ms) except -1:
        """Set the time that is judged by, and look now and then whether clock and files are the same ones."""
        cdef int64_t wall = wall_ms()
        # Also for a caller with a time of its own: the files are what they are.
        if not 0 <= wall - self._looked_ms < LOOK_EVERY_MS:
            self._look(wall)
        if now_ms >= 0:
            asked.now_ms = now_ms
        else:
            asked.now_ms = wall
            asked.clock_suspect |= self._stepped
        return True

    cdef int look_first(self) except -1:
        """Look now, if it is time: whoever watches the files may put others in place before they are taken."""
        cdef int64_t wall = wall_ms()
        if not 0 <= wall - self._looked_ms < LOOK_EVERY_MS:
            try:
                self._look(wall)
            except Exception:
                # `clock` looks again, where what goes wrong denies the call and is told.
                self._looked_ms = 0
        return 0

    cdef int _look(self, int64_t wall) except -1:
        self._looked_ms = wall
        # The wall clock was set by more than anyone may, or the machine was not asleep that long.
        self._stepped = not -CLOCK_STEP_MS <= wall - steady_ms() - self._offset_ms <= CLOCK_STEP_MS
        self.view.look()
        return 0

    cdef Chain chain_of(self, CheckInput *asked, object data, CheckOutcome *out):
        """The chain that is kept of a token, or what its bytes say; None if they are no token."""
        cdef int reason = 0
        cdef int at = -1
        cdef const char *wrong = NULL
        cdef Chain chain
        # A token that is too large is not even looked up.
        if asked.token.n <= MAX_TOKEN_BYTES:
            chain = self.cache.find(asked.token.p, asked.token.n)
            if chain is not None:
                return chain
        if data is None:
            data = PyBytes_FromStringAndSize(<const char *> asked.token.p, asked.token.n)
        chain = parse_chain(data, &reason, &at, &wrong)
        if chain is None:
            deny(out, STAGE_DECODE, reason)
            return None
        if chain.blocks[chain.block_count - 1].ending == ENDING_OPEN:
            deny(out, STAGE_DECODE, OPEN_TOKEN)
            return None
        return chain

    cdef bint _judge_at(self, ReadPoint *moment, Chain chain, CheckInput *asked, bint floored, CheckOutcome *out) except -1:
        cdef Lineage ground
        cdef ScratchBox box
        cdef Scratch *scratch
        cdef bint allowed
        ground.count = 0
        try:
            if not self.stand(moment, chain, asked, floored, &ground, out):
                return False
            box = self.take_box()
            scratch = &box.scratch
            if asked.proof.n and proof_is_costly(chain, asked):
                with nogil:
                    allowed = judge_scope(chain, ground.rules, ground.count, asked, scratch, out)
            else:
                allowed = judge_scope(chain, ground.rules, ground.count, asked, scratch, out)
            if asked.payer != NULL and (allowed or out.stage == STAGE_NEEDS):
                allowed = self._pay(chain, &ground, asked, scratch, out)
            if allowed and take_nonce(chain, asked, out):
                allow(chain, out)
            self.box = box
            return out.allowed
        finally:
            ground_clear(&ground)

    cdef bint _pay(
        self, Chain chain, const Lineage *ground, const CheckInput *asked, Scratch *scratch, CheckOutcome *out
    ) except -1:
        """Tell the payer what the call costs; only its plain 0 goes on."""
        cdef CostClaims claims = claims_of(chain, ground.rules[0], asked, scratch, out)
        return claims.settle((<object> asked.payer).pay(claims), out)

    cdef bint stand(
        self, ReadPoint *moment, Chain chain, CheckInput *asked, bint floored, Lineage *ground, CheckOutcome *out
    ) except -1:
        """The stages up to the scopes: all that asks for the state, and the signatures."""
        cdef SessionEntry session
        cdef KeyEntry key
        out.revision = moment.revision
        if floored and asked.now_ms < moment.clock_floor_ms:
            # A clock behind the last change judges by the time of that change.
            asked.clock_suspect |= asked.now_ms + CLOCK_STEP_MS < moment.clock_floor_ms
            asked.now_ms = moment.clock_floor_ms
        out.checked_at_ms = asked.now_ms
        if not self._session(moment, chain, asked, ground, out):
            return False
        session = <SessionEntry> ground.entries[0]
        key = self._issuer(moment, chain, session, out)
        if key is None:
            return False
        if not chain.stands and not self._signature(chain, session, key, asked, out):
            return False
        out.named = True
        out.epoch = session.epoch
        if not judge_time(chain, asked, out) or not judge_audience(chain, asked, out):
            return False
        if chain.looked_mark != session.revocation_mark and not self._look_for_revocations(moment, chain, session):
            return False
        return chain.revoked_index < 0 or deny_block(out, STAGE_REVOCATION, REVOKED, chain.revoked_index)

    cdef bint _session(self, ReadPoint *moment, Chain chain, CheckInput *asked, Lineage *ground, CheckOutcome *out) except -1:
        cdef SessionEntry entry
        if self.view.brake[0]:
            return deny(out, STAGE_SESSION, STATE_BRAKED)
        if (
            self.view.lost
            or self.view.stale()
            or asked.at_least_revision > moment.revision
            or chain.root.min_revision > moment.revision
        ):
            return deny(out, STAGE_SESSION, STALE_STATE)
        entry = self.view.session(moment, chain.session_id, asked.now_ms)
        if entry is None:
            return deny(out, STAGE_SESSION, UNKNOWN_SESSION)
        if asked.session.n and (
            asked.session.n != 16 or memcmp(asked.session.p, PyBytes_AS_STRING(chain.session_id), 16) != 0
        ):
            return deny(out, STAGE_SESSION, WRONG_SESSION)
        out.expires_at_ms = entry.expires_at_ms
        while True:
            if not judge_lives(entry, asked.now_ms, out):
                return False
            if entry.expires_at_ms < out.expires_at_ms:
                out.expires_at_ms = entry.expires_at_ms
            if entry.lease_ms and entry.lease_deadline_ms < out.expires_at_ms:
                out.expires_at_ms = entry.lease_deadline_ms
            ground_add(ground, entry)
            if entry.parent_id is None:
                return True
            entry = self.view.session(moment, entry.parent_id, asked.now_ms) if ground.count <= MAX_ANCESTORS else None
            if entry is None:
                return deny(out, STAGE_SESSION, UNKNOWN_SESSION)

    cdef KeyEntry _issuer(self, ReadPoint *moment, Chain chain, SessionEntry session, CheckOutcome *out):
        cdef KeyEntry key = self.view.key(moment, chain.issuer_key_id)
        cdef int reason = 0
        if key is None:
            reason = UNKNOWN_ISSUER
        elif key.status == KEY_DISTRUSTED:
            reason = ISSUER_DISTRUSTED
        elif key.status == KEY_PREPARED:
            reason = ISSUER_PREPARED
        elif key.status == KEY_RETIRED:
            # Its signatures stand; those made later are not the issuer's.
            if chain.blocks[0].issued_at_ms > key.retired_at_ms:
                reason = ISSUER_RETIRED
        elif key.status != KEY_ACTIVE:
            reason = UNKNOWN_ISSUER
        if reason == 0:
            if key.owner is not None and key.owner != session.owner:
                reason = ISSUER_NOT_OF_SESSION
            elif session.issuer_key_ids is not None and chain.issuer_key_id not in session.issuer_key_ids:
                reason = ISSUER_NOT_OF_SESSION
        if reason:
            deny(out, STAGE_ISSUER, reason)
            return None
        return key

    cdef bint _signature(
        self, Chain chain, SessionEntry session, KeyEntry key, const CheckInput *asked, CheckOutcome *out
    ) except -1:
        """Verify what no kept run of blocks covers, without the GIL, and keep what stands."""
        cdef bytes_t public_key = <bytes_t> PyBytes_AS_STRING(key.public_key)
        cdef int first = self.cache.verified_blocks(chain)
        cdef int wrong
        if asked.signature_told:
            # This very call was judged before, up to here, and charged for it.
            return deny_block(out, STAGE_SIGNATURE, BAD_SIGNATURE, asked.wrong_index)
        if not asked.new_signatures or (asked.gate != NULL and not (<object> asked.gate).may_fail(_text(&asked.source))):
            return deny(out, STAGE_SIGNATURE, BAD_SIGNATURE)
        if chain.wrong_index < 0:
            with nogil:
                wrong = chain.verify_from(first, public_key)
            self.signatures += (chain.block_count if wrong < 0 else wrong + 1) - first
            chain.wrong_index = wrong
        if chain.wrong_index >= 0:
            self.bad_signatures += 1
            if asked.gate != NULL:
                (<object> asked.gate).failed(_text(&asked.source))
            return deny_block(out, STAGE_SIGNATURE, BAD_SIGNATURE, chain.wrong_index)
        chain.stands = True
        # The very objects that the view's rows are kept by, which are found faster than equal ones.
        chain.session_id = session.id
        chain.issuer_key_id = key.id
        self.cache.keep(chain)
        return True

    cdef bint _look_for_revocations(self, ReadPoint *moment, Chain chain, SessionEntry session) except -1:
        """Find the first revoked block; False if the moment is left wanting."""
        cdef int found = -1
        cdef int i
        if session.revoked_count and not chain.compute_ids():
            raise MemoryError
        for i in range(chain.block_count if session.revoked_count else 0):
            block_id = PyBytes_FromStringAndSize(<const char *> chain.ids + 32 * i, 32)
            if self.view.revoked(moment, chain.session_id, block_id):
                found = i
                break
            if moment.wanting:
                return False
        # Revocations of a session only grow, so this holds for as long as there are as many.
        chain.revoked_index = found
        chain.looked_mark = session.revocation_mark
        return True

    cdef ScratchBox take_box(self):
        """Memory for a request's JSON that no other thread is using."""
        cdef ScratchBox box = self.box
        self.box = None
        return ScratchBox.__new__(ScratchBox) if box is None else box


cdef str _text(const TextSlice *part):
    return PyBytes_FromStringAndSize(<const char *> part.p, part.n).decode("utf-8", "replace")


cdef void allow(Chain chain, CheckOutcome *out) noexcept nogil:
    if chain.expires_at_ms < out.expires_at_ms:
        out.expires_at_ms = chain.expires_at_ms
    out.reason = ALLOWED
    out.allowed = True


cdef void forget_match(CheckOutcome *out) noexcept nogil:
    """A denial says nothing of what would have been."""
    out.matched_index = -1
    out.matched_scope = -1
    out.expires_at_ms = 0


cdef void set_fault(CheckOutcome *out) noexcept nogil:
    """What was found before the fault is not told either."""
    finding_free(out)
    finding_init(out)
    out.reason = INTERNAL_ERROR
