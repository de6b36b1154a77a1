"""Decision records, as sinks read them."""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.ref cimport Py_DECREF
from libc.stdlib cimport free, malloc


@cython.final
@cython.no_gc
cdef class DrainedRecords:
    """The memory of drained records, and their chains."""

    cdef int allocate(self, size_t n) except -1:
        self.memory = <char *> malloc(n)
        if self.memory == NULL:
            raise MemoryError
        self.used = n
        return 0

    def __dealloc__(self):
        cdef Py_ssize_t i
        for i in range(self.chain_count):
            Py_DECREF(<object> self.chains[i])
        free(self.chains)
        free(self.memory)


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class DecisionRecord:
    """The record of one decision and its call. Read-only; Python objects are created on access.

    All records of one drain share one memory, which lives as long as any of them. Copy parts that must live longer.

    Without valid signatures (``signature_valid``) a record has nothing of the token but a digest of its bytes and the
    session that it claims. It never has signatures or secrets. ``action``, ``resource``, ``arguments`` and ``source``
    come from the caller.
    """

    def __init__(self):
        raise TypeError("a DecisionRecord is drained from a DecisionQueue")

    @property
    def at_ms(self):
        """The time of the check, in ms since 1970."""
        return self.head.at_ms

    @property
    def decision_id(self):
        """The decision's id, 16 bytes."""
        return PyBytes_FromStringAndSize(<const char *> self.head.prefix, 8) + self.head.number.to_bytes(8, "big")

    @property
    def allowed(self):
        """True if the call is allowed."""
        return self.head.flags & RECORD_ALLOWED != 0

    @property
    def reason(self):
        """The number of the reason."""
        return self.head.reason

    @property
    def stage(self):
        """The number of the stage that refused; 0: none."""
        return self.head.stage

    @property
    def signature_valid(self):
        """True if all signatures are valid, so that session, epoch and blocks are authentic."""
        return self.head.flags & RECORD_SIGNATURE_VALID != 0

    @property
    def watched(self):
        """True if this withdraws a watched allow."""
        return self.head.flags & RECORD_WATCHED != 0

    @property
    def token_only(self):
        """True if the token alone was judged, and no call."""
        return self.head.flags & RECORD_TOKEN_ONLY != 0

    @property
    def session_id(self):
        """The session's id, 16 bytes; empty unless the signatures are valid."""
        return (<Chain> self.head.chain).session_id if self.head.chain != NULL else b""

    @property
    def claimed_session(self):
        """The session that an unverified token claims; else empty. Not trustworthy."""
        cdef RecordParts parts
        record_parts(self.head, &parts)
        return b"" if parts.claimed == NULL else PyBytes_FromStringAndSize(<const char *> parts.claimed, SESSION_BYTES)

    @property
    def epoch(self):
        """The session's epoch; 0 unless the signatures are valid."""
        return self.head.epoch

    @property
    def revision(self):
        """The revision of the state at the check."""
        return self.head.revision

    @property
    def block_ids(self):
        """The ids of the chain's blocks, the root's first; empty unless the signatures are valid."""
        return (<Chain> self.head.chain).block_ids if self.head.chain != NULL else ()

    @property
    def payloads(self):
        """The signed payloads of the blocks in the first record of a chain; else empty."""
        return (<Chain> self.head.chain).payloads if self.first else ()

    @property
    def token_digest(self):
        """BLAKE2b-256 of the presented token's bytes, also if they are no token.

        Covers at most the first 8,192 bytes. Longer input is no token.
        """
        cdef RecordParts parts
        cdef const unsigned char *digest
        record_parts(self.head, &parts)
        digest = parts.digest
        if self.head.chain != NULL:
            digest = (<Chain> self.head.chain).compute_digest()
            if digest == NULL:
                raise MemoryError
        return PyBytes_FromStringAndSize(<const char *> digest, DIGEST_BYTES)

    @property
    def action(self):
        """The action; at most 1 KiB, like the other texts."""
        cdef RecordParts parts
        record_parts(self.head, &parts)
        return _record_text(&parts.action)

    @property
    def resource(self):
        """The resource."""
        cdef RecordParts parts
        record_parts(self.head, &parts)
        return _record_text(&parts.resource)

    @property
    def arguments(self):
        """The JSON bytes of the arguments, at most 1 MiB. For digests only: never store them."""
        cdef RecordParts parts
        record_parts(self.head, &parts)
        return PyBytes_FromStringAndSize(<const char *> parts.arguments.p, parts.arguments.n)

    @property
    def audience(self):
        """The audience of the check."""
        cdef RecordParts parts
        record_parts(self.head, &parts)
        return _record_text(&parts.audience)

    @property
    def source(self):
        """The agent's IP address as the gateway stated it, or empty."""
        cdef RecordParts parts
        record_parts(self.head, &parts)
        return _record_text(&parts.source)

    @property
    def level(self):
        """The level that refused: 1 a ceiling, 2 a block, 0 neither. Of an allow 1: a ceiling in observe mode."""
        return self.head.level

    @property
    def index(self):
        """The ceiling layer or block that refused; -1: none."""
        return self.head.index

    @property
    def scope(self):
        """The closest scope of that layer or block; -1: none."""
        return self.head.scope

    @property
    def clause(self):
        """The condition that failed; -1: none."""
        return self.head.clause

    @property
    def argument(self):
        """The name of the argument at fault; empty if there is none. Never its value."""
        cdef RecordParts parts
        record_parts(self.head, &parts)
        return _record_text(&parts.argument)

    @property
    def matched_index(self):
        """The last block whose scope admitted the call; -1: none."""
        return self.head.matched_index

    @property
    def matched_scope(self):
        """The scope of that block; -1: none."""
        return self.head.matched_scope

    @property
    def expires_at_ms(self):
        """The earliest time at which an allow can lapse by time alone, in ms since 1970; 0 for a denial."""
        return self.head.expires_at_ms

    def __repr__(self):
        # Without texts of the call: a repr may end up in a log.
        return f"<{type(self).__name__} {self.decision_id.hex()} allowed={self.allowed} reason={self.reason}>"


cdef str _record_text(const TextSlice *part):
    return part.p[: part.n].decode("utf-8", "replace")
