"""Declarations of ``check``: decisions, the cache, the view, batches, and the chain of classes up to Checker."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcmp


# The id of the last commit, read without a transaction.

cdef extern from * nogil:
    """
    #include <stdint.h>
    static inline uint64_t sessauth_newest(const uint64_t *first, const uint64_t *second) {
        uint64_t a = __atomic_load_n(first, __ATOMIC_ACQUIRE);
        uint64_t b = __atomic_load_n(second, __ATOMIC_ACQUIRE);
        return a > b ? a : b;
    }
    """
    uint64_t newest "sessauth_newest"(const uint64_t *first, const uint64_t *second)

cdef class CommitId:
    cdef object _buffer
    cdef const uint64_t *_first
    cdef const uint64_t *_second

    cdef bint _closed

    cdef inline uint64_t current(self) noexcept nogil:
        return newest(self._first, self._second)

    # True if the file has fewer commits than `number`. False when closed.
    cdef inline bint is_behind(self, uint64_t number) noexcept nogil:
        return not self._closed and newest(self._first, self._second) < number


# The decision of a check in this process.

cdef class Decision:
    cdef CheckOutcome outcome
    cdef Chain chain
    cdef str _argument
    cdef object _fault
    # Eight bytes that identify the checker, and the number of its decision.
    cdef bytes prefix
    cdef uint64_t number

    # Copy an outcome, without its own copy of the argument's name.
    cdef int fill(self, const CheckOutcome *outcome, Chain chain) except -1


# The freshness bound of a host: two fields of its brake page.

cdef extern from * nogil:
    """
    #include <stdint.h>
    static inline int64_t sessauth_fresh_until(const int64_t *word) { return __atomic_load_n(word, __ATOMIC_ACQUIRE); }
    """
    int64_t load_word "sessauth_fresh_until"(const int64_t *word)

cdef class FreshnessBound:
    cdef object _page
    cdef bytes _clock_id
    # 0: no bound.
    cdef const int64_t *word
    cdef const unsigned char *_clock_of_page

    # True if there is a bound that does not reach beyond `now_ms` of the steady clock.
    cdef bint passed_at(self, int64_t now_ms) noexcept


# The cache of verified chains, by exact bytes.

# A verified run of blocks from the root: the first `count` of a cached chain. The low four bits of the tag are
# count - 1, the others a keyed hash of the last block's signature.
cdef struct CacheEntry:
    uint64_t tag
    PyObject *chain

# A tag that left the small queue (half of it), and the number of the eviction.
cdef struct GhostEntry:
    uint32_t tag
    uint32_t evicted

cdef class ChainCache:
    cdef readonly size_t capacity
    cdef readonly size_t quota
    cdef readonly size_t used
    cdef readonly unsigned long long hits
    cdef readonly unsigned long long misses
    cdef readonly unsigned long long evicted
    cdef uint64_t _keys[2]
    cdef CacheEntry *_slots
    cdef GhostEntry *_ghosts
    cdef size_t _mask
    cdef size_t _filled
    cdef size_t _count
    cdef Link _small
    cdef Link _main
    cdef size_t _small_used
    cdef dict _shares

    # The cached chain of exactly these bytes, or None.
    cdef Chain find(self, bytes_t p, size_t n)
    # The same by exactly this text form, if the cache keeps it. A miss is not counted.
    cdef Chain find_text(self, bytes_t p, size_t n)
    # Keep the text form of a cached chain, unless that is beyond its session's quota.
    cdef int keep_text(self, Chain chain, bytes_t p, size_t n) except -1
    # Number of leading blocks that are verified already.
    cdef int verified_blocks(self, Chain chain) noexcept
    cdef int add(self, Chain chain) except -1
    cdef uint64_t _hash(self, bytes_t signature) noexcept
    cdef uint64_t _hash_half(self, bytes_t half) noexcept
    cdef CacheEntry *_find_run(self, Chain chain, int count) noexcept
    cdef bint _insert(self, uint64_t tag, Chain chain) noexcept
    cdef void _erase(self, CacheEntry *slot) noexcept
    cdef bint _grow(self) noexcept
    cdef GhostEntry *_ghost(self, uint64_t tag) noexcept
    cdef void _register(self, Chain chain) noexcept
    cdef int _drop(self, Chain chain) except -1
    cdef int _make_room(self) except -1


# Stage ``proof`` (docs/token-format.md, section 9.9).

cdef bint insert_nonce(Chain chain, const CheckInput *input, CheckOutcome *out) noexcept nogil

cdef inline bint consume_nonce(Chain chain, const CheckInput *input, CheckOutcome *out) noexcept nogil:
    """Consume the nonce, the end of the stage, once all else allows. False: the outcome is a denial."""
    return input.proof.n == 0 or insert_nonce(chain, input, out)


# A view: an in-memory mirror of state rows, as fresh as its transaction.

cdef enum:
    STATUS_ACTIVE = 1
    STATUS_SUSPENDED = 2
    STATUS_ENDED = 3
    CAUSE_LEASE_LAPSED = 2
    CAUSE_EXPIRED = 3
    CAUSE_RESTORED = 5
    KEY_PREPARED = 1
    KEY_ACTIVE = 2
    KEY_RETIRED = 3
    KEY_DISTRUSTED = 4
    BLOCK_NOT_REVOKED = 0
    BLOCK_REVOKED = 1
    # The rows of the session's revocations do not add up: some are lost.
    BLOCK_UNPROVEN = 2

# The compiled rules of a session: the layers of its ceiling, and the facts that their conditions read. `observe`: its
# ceiling refuses nothing.
cdef struct SessionRules:
    ScopeList layers[MAX_CEILING_LAYERS]
    int layer_count
    Fact *facts
    int fact_count
    bint observe
    bytes_t base

cdef class SessionEntry:
    cdef bytes id
    cdef bytes raw
    cdef size_t length
    # Id of the transaction of the last read.
    cdef uint64_t read_in
    cdef uint64_t revision
    cdef int status
    cdef int end_cause
    cdef uint64_t epoch
    cdef uint64_t expires_at_ms
    cdef uint64_t lease_ms
    cdef uint64_t lease_deadline_ms
    cdef uint64_t revoked_count
    # Identifies the session and its number of revocations: an id may be reused long after a session's end.
    cdef uint64_t revocation_mark
    # None: no parent.
    cdef bytes parent_id
    cdef str owner
    # None: any.
    cdef frozenset issuer_key_ids
    cdef Arena arena
    cdef SessionRules rules

    cdef const char *_compile(self) noexcept nogil

cdef class KeyEntry:
    cdef bytes id
    cdef uint64_t generation
    cdef int status
    cdef bytes public_key
    # None: for every owner.
    cdef str owner
    cdef uint64_t retired_at_ms

# The state as of one transaction.
cdef struct ReadPoint:
    uint64_t identity
    uint64_t revision
    uint64_t clock_floor_ms
    uint64_t keys_generation
    # A session with an older row ended at that revision.
    uint64_t incarnation_revision
    # Borrowed from the caller that began it. NULL: none is open, and only mirrored rows are available.
    PyObject *transaction
    # A row is missing in the mirror.
    bint needs_read

cdef class View:
    cdef object source
    cdef object _files_unchanged
    cdef object _brake
    cdef const unsigned char *brake
    # The host's bound; its word, for one load a check; and this view's own: stale from this steady ms on; 0: never.
    cdef FreshnessBound _host_bound
    cdef const int64_t *_fresh_until
    cdef int64_t _stale_at_ms
    cdef CommitId _commit_id
    cdef dict _sessions
    cdef dict _keys
    cdef ReadPoint _latest
    cdef bint _any
    cdef readonly int max_sessions
    cdef readonly bint lost

    cdef int recheck_files(self) except -1
    # True once `_stale_at_ms` or the host's bound has passed. Without either this reads no clock.
    cdef inline bint stale(self) noexcept:
        return (self._stale_at_ms | load_word(self._fresh_until)) != 0 and self._bound_passed()
    cdef bint _bound_passed(self) noexcept
    # True if nothing was committed since the latest read point, which `out` then is.
    cdef bint is_unchanged(self, ReadPoint *out) noexcept
    # Returns the transaction; the caller aborts it.
    cdef object begin(self, ReadPoint *out)
    # None also if the read point needs a read.
    cdef SessionEntry session(self, ReadPoint *point, bytes session_id, uint64_t now_ms)
    cdef KeyEntry key(self, ReadPoint *point, bytes key_id)
    # One of the three; of a read point that needs a read, BLOCK_NOT_REVOKED.
    cdef int revoked(self, ReadPoint *point, SessionEntry session, bytes block_id) except -1
    cdef bint _proves_absence(self, object transaction, object tallies, SessionEntry session, bytes block_id) except -1
    cdef bint _adds_up(
        self, object transaction, bytes prefix, bytes key, uint64_t count, uint64_t total, bint has_total
    ) except -1


# The lineage of a token: its session and the ancestors whose rules apply to it.

# The rules of the session and of its ancestors, the nearest first. Owns a reference to each entry: another thread
# may replace the view's entries while this one verifies.
cdef struct Lineage:
    PyObject *entries[MAX_ANCESTORS + 1]
    const SessionRules *rules[MAX_ANCESTORS + 1]
    int count

cdef inline void lineage_add(Lineage *lineage, SessionEntry entry) noexcept:
    Py_INCREF(entry)
    lineage.entries[lineage.count] = <PyObject *> entry
    lineage.rules[lineage.count] = &entry.rules
    lineage.count += 1

cdef inline void lineage_clear(Lineage *lineage) noexcept:
    cdef int i
    for i in range(lineage.count):
        Py_DECREF(<object> lineage.entries[i])
    lineage.count = 0


# A batch of calls and its decisions.

cdef struct Item:
    CheckInput input
    CheckOutcome outcome
    # Set by the caller, independent of the clock.
    bint clock_suspect
    # Owned; NULL until the token was decoded.
    PyObject *chain
    # The reason why the presented token is not one, or 0.
    int refused
    # The item whose lineage this one uses: itself, or an earlier item with the same token.
    int lineage_of
    bint passed
    Lineage own_lineage

cdef class Batch:
    cdef Item *items
    cdef Py_ssize_t count
    # Own the memory that the items point to.
    cdef object references
    cdef bytes prefix
    cdef object _fault
    # An item was checked before, so its outcome is reset before the next time.
    cdef bint judged
    # Number of the first item's decision.
    cdef uint64_t number

    cdef int allocate(self, Py_ssize_t count) except -1
    cdef Chain chain_of(self, Item *item)
    # For the items from `first` up to `end`, exclusive.
    cdef void reset(self, Py_ssize_t first, Py_ssize_t end)
    cdef void release_lineages(self, Py_ssize_t first, Py_ssize_t end)
    cdef bytes token_of(self, Py_ssize_t i)


# The stages of a check that read only chain, session and request.

cdef bint judge_time(Chain chain, const CheckInput *input, CheckOutcome *out) noexcept nogil
cdef bint judge_audience(Chain chain, const CheckInput *input, CheckOutcome *out) noexcept nogil
# Also the end of a check of the token alone.
cdef bint judge_kinds(Chain chain, CheckOutcome *out) noexcept nogil
cdef bint judge_scope(
    Chain chain, const SessionRules **rules, int rules_count, const CheckInput *input, Scratch *scratch, CheckOutcome *out
) noexcept nogil


# Runs the stages of a check in their order.

cdef class StageRunner:
    cdef readonly View view
    cdef readonly ChainCache cache
    cdef readonly uint64_t bad_signatures
    cdef readonly uint64_t signatures
    # Receives a record of every decision, unless None.
    cdef public DecisionQueue decision_queue
    # Counts every decision, unless None.
    cdef public CheckCounters counters
    cdef bytes _prefix
    cdef uint64_t _count
    cdef int64_t _offset_ms
    cdef int64_t _files_checked_ms
    cdef bint _clock_jumped
    cdef ScratchBox box

    cdef Decision new_decision(self)
    # Set the time of a request: `now_ms`, or the clock's for -1.
    cdef bint clock(self, CheckInput *input, int64_t now_ms) except -1
    # The file and clock checks of `clock`, if they are due, for callers that read the checker before it.
    cdef int recheck_if_due(self) except -1
    cdef int _recheck(self, int64_t wall) except -1
    # The chain of a token's bytes, which `data` may own. None: the outcome is a denial.
    cdef Chain chain_of(self, CheckInput *input, object data, CheckOutcome *out)
    # Check one call by the current state. `apply_floor`: the time is the clock's and must not go back.
    cdef bint judge(self, Chain chain, CheckInput *input, bint apply_floor, CheckOutcome *out) except -1
    # Run the stages before the scopes: all that read state, and the signatures.
    cdef bint judge_before_scope(
        self, ReadPoint *point, Chain chain, CheckInput *input, bint apply_floor, Lineage *lineage, CheckOutcome *out
    ) except -1
    # Take memory for a request's JSON that no other thread uses. Put it back as `box`.
    cdef ScratchBox take_box(self)
    cdef bint _judge_at(self, ReadPoint *point, Chain chain, CheckInput *input, bint apply_floor, CheckOutcome *out) except -1
    cdef bint _charge(
        self, Chain chain, const Lineage *lineage, const CheckInput *input, Scratch *scratch, CheckOutcome *out
    ) except -1
    cdef bint _session(self, ReadPoint *point, Chain chain, CheckInput *input, Lineage *lineage, CheckOutcome *out) except -1
    cdef KeyEntry _issuer(self, ReadPoint *point, Chain chain, SessionEntry session, CheckOutcome *out)
    cdef bint _signature(
        self, Chain chain, SessionEntry session, KeyEntry key, const CheckInput *input, CheckOutcome *out
    ) except -1
    cdef bint _find_revocation(self, ReadPoint *point, Chain chain, SessionEntry session, CheckOutcome *out) except -1

# A denial discloses no match.
cdef void set_observed_position(CheckOutcome *out) noexcept nogil
cdef void set_fault(CheckOutcome *out) noexcept nogil


# Checks a batch by one state and one time.

cdef class BatchRunner(StageRunner):
    # Number the decisions of an allocated batch.
    cdef void name(self, Batch batch)
    # Check the items from `first` up to `end`, exclusive, at one read point. Scopes are matched without the GIL.
    # A denial raises nothing.
    cdef int judge_batch(self, Batch batch, Py_ssize_t first, Py_ssize_t end, int64_t now_ms) except -1
    cdef int _batch_at(
        self, ReadPoint *point, Batch batch, Py_ssize_t first, Py_ssize_t end, const CheckInput *clock, bint apply_floor
    ) except -1
    cdef bint _decode(self, Batch batch, Item *item, int *alike) except -1


# Prepared tokens, and records of decisions.

cdef class Prepared:
    cdef object checker
    cdef readonly bytes data
    cdef Chain chain
    cdef int reason

cdef class RecordingRunner(BatchRunner):
    cdef readonly str audience
    cdef object _token_type

    # The bytes of a token in any form, or its chain from the cache; None if it is refused, with the reason.
    cdef object read_token(self, object token, int *reason)
    # The same for a text form.
    cdef object read_text(self, bytes_t p, size_t n, int *reason)
    cdef int judge_timed(self, Batch batch, Py_ssize_t first, Py_ssize_t end, int64_t now_ms) except -1
    # Record an item's outcome, once. `watched`: it withdraws an allow.
    cdef void record_item(self, Batch batch, Item *item, bint watched) noexcept

cdef inline bint is_token_text(bytes_t p, size_t n) noexcept nogil:
    """Return 1 for a prefix of a token's text form."""
    return n > 9 and memcmp(p, <const char *> "sessauth_", 9) == 0

cdef inline bint holds_token_text(object token) noexcept:
    """Apply ``is_token_text`` to a bytes object."""
    return is_token_text(<bytes_t> PyBytes_AS_STRING(token), PyBytes_GET_SIZE(token))


cdef class Checker(RecordingRunner):
    # Keys that verify proofs. A check uses the keys that it started with.
    cdef public ProofKeys proofs

    cdef Decision _judge_call(
        self, CheckInput *input, object token, object action, object resource, object arguments, object tool, bytes session,
        str source, object peer, str audience, object proof, int64_t now_ms, bint record_needs,
    )  # fmt: skip
    cdef int _read_call(self, object call, Item *item, list references) except -1
    cdef tuple _set_proof(self, object proof, CheckInput *input)


# Three-valued evaluation of scopes for partially known calls: yes, no or maybe.

cdef enum Truth:
    # The numbers of the schema's Verdict.
    YES = 1
    NO = 2
    MAYBE = 3

# A partially known call. The context's documents must be readable: an empty document replaces an unknown one.
cdef struct PartialCall:
    Context context
    TextSlice action
    const Resource *resource
    bint knows_arguments
    bint knows_tool
    bint knows_facts
    # The most work that unknown arguments can cause: by their values, and by their bytes (docs/token-format.md, section 9.12).
    uint64_t work_by_values
    uint64_t work_by_bytes

cdef inline int and3(int a, int b) noexcept nogil:
    """Return the conjunction of two verdicts (Kleene)."""
    if a == NO or b == NO:
        return NO
    return MAYBE if a == MAYBE or b == MAYBE else YES

cdef inline void read_facts_of(const SessionRules *rules, Context *context) noexcept nogil:
    context.facts = rules.facts
    context.fact_count = rules.fact_count
    context.facts_base = rules.base

# 1 if arguments of some size can pass the bound of work, on top of the work that is known.
cdef bint may_overwork(const PartialCall *call) noexcept nogil
# `needs_are_maybe`: a scope with needs is MAYBE instead of YES.
cdef int eval_scopes3(const ScopeList *scopes, bint needs_are_maybe, PartialCall *call) noexcept nogil
# Whether a call is outside an exception.
cdef int eval_exception3(const Scope *exception, bytes_t base, PartialCall *call) noexcept nogil
cdef int eval_scope3(const Scope *scope, bytes_t base, PartialCall *call) noexcept nogil
cdef int eval_condition3(const Condition *c, bytes_t base, PartialCall *call) noexcept nogil
# Match a scope's actions and resource, without its conditions.
cdef bint pattern_matches(const Scope *scope, bytes_t base, PartialCall *call) noexcept nogil
