"""A view: an in-memory mirror of the state rows that checks read.

A view mirrors rows as of one transaction. It reads nothing again until something is committed. The source's commit id,
if it has one, shows that without a transaction. Otherwise, or when it changed, the view opens a read transaction and
compares its id. Then it fetches the session's row, and compiles it if its bytes changed. So a check that starts after
a change was acknowledged sees it, in every process, and changes to other sessions cost it nothing. Lease deadlines
only move later and revocations only grow, so those rows are read only when the answer can have changed.

A source has ``begin() -> transaction`` (``id()``, ``get(key, default, db)``, ``abort()``), the handles ``sessions leases
revoked keys meta`` and a ``brake`` buffer. Byte 0 of the buffer denies everything; a whole page may have the freshness
bound of the host too. The source may have a ``commit_id``, and ``files_unchanged() -> bool``, which is called at intervals
and returns False once the files were replaced. An unreadable row counts as a missing row: deny.

A source of rows on a disk has ``tallies``, a table or None. With a table its transactions have a ``cursor(db=…)``, and
a session whose revocations do not add up to its own number of them is denied STALE_STATE.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer, Py_buffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.dict cimport PyDict_GetItemWithError
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp


# A tally of revoked blocks: their number and a sum by their next byte (state/lmdb/rows.py).

cdef enum:
    SESSION_ID_BYTES = 16
    BLOCK_ID_BYTES = 32
    REVISION_BYTES = 8
    # The most revoked blocks that are counted by reading them.
    TALLY_LIMIT = 16
    # A byte, the number of 4 bytes, the sum of 8.
    TALLY_ENTRY_BYTES = 13

cdef extern from * nogil:
    """
    /* Compilers make one load of these. */
    static inline uint64_t sessauth_big_endian_4(const unsigned char *p) {
        return (uint32_t) p[0] << 24 | (uint32_t) p[1] << 16 | (uint32_t) p[2] << 8 | p[3];
    }
    static inline uint64_t sessauth_big_endian_8(const unsigned char *p) {
        return sessauth_big_endian_4(p) << 32 | sessauth_big_endian_4(p + 4);
    }
    """
    uint64_t big_endian_4 "sessauth_big_endian_4"(const unsigned char *p)
    uint64_t big_endian_8 "sessauth_big_endian_8"(const unsigned char *p)

# The last 8 bytes of a revoked block, which it adds to the sum, by the key of its row.
cdef inline uint64_t last_number(bytes key) noexcept:
    return big_endian_8(<bytes_t> PyBytes_AS_STRING(key) + SESSION_ID_BYTES + BLOCK_ID_BYTES - 8)

# True if a revoked block's row, key and value, has the check sum of its id (state/rules/sessions.py, revoked_value). A
# row that was written without one has the revision alone.
cdef inline bint has_its_sum(bytes key, bytes value) noexcept:
    cdef bytes_t block = <bytes_t> PyBytes_AS_STRING(key) + SESSION_ID_BYTES
    cdef uint64_t total = 0
    cdef int at
    if PyBytes_GET_SIZE(value) != 2 * REVISION_BYTES:
        return PyBytes_GET_SIZE(value) == REVISION_BYTES
    for at in range(0, BLOCK_ID_BYTES, 8):
        total += big_endian_8(block + at)
    return total == big_endian_8(<bytes_t> PyBytes_AS_STRING(value) + REVISION_BYTES)

# Replaces number and sum by those of the entry for the block's next byte, 0 if there is none. False if the tally is
# another one, or its entries do not add up to the expected number and sum. The sum of the first is not known before.
cdef inline bint read_tally(
    bytes raw, bytes session_id, bytes block_id, Py_ssize_t depth, uint64_t *count, uint64_t *total
) noexcept:
    cdef bytes_t p = <bytes_t> PyBytes_AS_STRING(raw)
    cdef bytes_t block = <bytes_t> PyBytes_AS_STRING(block_id)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(raw) - SESSION_ID_BYTES - depth
    cdef Py_ssize_t at
    cdef uint64_t counts = 0
    cdef uint64_t totals = 0
    cdef uint64_t found_count = 0
    cdef uint64_t found_total = 0
    cdef int latest = -1
    if (
        size < 0
        or size % TALLY_ENTRY_BYTES
        or memcmp(p, PyBytes_AS_STRING(session_id), SESSION_ID_BYTES) != 0
        or memcmp(p + SESSION_ID_BYTES, block, depth) != 0
    ):
        return False
    p += SESSION_ID_BYTES + depth
    at = 0
    while at < size:
        if p[at] <= latest:
            return False
        latest = p[at]
        counts += big_endian_4(p + at + 1)
        totals += big_endian_8(p + at + 5)
        if p[at] == block[depth]:
            found_count = big_endian_4(p + at + 1)
            found_total = big_endian_8(p + at + 5)
        at += TALLY_ENTRY_BYTES
    if counts != count[0] or (depth and totals != total[0]):
        return False
    count[0] = found_count
    total[0] = found_total
    return True


cdef enum:
    FIELD_CEILINGS = 8
    FIELD_FACTS = 9
    # state.layout.OBSERVE_FORMAT is the last format with new demands on readers.
    READER_FORMAT = 5


cdef uint64_t MARK_FACTOR = 0x9E3779B97F4A7C15


cdef class SessionEntry:
    """One session's row, compiled."""

    def __cinit__(self):
        arena_init(&self.arena)

    def __dealloc__(self):
        arena_free(&self.arena)

    cdef const char *_compile(self) noexcept nogil:
        """Compile ceilings and facts of a validated record."""
        cdef WireReader reader
        cdef WireReader layer
        cdef uint32_t number, wire
        cdef uint64_t value
        cdef const char *wrong
        cdef SessionRules *rules = &self.rules
        cdef ScopeList *scopes
        reader.p = rules.base
        reader.end = rules.base + self.length
        wrong = parse_facts(reader, rules.base, &self.arena, FIELD_FACTS, &rules.facts, &rules.fact_count)
        if wrong != NULL:
            return wrong
        while reader.p < reader.end:
            if not read_tag(&reader, &number, &wire):
                return "tag"
            if wire == WIRE_VARINT:
                if not read_varint(&reader, &value):
                    return "varint"
                continue
            if not read_bytes(&reader, &layer):
                return "length"
            if number != FIELD_CEILINGS:
                continue
            if rules.layer_count == MAX_CEILING_LAYERS:
                return "too many ceiling layers"
            scopes = &rules.layers[rules.layer_count]
            scopes.scopes = NULL
            scopes.count = 0
            scopes.exceptions = 0
            scopes.base = rules.base
            while layer.p < layer.end:
                if not read_tag(&layer, &number, &wire):
                    return "tag"
                wrong = parse_scopes(&layer, 1, MAX_SCOPES, &self.arena, scopes)
                if wrong != NULL:
                    return wrong
            rules.layer_count += 1
        return NULL


cdef SessionEntry _session_entry(bytes raw):
    """Return the entry of a row, or None for an unreadable row."""
    cdef SessionEntry entry = SessionEntry.__new__(SessionEntry)
    cdef dict record
    if PyBytes_GET_SIZE(raw) > 0xFFFF:
        return None
    try:
        record = decode_message("SessionRecord", raw)
    except WireError:
        return None
    entry.raw = raw
    entry.rules.base = <bytes_t> PyBytes_AS_STRING(raw)
    entry.rules.observe = record["observe"]
    entry.length = PyBytes_GET_SIZE(raw)
    entry.status = record["status"]
    entry.end_cause = record["end_cause"]
    entry.revision = record["revision"]
    entry.epoch = record["epoch"]
    entry.expires_at_ms = record["expires_at_ms"]
    entry.lease_ms = record["lease_ms"]
    entry.revoked_count = record["revoked_count"]
    entry.revocation_mark = <uint64_t> record["opened_at_ms"] * MARK_FACTOR + entry.revoked_count + 1
    entry.parent_id = record["parent_id"] or None
    entry.owner = record["owner"]
    entry.issuer_key_ids = frozenset(record["issuer_key_ids"]) or None
    if entry._compile() != NULL:
        return None
    return entry


cdef class KeyEntry:
    """One issuer key's row."""


cdef int _read_head(object raw, ReadPoint *out) except -1:
    if raw is None:
        raise WireError("the state folder has no head")
    record = decode_message("Head", bytes(raw))
    if record["min_reader_format"] > READER_FORMAT:
        raise WireError("the state folder wants a newer reader: upgrade sessauth")
    out.revision = record["revision"]
    out.clock_floor_ms = record["clock_floor_ms"]
    out.incarnation_revision = record["incarnation_revision"]
    # Another incarnation may have other keys under the same number.
    out.keys_generation = <uint64_t> record["keys_generation"] + out.incarnation_revision * MARK_FACTOR
    return 0


cdef class View:
    """A mirror of a source; not for use by more than one process."""

    def __cinit__(self, source, int max_sessions=65536):
        cdef Py_buffer buffer
        self.source = source
        self._files_unchanged = getattr(source, "files_unchanged", None)
        self._commit_id = getattr(source, "commit_id", None)
        self._sessions = {}
        self._keys = {}
        self.max_sessions = max_sessions
        # The buffer outlives the release: the page object below keeps it mapped.
        self._brake = memoryview(source.brake)
        PyObject_GetBuffer(self._brake, &buffer, PyBUF_SIMPLE)
        if buffer.len < 1:
            PyBuffer_Release(&buffer)
            raise ValueError("the brake page is empty")
        self.brake = <const unsigned char *> buffer.buf
        PyBuffer_Release(&buffer)
        self._host_bound = FreshnessBound(self._brake)
        self._fresh_until = self._host_bound.word

    @property
    def braked(self):
        """True if the brake page of the state folder denies everything."""
        return self.brake[0] != 0

    cdef int recheck_files(self) except -1:
        """Set `lost` for good if the source's files were replaced."""
        if self._files_unchanged is not None and not self._files_unchanged():
            self.lost = True
        return 0

    def stale_at(self, int64_t steady_ms):
        """Deny every call STALE_STATE from this moment of the steady clock on, in ms; 0: never.

        For a registered verifier, which promises to allow nothing after missed renewals. The host's bound counts
        beside it.
        """
        self._stale_at_ms = steady_ms

    cdef bint _bound_passed(self) noexcept:
        cdef int64_t now_ms = steady_ms()
        return (self._stale_at_ms != 0 and now_ms >= self._stale_at_ms) or self._host_bound.passed_at(now_ms)

    cdef bint is_unchanged(self, ReadPoint *out) noexcept:
        if self._commit_id is None or not self._any or self._commit_id.current() != self._latest.identity:
            return False
        out[0] = self._latest
        return True

    cdef object begin(self, ReadPoint *out):
        """Open a read transaction and set the read point from its head. The caller aborts the transaction."""
        transaction = self.source.begin()
        try:
            out.identity = transaction.id()
            # LMDB takes the id from its lock file. A smaller id in the pages means an older file.
            if self._commit_id is not None and self._commit_id.is_behind(out.identity):
                self.lost = True
            # A lost view denies before it reads a row: its pages may belong to two files.
            if self._any and (self.lost or self._latest.identity == out.identity):
                out[0] = self._latest
            else:
                _read_head(transaction.get(b"head", None, self.source.meta), out)
                out.transaction = NULL
                out.needs_read = False
                self._latest = out[0]
                self._any = True
        except BaseException:
            transaction.abort()
            raise
        out.transaction = <PyObject *> transaction
        return transaction

    @property
    def current(self):
        """True if the view was not replaced, stale or braked at its last check."""
        return not (self.lost or self.stale() or self.brake[0])

    @property
    def has_commit_id(self):
        """True if checks can detect an unchanged state without a transaction."""
        return self._commit_id is not None

    @property
    def revision(self):
        """The current revision of the state."""
        cdef ReadPoint point
        self.begin(&point).abort()
        return point.revision

    cdef SessionEntry session(self, ReadPoint *point, bytes session_id, uint64_t now_ms):
        """Return the session at a read point, or None."""
        cdef PyObject *cached = PyDict_GetItemWithError(self._sessions, session_id)
        cdef SessionEntry entry = None
        if cached != NULL:
            entry = <SessionEntry> cached
            # A lease may have been renewed since the row was read.
            if entry.read_in == point.identity and (not entry.lease_ms or now_ms < entry.lease_deadline_ms):
                return entry
        if point.transaction == NULL:
            point.needs_read = True
            return None
        transaction = <object> point.transaction
        raw = transaction.get(session_id, None, self.source.sessions)
        if raw is None:
            self._sessions.pop(session_id, None)
            return None
        raw = bytes(raw)
        if entry is None or entry.raw != raw:
            name = session_id if entry is None else entry.id
            entry = _session_entry(raw)
            if entry is None:
                self._sessions.pop(session_id, None)
                return None
            entry.id = name
            if len(self._sessions) >= self.max_sessions:
                self._sessions.pop(next(iter(self._sessions)), None)
            self._sessions[name] = entry
        if entry.lease_ms and now_ms >= entry.lease_deadline_ms:
            deadline = transaction.get(session_id, None, self.source.leases)
            entry.lease_deadline_ms = int.from_bytes(deadline, "big") if deadline is not None else 0
        if entry.status != STATUS_ENDED and entry.revision < point.incarnation_revision:
            entry.status = STATUS_ENDED
            entry.end_cause = CAUSE_RESTORED
        entry.read_in = point.identity
        return entry

    cdef KeyEntry key(self, ReadPoint *point, bytes key_id):
        """Return the issuer key at a read point, or None."""
        cdef PyObject *cached = PyDict_GetItemWithError(self._keys, key_id)
        cdef KeyEntry entry = None
        if cached != NULL:
            entry = <KeyEntry> cached
            if entry.generation == point.keys_generation:
                return entry
        if point.transaction == NULL:
            point.needs_read = True
            return None
        raw = (<object> point.transaction).get(key_id, None, self.source.keys)
        if raw is None:
            self._keys.pop(key_id, None)
            return None
        try:
            record = decode_message("KeyRecord", bytes(raw))
        except WireError:
            record = None
        # The signature library always reads 32 bytes.
        if record is None or len(record["public_key"]) != 32:
            self._keys.pop(key_id, None)
            return None
        name = key_id if cached == NULL else entry.id
        entry = KeyEntry.__new__(KeyEntry)
        entry.id = name
        entry.status = record["status"]
        entry.public_key = record["public_key"]
        entry.owner = record["owner"] or None
        entry.retired_at_ms = record["retired_at_ms"]
        entry.generation = point.keys_generation
        self._keys[name] = entry
        return entry

    cdef int revoked(self, ReadPoint *point, SessionEntry session, bytes block_id) except -1:
        if point.transaction == NULL:
            point.needs_read = True
            return BLOCK_NOT_REVOKED
        transaction = <object> point.transaction
        if transaction.get(session.id + block_id, None, self.source.revoked) is not None:
            return BLOCK_REVOKED
        tallies = getattr(self.source, "tallies", None)
        if tallies is None or self._proves_absence(transaction, tallies, session, block_id):
            return BLOCK_NOT_REVOKED
        return BLOCK_UNPROVEN

    cdef bint _proves_absence(self, object transaction, object tallies, SessionEntry session, bytes block_id) except -1:
        """Follow the tallies (state/lmdb/rows.py) to the few rows that would include the block."""
        cdef uint64_t count = session.revoked_count
        cdef uint64_t total = 0
        cdef Py_ssize_t depth = 0
        while count > TALLY_LIMIT:
            if depth == BLOCK_ID_BYTES:
                return False
            raw = transaction.get(session.id + block_id[:depth], None, tallies)
            if raw is None or not read_tally(bytes(raw), session.id, block_id, depth, &count, &total):
                return False
            depth += 1
            if count == 0:
                return True
        return self._adds_up(
            transaction, session.id + block_id[:depth], session.id + block_id, count, total, depth > 0
        )

    cdef bint _adds_up(
        self, object transaction, bytes prefix, bytes key, uint64_t count, uint64_t total, bint has_total
    ) except -1:
        """Return True if exactly ``count`` revoked blocks begin with the prefix, and the key is none of them."""
        cdef bytes previous = b""
        cdef bytes found
        cursor = transaction.cursor(db=self.source.revoked)
        more = cursor.set_range(prefix)
        while more:
            found = bytes(cursor.key())
            if not found.startswith(prefix):
                break
            # A page that is in the tree twice has its rows twice, in no order.
            if count == 0 or len(found) != SESSION_ID_BYTES + BLOCK_ID_BYTES or found <= previous or found == key:
                return False
            if not has_its_sum(found, bytes(cursor.value())):
                return False
            count -= 1
            total -= last_number(found)
            previous = found
            more = cursor.next()
        return count == 0 and (total == 0 or not has_total)
