"""Runs the stages in their order: from a token's bytes and the state to an outcome.

Stages and order are those of docs/token-format.md, section 9. The first refusal is the decision. Only ``allow``,
after the last stage, sets ALLOWED: every failure before it, exceptions included, is a denial.
"""

from nacl.bindings import randombytes

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp

cdef enum:
    # The longest time without a check for a replaced state folder or a stepped clock.
    RECHECK_MS = 100


cdef class StageRunner:
    """Checks one call by a view, the verified chains and a clock.

    The base of the chain StageRunner -> BatchRunner -> RecordingRunner -> Checker -> BaseVerifier -> Verifier. One
    object has all six classes, so a call from one to another is vtable dispatch without allocation.
    """

    def __cinit__(self, View view not None, *, size_t cache_bytes=67108864, size_t session_cache_bytes=0, **_):
        # Subclasses validate their own parameters.
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
        """Run the stages by mirrored rows, and again by a transaction if rows are missing."""
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
        """Set the time of the check. Check clock and files when that is due."""
        cdef int64_t wall = wall_ms()
        # Also for a caller with its own time: files change independent of it.
        if not 0 <= wall - self._files_checked_ms < RECHECK_MS:
            self._recheck(wall)
        if now_ms >= 0:
            input.now_ms = now_ms
        else:
            input.now_ms = wall
            input.clock_suspect |= self._clock_jumped
        return True

    cdef int recheck_if_due(self) except -1:
        """Check clock and files if that is due, so that a replaced proof key is in place before it is read."""
        cdef int64_t wall = wall_ms()
        if not 0 <= wall - self._files_checked_ms < RECHECK_MS:
            try:
                self._recheck(wall)
            except Exception:
                # `clock` repeats it, and there a failure denies the call and is reported.
                self._files_checked_ms = 0
        return 0

    cdef int _recheck(self, int64_t wall) except -1:
        self._files_checked_ms = wall
        # The wall clock moved by more than the steady clock, beyond the tolerance.
        self._clock_jumped = not -CLOCK_STEP_MS <= wall - steady_ms() - self._offset_ms <= CLOCK_STEP_MS
        self.view.recheck_files()
        return 0

    cdef Chain chain_of(self, CheckInput *input, object data, CheckOutcome *out):
        """Return the cached chain of a token, or parse its bytes. None if they are no token."""
        cdef int reason = 0
        cdef int at = -1
        cdef const char *wrong = NULL
        cdef Chain chain
        # A token that is too large is not looked up.
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
        """Let the cost handler charge the call. Only a plain 0 continues."""
        cdef CostClaims claims = build_claims(chain, lineage.rules[0], input, scratch, out)
        return claims.apply((<object> input.cost_handler).charge(claims), out)

    cdef bint judge_before_scope(
        self, ReadPoint *point, Chain chain, CheckInput *input, bint apply_floor, Lineage *lineage, CheckOutcome *out
    ) except -1:
        """Run the stages before the scopes: all that read state, and the signatures."""
        cdef SessionEntry session
        cdef KeyEntry key
        out.revision = point.revision
        if apply_floor and input.now_ms < point.clock_floor_ms:
            # A clock earlier than the last change uses the time of that change.
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
        if chain.revocation_mark != session.revocation_mark and not self._find_revocation(
            point, chain, session, out
        ):
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
            # Signatures from before retirement are valid; later ones are not the issuer's.
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
        """Verify the blocks that no cached run covers, without the GIL, and cache a valid chain."""
        cdef bytes_t public_key = <bytes_t> PyBytes_AS_STRING(key.public_key)
        cdef int first = self.cache.verified_blocks(chain)
        cdef int wrong
        if input.signature_known_wrong:
            # The same call failed here before, and `gate` counted it.
            return deny_block(out, STAGE_SIGNATURE, BAD_SIGNATURE, input.wrong_index)
        if not input.verify_new_signatures or (
            input.gate != NULL and not (<object> input.gate).may_fail(_slice_text(&input.source))
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
                (<object> input.gate).failed(_slice_text(&input.source))
            return deny_block(out, STAGE_SIGNATURE, BAD_SIGNATURE, chain.wrong_index)
        chain.signatures_valid = True
        # The view's own key objects: a dict finds identical keys faster than equal ones.
        chain.session_id = session.id
        chain.issuer_key_id = key.id
        self.cache.add(chain)
        return True

    cdef bint _find_revocation(
        self, ReadPoint *point, Chain chain, SessionEntry session, CheckOutcome *out
    ) except -1:
        """Find the first revoked block. False if the read point needs a read, or if it is denied."""
        cdef int first_revoked = -1
        cdef int first, i, found
        if session.revoked_count and not chain.compute_ids():
            raise MemoryError
        first = chain.unrevoked_blocks if chain.unrevoked_mark == session.revocation_mark else 0
        for i in range(first, chain.block_count if session.revoked_count else 0):
            block_id = PyBytes_FromStringAndSize(<const char *> chain.ids + 32 * i, 32)
            found = self.view.revoked(point, session, block_id)
            if found == BLOCK_REVOKED:
                first_revoked = i
                break
            if found == BLOCK_UNPROVEN:
                return deny(out, STAGE_SESSION, STALE_STATE)
            if point.needs_read:
                return False
        # Revocations of a session only grow, so the result is valid while their number is the same.
        chain.revoked_index = first_revoked
        chain.revocation_mark = session.revocation_mark
        return True

    cdef ScratchBox take_box(self):
        """Take memory for a request's JSON that no other thread uses."""
        cdef ScratchBox box = self.box
        self.box = None
        return ScratchBox.__new__(ScratchBox) if box is None else box


cdef str _slice_text(const TextSlice *part):
    return PyBytes_FromStringAndSize(<const char *> part.p, part.n).decode("utf-8", "replace")


# Set an allow. Every stage passed.
cdef void allow(Chain chain, CheckOutcome *out) noexcept nogil:
    if chain.expires_at_ms < out.expires_at_ms:
        out.expires_at_ms = chain.expires_at_ms
    out.reason = ALLOWED
    out.allowed = True
    set_observed_position(out)


cdef void set_observed_position(CheckOutcome *out) noexcept nogil:
    """Give an allow the position of the ceiling's refusal that did not count, if there was one."""
    if out.observed_layer < 0:
        return
    out.level = LEVEL_CEILING
    out.index = out.observed_layer
    out.scope = out.observed_scope
    out.clause = out.observed_clause
    free(out.argument)
    out.argument = out.observed_argument
    out.argument_n = out.observed_argument_n
    out.observed_argument = NULL


cdef void clear_match(CheckOutcome *out) noexcept nogil:
    """Clear match and expiry: a denial discloses neither."""
    out.matched_index = -1
    out.matched_scope = -1
    out.expires_at_ms = 0


cdef void set_fault(CheckOutcome *out) noexcept nogil:
    """Set INTERNAL_ERROR, and clear everything else."""
    outcome_free(out)
    outcome_init(out)
    out.reason = INTERNAL_ERROR
