"""Notes of decisions, as sinks read them."""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.ref cimport Py_DECREF
from libc.stdlib cimport free, malloc

from sessauth._fast.call.resource cimport TextSlice
from sessauth._fast.token.chain cimport Chain

__all__ = ["DecisionRecord"]


@cython.final
@cython.no_gc
cdef class DrainedRecords:
    """Memory of notes, and the chains that they speak of."""

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
    """What was asked and decided, once. Read-only, and made into objects when it is asked for.

    All notes of one drain lie in one memory, which lives as long as any of them: what is to be kept for
    longer is to be copied.

    Nothing of a token stands in it before its signature stands (``named``), but for a digest of its bytes
    and the session that it claims. Signatures and secrets never do. ``arguments`` and ``action``,
    ``resource``, ``source`` are what the caller said.
    """

    def __init__(self):
        raise TypeError("a DecisionRecord is drained from a DecisionQueue")

    @property
    def at_ms(self):
        """The time that was judged by, in ms since 1970."""
        return self.head.at_ms

    @property
    def decision_id(self):
        """16 bytes, as in the decision."""
        return PyBytes_FromStringAndSize(<const char *> self.head.prefix, 8) + self.head.number.to_bytes(8, "big")

    @property
    def allowed(self):
        """Whether the call may be made."""
        return self.head.flags & RECORD_ALLOWED != 0

    @property
    def reason(self):
        """The number of the reason."""
        return self.head.reason

    @property
    def stage(self):
        """The number of the stage that refused; 0: none did."""
        return self.head.stage

    @property
    def signature_valid(self):
        """Whether the signature stands, so that session, epoch and blocks are what they are."""
        return self.head.flags & RECORD_SIGNATURE_VALID != 0

    @property
    def watched(self):
        """Whether this takes back an allow that was watched."""
        return self.head.flags & RECORD_WATCHED != 0

    @property
    def session_id(self):
        """The session's id, 16 bytes; empty until the signature stands."""
        return (<Chain> self.head.chain).session_id if self.head.chain != NULL else b""

    @property
    def claimed_session(self):
        """The id that a token names whose signature was not looked at, or is wrong; else empty. Not to be believed."""
        cdef RecordParts parts
        record_parts(self.head, &parts)
        return b"" if parts.claimed == NULL else PyBytes_FromStringAndSize(<const char *> parts.claimed, SESSION_BYTES)

    @property
    def epoch(self):
        """The session's epoch; 0 until the signature stands."""
        return self.head.epoch

    @property
    def revision(self):
        """The revision of the state that was judged by."""
        return self.head.revision

    @property
    def block_ids(self):
        """The ids of the chain's blocks, the root's first; empty until the signature stands."""
        return (<Chain> self.head.chain).block_ids if self.head.chain != NULL else ()

    @property
    def payloads(self):
        """The blocks as they were signed, without signatures, in the first note of a chain; else empty."""
        return (<Chain> self.head.chain).payloads if self.first else ()

    @property
    def token_digest(self):
        """BLAKE2b-256 of the token's bytes; of those that are no token, of what stood in its place.

        Of more than 8,192 bytes, which are none, the first so many are digested.
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
        """What the agent wanted to do; at most 1 KiB of it, as of the other texts."""
        cdef RecordParts parts
        record_parts(self.head, &parts)
        return _text(&parts.action)

    @property
    def resource(self):
        """To what."""
        cdef RecordParts parts
        record_parts(self.head, &parts)
        return _text(&parts.resource)

    @property
    def arguments(self):
        """The JSON bytes of the arguments, at most 1 MiB of them. To be digested, never to be stored."""
        cdef RecordParts parts
        record_parts(self.head, &parts)
        return PyBytes_FromStringAndSize(<const char *> parts.arguments.p, parts.arguments.n)

    @property
    def audience(self):
        """Which verifier was asked."""
        cdef RecordParts parts
        record_parts(self.head, &parts)
        return _text(&parts.audience)

    @property
    def source(self):
        """The agent's IP address, as the gateway stated it; or empty."""
        cdef RecordParts parts
        record_parts(self.head, &parts)
        return _text(&parts.source)

    @property
    def level(self):
        """Where it was refused: 1 in a ceiling, 2 in a block, 0 in neither."""
        return self.head.level

    @property
    def index(self):
        """The ceiling layer or block that refused; -1: none."""
        return self.head.index

    @property
    def scope(self):
        """The scope of it that came closest; -1: none."""
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
        return _text(&parts.argument)

    @property
    def matched_index(self):
        """The last block whose scope admitted the call; -1: none."""
        return self.head.matched_index

    @property
    def matched_scope(self):
        """The scope of it that did; -1: none."""
        return self.head.matched_scope

    @property
    def expires_at_ms(self):
        """When the allow can first stop being true by time alone, in ms since 1970; 0 for a denial."""
        return self.head.expires_at_ms

    def __repr__(self):
        # No text of the call's: this may end up in a log.
        return f"<{type(self).__name__} {self.decision_id.hex()} allowed={self.allowed} reason={self.reason}>"


cdef str _text(const TextSlice *part):
    return part.p[: part.n].decode("utf-8", "replace")
