"""The check: one call from bytes, request and view to a decision.

The stages and their order are those of docs/token-format.md, section 9; the first refusal is the
decision. Only the last line of the last stage says ALLOWED: whatever goes wrong on the way there,
an exception included, is a denial.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint64_t

from sessauth._fast.block cimport ENDING_OPEN
from sessauth._fast.cache cimport Cache
from sessauth._fast.chain cimport Chain, parse_chain
from sessauth._fast.limits cimport *
from sessauth._fast.now cimport steady_ms, wall_ms
from sessauth._fast.outcome cimport Outcome, Request, Scratch, deny, deny_block, utf8
from sessauth._fast.stages cimport judge_audience, judge_lives, judge_scope, judge_time
from sessauth._fast.text cimport bytes_t
from sessauth._fast.view cimport (
    KEY_ACTIVE,
    KEY_DISTRUSTED,
    KEY_PREPARED,
    KEY_RETIRED,
    Head,
    KeyEntry,
    SessionEntry,
    View,
)

from nacl.bindings import randombytes

from sessauth._fast.outcome import Outcome

__all__ = ["Checker", "Outcome"]

cdef enum:
    # How long a state folder that was swapped under its name may go unnoticed.
    LOOK_EVERY_MS = 100


cdef class Checker:
    """Judges requests against one view; one for each process, for any number of threads."""

    cdef readonly View view
    cdef readonly Cache cache
    cdef readonly uint64_t bad_signatures
    cdef readonly uint64_t signatures
    cdef object _outcome_type
    cdef bytes _prefix
    cdef uint64_t _count
    cdef int64_t _offset_ms
    cdef int64_t _looked_ms
    cdef list _scratches

    def __cinit__(
        self, View view not None, *, size_t cache_bytes=67108864, size_t session_cache_bytes=0, outcome_type=Outcome
    ):
        if not issubclass(outcome_type, Outcome):
            raise TypeError("outcome_type must be a subclass of Outcome")
        self.view = view
        self.cache = Cache(cache_bytes, session_cache_bytes)
        self._outcome_type = outcome_type
        self._prefix = randombytes(8)
        self._offset_ms = wall_ms() - steady_ms()
        self._scratches = []

    def check(
        self,
        bytes token not None,
        action not None,
        resource not None,
        bytes arguments not None=b"",
        *,
        bytes tool not None=b"",
        bytes session not None=b"",
        str source not None="",
        peer=(),
        str audience not None="",
        uint64_t at_least_revision=0,
        int64_t now_ms=-1,
        bint clock_suspect=False,
        bint new_signatures=True,
    ):
        """Judge one call.

        ``token`` is the presented bytes; ``action`` and ``resource`` are bytes or str; ``arguments`` and
        ``tool`` are JSON bytes; ``session`` is the session (16 bytes) that the caller believes the call
        belongs to, or empty; ``source`` an IP address and ``peer`` the identities of the agent's
        certificate; ``now_ms`` is the wall time to judge by, -1 for the clock. Without ``new_signatures`` a
        chain that was not verified before is denied BAD_SIGNATURE without a look at it. Raises TypeError for
        arguments of another type, and nothing for what an agent controls.
        """
        cdef Outcome out = self._new_outcome()
        cdef Request request = Request.__new__(Request)
        cdef int64_t wall = wall_ms()
        request.token = token
        request.action = utf8(action)
        request.resource = utf8(resource)
        request.arguments = arguments
        request.tool = tool
        request.session = session
        request.source = source
        request.peer = peer
        request.audience = utf8(audience)
        request.at_least_revision = at_least_revision
        request.clock_suspect = clock_suspect
        request.new_signatures = new_signatures
        if now_ms >= 0:
            request.now_ms = now_ms
        else:
            request.now_ms = wall
            # The wall clock was set by more than anyone may, or the machine was not asleep that long.
            request.clock_suspect |= not -CLOCK_STEP_MS <= wall - steady_ms() - self._offset_ms <= CLOCK_STEP_MS
        try:
            # Also for a caller with a time of its own: the files are what they are.
            if not 0 <= wall - self._looked_ms < LOOK_EVERY_MS:
                self._looked_ms = wall
                self.view.look()
            out.allowed = self._judge(request, out, now_ms < 0)
        except Exception as fault:
            out.allowed = False
            out.reason = INTERNAL_ERROR
            out.stage = STAGE_NONE
            out.fault = fault
        if not out.allowed:
            out.matched_index = -1
            out.matched_scope = -1
            out.expires_at_ms = 0
        return out

    def refuse(self, int stage, int reason):
        """Return a denial that was decided before the kernel was asked.

        Raises ValueError for a reason that is none: nothing here can allow.
        """
        cdef Outcome out
        if reason <= ALLOWED:
            raise ValueError("a denial has a reason")
        out = self._new_outcome()
        out.stage = stage
        out.reason = reason
        return out

    cdef Outcome _new_outcome(self):
        cdef Outcome out = self._outcome_type.__new__(self._outcome_type)
        out.index = -1
        out.scope = -1
        out.clause = -1
        out.matched_index = -1
        out.matched_scope = -1
        out.argument = ""
        self._count += 1
        out._count = self._count
        out._prefix = self._prefix
        return out

    cdef bint _judge(self, Request request, Outcome out, bint floored) except -1:
        """The stages, in their order."""
        cdef bint cached = True
        cdef Head head
        cdef Chain chain = None
        # A token that is too large is not even hashed.
        if PyBytes_GET_SIZE(request.token) <= MAX_TOKEN_BYTES:
            chain = self.cache.find(request.token)
        if chain is None:
            cached = False
            chain = self._decode(request.token, out)
            if chain is None:
                return False
        head = self.view.begin()
        try:
            out.revision = head.revision
            if floored and request.now_ms < head.clock_floor_ms:
                # A clock behind the last change judges by the time of that change.
                request.clock_suspect |= request.now_ms + CLOCK_STEP_MS < head.clock_floor_ms
                request.now_ms = head.clock_floor_ms
            out.checked_at_ms = request.now_ms
            return self._judge_within(head, chain, cached, request, out)
        finally:
            head.transaction.abort()

    cdef bint _judge_within(self, Head head, Chain chain, bint cached, Request request, Outcome out) except -1:
        cdef SessionEntry session = self._session(head, chain, request, out)
        cdef KeyEntry key
        cdef Scratch scratch
        if session is None:
            return False
        key = self._issuer(head, chain, session, out)
        if key is None:
            return False
        if not cached and not request.new_signatures:
            return deny(out, STAGE_SIGNATURE, BAD_SIGNATURE)
        if not cached and not self._signature(chain, key, out):
            return False
        # From here on the token may be named.
        out._chain = chain
        out.epoch = session.epoch
        if not judge_time(chain, request, out) or not judge_audience(chain, request, out):
            return False
        if chain.clean_count != session.revoked_count + 1 and not self._revocation(head, chain, session, out):
            return False
        scratch = self._scratches.pop() if self._scratches else Scratch.__new__(Scratch)
        try:
            if not judge_scope(chain, session, request, scratch, out):
                return False
        finally:
            self._scratches.append(scratch)
        if chain.expires_at_ms < out.expires_at_ms:
            out.expires_at_ms = chain.expires_at_ms
        out.reason = ALLOWED
        return True

    cdef Chain _decode(self, bytes token, Outcome out):
        cdef int reason = 0
        cdef int at = -1
        cdef const char *wrong = NULL
        cdef Chain chain = parse_chain(token, &reason, &at, &wrong)
        if chain is None:
            deny(out, STAGE_DECODE, reason)
            return None
        if chain.blocks[chain.block_count - 1].ending == ENDING_OPEN:
            deny(out, STAGE_DECODE, OPEN_TOKEN)
            return None
        return chain

    cdef SessionEntry _session(self, Head head, Chain chain, Request request, Outcome out):
        cdef SessionEntry session, entry
        cdef int depth = 0
        if self.view.brake[0]:
            deny(out, STAGE_SESSION, STATE_BRAKED)
            return None
        if self.view.lost or request.at_least_revision > head.revision or chain.root.min_revision > head.revision:
            deny(out, STAGE_SESSION, STALE_STATE)
            return None
        session = self.view.session(head, chain.session_id, request.now_ms)
        if session is None:
            deny(out, STAGE_SESSION, UNKNOWN_SESSION)
            return None
        if request.session and request.session != chain.session_id:
            deny(out, STAGE_SESSION, WRONG_SESSION)
            return None
        out.expires_at_ms = session.expires_at_ms
        entry = session
        while True:
            if not judge_lives(entry, request.now_ms, out):
                return None
            if entry.expires_at_ms < out.expires_at_ms:
                out.expires_at_ms = entry.expires_at_ms
            if entry.lease_ms and entry.lease_deadline_ms < out.expires_at_ms:
                out.expires_at_ms = entry.lease_deadline_ms
            if not entry.parent_id:
                return session
            entry = self.view.session(head, entry.parent_id, request.now_ms) if depth < MAX_ANCESTORS else None
            if entry is None:
                deny(out, STAGE_SESSION, UNKNOWN_SESSION)
                return None
            # Entries are shared between threads, each in its own transaction: what belongs to this
            # check stands in its request.
            if request.ancestors is None:
                request.ancestors = []
            request.ancestors.append(entry)
            depth += 1

    cdef KeyEntry _issuer(self, Head head, Chain chain, SessionEntry session, Outcome out):
        cdef KeyEntry key = self.view.key(head, chain.issuer_key_id)
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
            if key.owner and key.owner != session.owner:
                reason = ISSUER_NOT_OF_SESSION
            elif session.issuer_key_ids and chain.issuer_key_id not in session.issuer_key_ids:
                reason = ISSUER_NOT_OF_SESSION
        if reason:
            deny(out, STAGE_ISSUER, reason)
            return None
        return key

    cdef bint _signature(self, Chain chain, KeyEntry key, Outcome out) except -1:
        """Verify what no cached prefix covers, without the GIL, and keep what stands."""
        cdef bytes_t public_key = <bytes_t> PyBytes_AS_STRING(key.public_key)
        cdef int first = self.cache.verified_blocks(chain)
        cdef int wrong
        cdef bint stands
        with nogil:
            wrong = chain.verify_from(first, public_key)
            stands = wrong < 0 and chain.compute_ids()
        self.signatures += (chain.block_count if wrong < 0 else wrong + 1) - first
        if wrong >= 0:
            self.bad_signatures += 1
            return deny_block(out, STAGE_SIGNATURE, BAD_SIGNATURE, wrong)
        if not stands:
            raise MemoryError
        self.cache.keep(chain)
        return True

    cdef bint _revocation(self, Head head, Chain chain, SessionEntry session, Outcome out) except -1:
        cdef int i
        for i in range(chain.block_count if session.revoked_count else 0):
            block_id = PyBytes_FromStringAndSize(<const char *> chain.ids + 32 * i, 32)
            if self.view.revoked(head, chain.session_id, block_id):
                return deny_block(out, STAGE_REVOCATION, REVOKED, i)
        # Revocations only grow: among the first n of this session is none of these blocks.
        chain.clean_count = session.revoked_count + 1
        return True
