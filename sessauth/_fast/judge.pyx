"""The stages, in their order: one call from a token's bytes and the state to a finding.

The stages and their order are those of docs/token-format.md, section 9; the first refusal is the
decision. Only the last line of the last stage says ALLOWED: whatever goes wrong on the way there,
an exception included, is a denial.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t
from libc.string cimport memcmp

from sessauth._fast.batch cimport Batch, Item
from sessauth._fast.block cimport ENDING_OPEN
from sessauth._fast.cache cimport Cache
from sessauth._fast.chain cimport Chain, parse_chain
from sessauth._fast.ground cimport Ground, ground_add, ground_clear
from sessauth._fast.limits cimport *
from sessauth._fast.now cimport steady_ms, wall_ms
from sessauth._fast.decision cimport Decision
from sessauth._fast.finding cimport (
    Asked,
    Finding,
    Scratch,
    ScratchBox,
    asked_init,
    deny,
    deny_block,
    finding_free,
    finding_init,
)
from sessauth._fast.resource cimport Part
from sessauth._fast.stages cimport judge_audience, judge_lives, judge_scope, judge_time
from sessauth._fast.text cimport bytes_t
from sessauth._fast.view cimport (
    KEY_ACTIVE,
    KEY_DISTRUSTED,
    KEY_PREPARED,
    KEY_RETIRED,
    KeyEntry,
    Moment,
    Rules,
    SessionEntry,
    View,
)

from nacl.bindings import randombytes

cdef enum:
    # How long a state folder that was swapped under its name, or a clock that stepped, may go unnoticed.
    LOOK_EVERY_MS = 100
    # Of a batch: tokens that are remembered to be the same as an earlier item's.
    SAME_TOKENS = 64


cdef class Judge:
    """What a checker judges by: a view, the verified chains, a clock."""

    def __cinit__(
        self, View view not None, *, audience="", size_t cache_bytes=67108864, size_t session_cache_bytes=0, present=None
    ):
        self.view = view
        self.cache = Cache(cache_bytes, session_cache_bytes)
        self._prefix = randombytes(8)
        self._offset_ms = wall_ms() - steady_ms()

    cdef Decision new_decision(self):
        cdef Decision out = Decision.__new__(Decision)
        self._count += 1
        out.number = self._count
        out.prefix = self._prefix
        return out

    cdef bint judge(self, Chain chain, Asked *asked, bint floored, Finding *out) except -1:
        """The stages, in their order, by what is mirrored; if that does not do, by a transaction."""
        cdef Moment moment
        cdef bint allowed
        if self.view.still(&moment):
            allowed = self._judge_at(&moment, chain, asked, floored, out)
            if not moment.wanting:
                return allowed
            finding_free(out)
            finding_init(out)
        transaction = self.view.begin(&moment)
        try:
            return self._judge_at(&moment, chain, asked, floored, out)
        finally:
            transaction.abort()

    cdef bint clock(self, Asked *asked, int64_t now_ms) except -1:
        """Set the time that is judged by, and look now and then whether clock and files are the same ones."""
        cdef int64_t wall = wall_ms()
        # Also for a caller with a time of its own: the files are what they are.
        if not 0 <= wall - self._looked_ms < LOOK_EVERY_MS:
            self._looked_ms = wall
            # The wall clock was set by more than anyone may, or the machine was not asleep that long.
            self._stepped = not -CLOCK_STEP_MS <= wall - steady_ms() - self._offset_ms <= CLOCK_STEP_MS
            self.view.look()
        if now_ms >= 0:
            asked.now_ms = now_ms
        else:
            asked.now_ms = wall
            asked.clock_suspect |= self._stepped
        return True

    cdef Chain chain_of(self, Asked *asked, object data, Finding *out):
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

    cdef bint _judge_at(self, Moment *moment, Chain chain, Asked *asked, bint floored, Finding *out) except -1:
        cdef Ground ground
        cdef ScratchBox box
        ground.count = 0
        try:
            if not self._stand(moment, chain, asked, floored, &ground, out):
                return False
            box = self._take_box()
            if judge_scope(chain, ground.rules, ground.count, asked, &box.scratch, out):
                _allow(chain, out)
            self._box = box
            return out.allowed
        finally:
            ground_clear(&ground)

    cdef bint _stand(
        self, Moment *moment, Chain chain, Asked *asked, bint floored, Ground *ground, Finding *out
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
        return chain.clean_count == session.revoked_count + 1 or self._revocation(moment, chain, session, out)

    cdef bint _session(self, Moment *moment, Chain chain, Asked *asked, Ground *ground, Finding *out) except -1:
        cdef SessionEntry entry
        if self.view.brake[0]:
            return deny(out, STAGE_SESSION, STATE_BRAKED)
        if (
            self.view.lost
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

    cdef KeyEntry _issuer(self, Moment *moment, Chain chain, SessionEntry session, Finding *out):
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
        self, Chain chain, SessionEntry session, KeyEntry key, const Asked *asked, Finding *out
    ) except -1:
        """Verify what no kept run of blocks covers, without the GIL, and keep what stands."""
        cdef bytes_t public_key = <bytes_t> PyBytes_AS_STRING(key.public_key)
        cdef int first = self.cache.verified_blocks(chain)
        cdef int wrong
        if not asked.new_signatures or (asked.gate != NULL and not (<object> asked.gate).may_fail(_text(&asked.source))):
            return deny(out, STAGE_SIGNATURE, BAD_SIGNATURE)
        with nogil:
            wrong = chain.verify_from(first, public_key)
        self.signatures += (chain.block_count if wrong < 0 else wrong + 1) - first
        if wrong >= 0:
            self.bad_signatures += 1
            if asked.gate != NULL:
                (<object> asked.gate).failed(_text(&asked.source))
            return deny_block(out, STAGE_SIGNATURE, BAD_SIGNATURE, wrong)
        chain.stands = True
        # The very objects that the view's rows are kept by, which are found faster than equal ones.
        chain.session_id = session.id
        chain.issuer_key_id = key.id
        self.cache.keep(chain)
        return True

    cdef bint _revocation(self, Moment *moment, Chain chain, SessionEntry session, Finding *out) except -1:
        cdef int i
        if session.revoked_count and not chain.compute_ids():
            raise MemoryError
        for i in range(chain.block_count if session.revoked_count else 0):
            block_id = PyBytes_FromStringAndSize(<const char *> chain.ids + 32 * i, 32)
            if self.view.revoked(moment, chain.session_id, block_id):
                return deny_block(out, STAGE_REVOCATION, REVOKED, i)
            if moment.wanting:
                return False
        # Revocations only grow: among the first n of this session is none of these blocks.
        chain.clean_count = session.revoked_count + 1
        return True

    cdef void name(self, Batch batch):
        batch.prefix = self._prefix
        batch.number = self._count + 1
        self._count += batch.count

    cdef int judge_batch(self, Batch batch, Py_ssize_t first, Py_ssize_t end, int64_t now_ms) except -1:
        cdef Moment moment
        cdef Asked clock
        cdef Py_ssize_t i
        try:
            asked_init(&clock)
            self.clock(&clock, now_ms)
            for i in range(first, end):
                batch.items[i].asked.now_ms = clock.now_ms
                batch.items[i].asked.clock_suspect |= clock.clock_suspect
            if self.view.still(&moment):
                self._batch_at(&moment, batch, first, end, now_ms < 0)
                if not moment.wanting:
                    return 0
                batch.reset(first, end)
            transaction = self.view.begin(&moment)
            try:
                self._batch_at(&moment, batch, first, end, now_ms < 0)
            finally:
                transaction.abort()
        except Exception:
            # What was judged before the fault is not told either: one batch, one state.
            for i in range(first, end):
                set_fault(&batch.items[i].found)
                forget_match(&batch.items[i].found)
        return 0

    cdef int _batch_at(self, Moment *moment, Batch batch, Py_ssize_t first, Py_ssize_t end, bint floored) except -1:
        """First what needs the state, item by item; then the scopes of those that stand, without the GIL."""
        cdef int same[SAME_TOKENS]
        cdef Item *item
        cdef Item *earlier
        cdef Chain chain
        cdef ScratchBox box
        cdef Py_ssize_t i
        cdef int k
        for k in range(SAME_TOKENS):
            same[k] = -1
        for i in range(first, end):
            item = &batch.items[i]
            if item.refused:
                deny(&item.found, STAGE_DECODE, item.refused)
                continue
            chain = batch.chain_of(item)
            if chain is None and i > first and _same_token(item, item - 1):
                chain = batch.chain_of(item - 1)
            if chain is None:
                chain = self.chain_of(&item.asked, None, &item.found)
                if chain is None:
                    continue
            if item.chain == NULL:
                Py_INCREF(chain)
                item.chain = <PyObject *> chain
            k = ((<size_t> item.chain) >> 5) % SAME_TOKENS
            if same[k] >= 0 and _same_but_call(item, &batch.items[same[k]]):
                earlier = &batch.items[same[k]]
                item.found = earlier.found
                item.stands = earlier.stands
                item.ground = earlier.ground
                continue
            same[k] = <int> i
            item.stands = self._stand(moment, chain, &item.asked, floored, &item.own, &item.found)
            if moment.wanting:
                return 0
        box = self._take_box()
        with nogil:
            for i in range(first, end):
                item = &batch.items[i]
                earlier = &batch.items[item.ground]
                if item.stands:
                    judge_item(item, earlier.own.rules, earlier.own.count, &box.scratch)
                else:
                    forget_match(&item.found)
        self._box = box
        batch.release_grounds(first, end)
        return 0

    cdef ScratchBox _take_box(self):
        """Memory for a request's JSON that no other thread is using."""
        cdef ScratchBox box = self._box
        self._box = None
        return ScratchBox.__new__(ScratchBox) if box is None else box


cdef str _text(const Part *part):
    return PyBytes_FromStringAndSize(<const char *> part.p, part.n).decode("utf-8", "replace")


cdef inline bint _same_token(const Item *a, const Item *b) noexcept nogil:
    """Whether the very same object was given for both."""
    return a.asked.token.p == b.asked.token.p and a.asked.token.n == b.asked.token.n


cdef bint _same_but_call(const Item *a, const Item *b) noexcept nogil:
    """Whether what is judged before the scopes is the same for two items of a batch."""
    return (
        a.chain == b.chain
        and a.asked.session.n == 0
        and b.asked.session.n == 0
        and a.asked.source.n == 0
        and b.asked.source.n == 0
        and a.asked.peer_count == 0
        and b.asked.peer_count == 0
    )


cdef void judge_item(Item *item, const Rules **rules, int rules_count, Scratch *scratch) noexcept nogil:
    if judge_scope(<Chain> item.chain, rules, rules_count, &item.asked, scratch, &item.found):
        _allow(<Chain> item.chain, &item.found)
    else:
        forget_match(&item.found)


cdef inline void _allow(Chain chain, Finding *out) noexcept nogil:
    if chain.expires_at_ms < out.expires_at_ms:
        out.expires_at_ms = chain.expires_at_ms
    out.reason = ALLOWED
    out.allowed = True


cdef void forget_match(Finding *out) noexcept nogil:
    """A denial says nothing of what would have been."""
    out.matched_index = -1
    out.matched_scope = -1
    out.expires_at_ms = 0


cdef void set_fault(Finding *out) noexcept nogil:
    out.allowed = False
    out.reason = INTERNAL_ERROR
    out.stage = STAGE_NONE
