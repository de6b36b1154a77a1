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
    outcome_free,
    outcome_init,
)
from sessauth._fast.call.resource cimport TextSlice
from sessauth._fast.check.chain_cache cimport ChainCache
from sessauth._fast.check.cost_claims cimport CostClaims, build_claims
from sessauth._fast.check.decision cimport Decision
from sessauth._fast.check.lineage cimport Lineage, lineage_add, lineage_clear
from sessauth._fast.check.proof_stage cimport proof_is_costly, consume_nonce
from sessauth._fast.check.stages cimport judge_audience, check_session_alive, judge_scope, judge_time
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
    RECHECK_MS = 100


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

    cdef bint judge(self, Chain chain, CheckInput *input, bint apply_floor, CheckOutcome *out) except -1:
        """The stages, in their order, by what is mirrored; if that does not do, by a transaction."""
        cdef ReadPoint point
        cdef uint64_t now_ms = input.now_ms
        cdef bint clock_suspect = input.clock_suspect
        cdef bint allowed
        if self.view.is_unchanged(&point):
            allowed = self._judge_at(&point, chain, input, apply_floor, out)
            if not point.needs_read:
                return allowed
            outcome_free(out)
            outcome_init(out)
            input.now_ms = now_ms
            input.clock_suspect = clock_suspect
        transaction = self.view.begin(&point)
        try:
            return self._judge_at(&point, chain, input, apply_floor, out)
        finally:
            transaction.abort()

    cdef bint clock(self, CheckInput *input, int64_t now_ms) except -1:
        """Set the time that is judged by, and look now and then whether clock and files are the same ones."""
        cdef int64_t wall = wall_ms()
        # Also for a caller with a time of its own: the files are what they are.
        if not 0 <= wall - self._files_checked_ms < RECHECK_MS:
            self._recheck(wall)
        if now_ms >= 0:
            input.now_ms = now_ms
        else:
            input.now_ms = wall
            input.clock_suspect |= self._clock_jumped
        return True

    cdef int recheck_if_due(self) except -1:
        """Look now, if it is time: whoever watches the files may put others in place before they are taken."""
        cdef int64_t wall = wall_ms()
        if not 0 <= wall - self._files_checked_ms < RECHECK_MS:
            try:
                self._recheck(wall)
            except Exception:
                # `clock` looks again, where what goes wrong denies the call and is told.
                self._files_checked_ms = 0
        return 0

    cdef int _recheck(self, int64_t wall) except -1:
        self._files_checked_ms = wall
        # The wall clock was set by more than anyone may, or the machine was not asleep that long.
        self._clock_jumped = not -CLOCK_STEP_MS <= wall - steady_ms() - self._offset_ms <= CLOCK_STEP_MS
        self.view.recheck_files()
        return 0

    cdef Chain chain_of(self, CheckInput *input, object data, CheckOutcome *out):
        """The chain that is kept of a token, or what its bytes say; None if they are no token."""
        cdef int reason = 0
        cdef int at = -1
        cdef const char *wrong = NULL
        cdef Chain chain
        # A token that is too large is not even looked up.
        if input.token.n <= MAX_TOKEN_BYTES:
            chain = self.cache.find(input.token.p, input.token.n)
            if chain is not None:
                return chain
        if data is None:
            data = PyBytes_FromStringAndSize(<const char *> input.token.p, input.token.n)
        chain = parse_chain(data, &reason, &at, &wrong)
        if chain is None:
            deny(out, STAGE_DECODE, reason)
            return None
        if chain.blocks[chain.block_count - 1].ending == ENDING_OPEN:
            deny(out, STAGE_DECODE, OPEN_TOKEN)
            return None
        return chain

    cdef bint _judge_at(self, ReadPoint *point, Chain chain, CheckInput *input, bint apply_floor, CheckOutcome *out) except -1:
        cdef Lineage lineage
        cdef ScratchBox box
        cdef Scratch *scratch
        cdef bint allowed
        lineage.count = 0
        try:
            if not self.judge_before_scope(point, chain, input, apply_floor, &lineage, out):
                return False
            box = self.take_box()
            scratch = &box.scratch
            if input.proof.n and proof_is_costly(chain, input):
                with nogil:
                    allowed = judge_scope(chain, lineage.rules, lineage.count, input, scratch, out)
            else:
                allowed = judge_scope(chain, lineage.rules, lineage.count, input, scratch, out)
            if input.cost_handler != NULL and (allowed or out.stage == STAGE_NEEDS):
                allowed = self._charge(chain, &lineage, input, scratch, out)
            if allowed and consume_nonce(chain, input, out):
                allow(chain, out)
            self.box = box
            return out.allowed
        finally:
            lineage_clear(&lineage)

    cdef bint _charge(
        self, Chain chain, const Lineage *lineage, const CheckInput *input, Scratch *scratch, CheckOutcome *out
    ) except -1:
        """Tell the payer what the call costs; only its plain 0 goes on."""
        cdef CostClaims claims = build_claims(chain, lineage.rules[0], input, scratch, out)
        return claims.apply((<object> input.cost_handler).charge(claims), out)

    cdef bint judge_before_scope(
        self, ReadPoint *point, Chain chain, CheckInput *input, bint apply_floor, Lineage *lineage, CheckOutcome *out
    ) except -1:
        """The stages up to the scopes: all that asks for the state, and the signatures."""
        cdef SessionEntry session
        cdef KeyEntry key
        out.revision = point.revision
        if apply_floor and input.now_ms < point.clock_floor_ms:
            # A clock behind the last change judges by the time of that change.
            input.clock_suspect |= input.now_ms + CLOCK_STEP_MS < point.clock_floor_ms
            input.now_ms = point.clock_floor_ms
        out.checked_at_ms = input.now_ms
        if not self._session(point, chain, input, lineage, out):
            return False
        session = <SessionEntry> lineage.entries[0]
        key = self._issuer(point, chain, session, out)
        if key is None:
            return False
        if not chain.signatures_valid and not self._signature(chain, session, key, input, out):
            return False
        out.signature_valid = True
        out.epoch = session.epoch
        if not judge_time(chain, input, out) or not judge_audience(chain, input, out):
            return False
        if chain.revocation_mark != session.revocation_mark and not self._find_revocation(point, chain, session):
            return False
        return chain.revoked_index < 0 or deny_block(out, STAGE_REVOCATION, REVOKED, chain.revoked_index)

    cdef bint _session(self, ReadPoint *point, Chain chain, CheckInput *input, Lineage *lineage, CheckOutcome *out) except -1:
        cdef SessionEntry entry
        if self.view.brake[0]:
            return deny(out, STAGE_SESSION, STATE_BRAKED)
        if (
            self.view.lost
            or self.view.stale()
            or input.at_least_revision > point.revision
            or chain.root.min_revision > point.revision
        ):
            return deny(out, STAGE_SESSION, STALE_STATE)
        entry = self.view.session(point, chain.session_id, input.now_ms)
        if entry is None:
            return deny(out, STAGE_SESSION, UNKNOWN_SESSION)
        if input.session.n and (
            input.session.n != 16 or memcmp(input.session.p, PyBytes_AS_STRING(chain.session_id), 16) != 0
        ):
            return deny(out, STAGE_SESSION, WRONG_SESSION)
        out.expires_at_ms = entry.expires_at_ms
        while True:
            if not check_session_alive(entry, input.now_ms, out):
                return False
            if entry.expires_at_ms < out.expires_at_ms:
                out.expires_at_ms = entry.expires_at_ms
            if entry.lease_ms and entry.lease_deadline_ms < out.expires_at_ms:
                out.expires_at_ms = entry.lease_deadline_ms
            lineage_add(lineage, entry)
            if entry.parent_id is None:
                return True
            entry = self.view.session(point, entry.parent_id, input.now_ms) if lineage.count <= MAX_ANCESTORS else None
            if entry is None:
                return deny(out, STAGE_SESSION, UNKNOWN_SESSION)

    cdef KeyEntry _issuer(self, ReadPoint *point, Chain chain, SessionEntry session, CheckOutcome *out):
        cdef KeyEntry key = self.view.key(point, chain.issuer_key_id)
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
        self, Chain chain, SessionEntry session, KeyEntry key, const CheckInput *input, CheckOutcome *out
    ) except -1:
        """Verify what no kept run of blocks covers, without the GIL, and keep what stands."""
        cdef bytes_t public_key = <bytes_t> PyBytes_AS_STRING(key.public_key)
        cdef int first = self.cache.verified_blocks(chain)
        cdef int wrong
        if input.signature_known_wrong:
            # This very call was judged before, up to here, and charged for it.
            return deny_block(out, STAGE_SIGNATURE, BAD_SIGNATURE, input.wrong_index)
        if not input.verify_new_signatures or (
            input.gate != NULL and not (<object> input.gate).may_fail(_text(&input.source))
        ):
            return deny(out, STAGE_SIGNATURE, BAD_SIGNATURE)
        if chain.wrong_index < 0:
            with nogil:
                wrong = chain.verify_from(first, public_key)
            self.signatures += (chain.block_count if wrong < 0 else wrong + 1) - first
            chain.wrong_index = wrong
        if chain.wrong_index >= 0:
            self.bad_signatures += 1
            if input.gate != NULL:
                (<object> input.gate).failed(_text(&input.source))
            return deny_block(out, STAGE_SIGNATURE, BAD_SIGNATURE, chain.wrong_index)
        chain.signatures_valid = True
        # The very objects that the view's rows are kept by, which are found faster than equal ones.
        chain.session_id = session.id
        chain.issuer_key_id = key.id
        self.cache.add(chain)
        return True

    cdef bint _find_revocation(self, ReadPoint *point, Chain chain, SessionEntry session) except -1:
        """Find the first revoked block; False if the moment is left wanting."""
        cdef int first_revoked = -1
        cdef int i
        if session.revoked_count and not chain.compute_ids():
            raise MemoryError
        for i in range(chain.block_count if session.revoked_count else 0):
            block_id = PyBytes_FromStringAndSize(<const char *> chain.ids + 32 * i, 32)
            if self.view.revoked(point, chain.session_id, block_id):
                first_revoked = i
                break
            if point.needs_read:
                return False
        # Revocations of a session only grow, so this holds for as long as there are as many.
        chain.revoked_index = first_revoked
        chain.revocation_mark = session.revocation_mark
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


cdef void clear_match(CheckOutcome *out) noexcept nogil:
    """A denial says nothing of what would have been."""
    out.matched_index = -1
    out.matched_scope = -1
    out.expires_at_ms = 0


cdef void set_fault(CheckOutcome *out) noexcept nogil:
    """What was found before the fault is not told either."""
    outcome_free(out)
    outcome_init(out)
    out.reason = INTERNAL_ERROR
