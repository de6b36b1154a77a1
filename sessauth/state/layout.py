"""Names of files and tables of a state folder, and every bound of the state, each with its argument."""

from __future__ import annotations

from typing import Final

DATA_FILE: Final = "data.mdb"
LOCK_FILE: Final = "lock.mdb"
BRAKE_FILE: Final = "brake"
ANCHOR_FILE: Final = "anchor"
WRITER_LOCK_FILE: Final = "writer.lock"
OWNER_FILE: Final = "owner.json"
# Shared by the host's verifiers for the proofs of bound tokens: the secrets, and the used proofs.
PROOF_DIR: Final = "proof"
PROOF_KEYS_FILE: Final = "keys"
REPLAY_FILE: Final = "replay"

# A local verifier in the folder's group reads the data, takes reader slots and stores used proofs. It never
# writes data.
DIR_MODE: Final = 0o750
DATA_MODE: Final = 0o640
LOCK_MODE: Final = 0o660

# A writer of an earlier format would ignore the tables of a later one when it purges and restores. Readers of
# format 1 never read them.
FORMAT: Final = 7
# From this format on a folder has an anchor.
ANCHOR_FORMAT: Final = 4
# A reader of an earlier format would not see that a new incarnation ended a session by its one row.
INCARNATION_FORMAT: Final = 4
# A reader of an earlier format can't read the row of a session in observe mode.
OBSERVE_FORMAT: Final = 5
# A writer of an earlier format would not count the tokens it revokes.
TALLY_FORMAT: Final = 6
# A writer of an earlier format would not index the sessions it opens, ends and purges.
TERMS_FORMAT: Final = 7
MIN_READER_FORMAT: Final = 1

SESSIONS: Final = "sessions"
LEASES: Final = "leases"
REVOKED: Final = "revoked"
COUNTERS: Final = "counters"
OUTCOMES: Final = "outcomes"
KEYS: Final = "keys"
CHANGES: Final = "changes"
META: Final = "meta"
# The writer's own indices, not part of the replicated state: the time at which the sweep visits a session,
# and the order of outcomes.
DUE: Final = "due"
OUTCOME_ORDER: Final = "outcome_order"
# Format 2 added them. A folder of format 1 gets them when a writer opens it; until then it has none.
PERMITS: Final = "permits"
APPROVALS: Final = "approvals"
# Format 3 added it, the same way. The result of each change of the log, under its seq: the writer's own,
# written and dropped with the log. A change that was logged before the folder had this table has no result.
# After the results come traces of sessions whose purge the log still has, under a prefix and the session's
# id.
RESULTS: Final = "results"
TRACE_PREFIX: Final = b"\xff"
# Names of credentials have at most 64 bytes, so searches for a longer owner are rare.
TRACE_OWNER_BYTES: Final = 128
# This host's own as well: registrations, and finished receipts.
EVIDENCE: Final = "evidence"
# Format 6 added it: the number of a session's revoked blocks by their first bytes. It follows from REVOKED.
TALLIES: Final = "tallies"
# Format 7 added it: sessions by subject, owner and label. It follows from SESSIONS.
TERMS: Final = "terms"
LATER_TABLES: Final = (PERMITS, APPROVALS, RESULTS, EVIDENCE, TALLIES, TERMS)
TABLES: Final = (
    SESSIONS, LEASES, REVOKED, COUNTERS, OUTCOMES, KEYS, CHANGES, META, DUE, OUTCOME_ORDER,
    *LATER_TABLES,
)  # fmt: skip

HEAD_KEY: Final = b"head"
# seq and digest of the last compacted change: the start of the digest chain.
COMPACTED_KEY: Final = b"anchor"
PROBE_KEY: Final = b"probe"
# In a cluster: the end of the carried log that the folder holds.
CARRIED_KEY: Final = b"carried"
# The bytes of a write that tests the disk: as large as the largest change.
PROBE_BYTES: Final = 65_536

MAX_DBS: Final = 32
# LMDB's default of 126 is full after one busy host's worth of worker threads.
MAX_READERS: Final = 1024
MAP_SIZE: Final = 1 << 30
# Above this share of the map only changes that remove authority are written.
FULL_SHARE: Final = 0.85

# The most changes that share one fsync. It bounds the time that the first of them waits for the last.
GROUP_CHANGES: Final = 256
# The most bytes of changes that share one, and where a record of 1 MiB carries them to other hosts.
GROUP_BYTES: Final = 4 << 20
CARRIED_GROUP_BYTES: Final = (1 << 20) - (64 << 10)
# A change is a ceiling and a few texts; the format's own limits would permit megabytes.
MAX_CHANGE_BYTES: Final = 65_536
# The kernel's view addresses a record with 16 bits and takes a larger one for unreadable.
MAX_SESSION_BYTES: Final = 65_535
# The most that opening, narrowing and facts may fill: an end, a suspension and a count of revocations, with
# the longest reason, must fit into every session.
MAX_FILLED_BYTES: Final = MAX_SESSION_BYTES - 2_048
# Callers that wait for the writer. A further one is refused, so that none waits without bound.
MAX_QUEUE: Final = 16_384
# Above it only changes that remove authority are queued, so that no flood of calls delays an end.
QUEUE_FOR_ALL: Final = MAX_QUEUE * 3 // 4

# A follower this many changes behind can still catch up without a snapshot.
KEEP_CHANGES: Final = 100_000
# The time for which a repeated request id finds its first outcome, and the most outcomes that are retained.
KEEP_OUTCOMES_MS: Final = 24 * 3_600_000
KEEP_OUTCOMES: Final = 500_000
# The most old rows that one group drops, so that compaction delays no caller for long.
COMPACT_STEP: Final = 512

# An ended session's row stays this long after its hard end, so that its tokens are denied as ended.
KEEP_ENDED_MS: Final = 7 * 24 * 3_600_000
# Rows that one sweep visits; it is called every second.
SWEEP_STEP: Final = 1_000
# In an almost full map a long step would not fit, and a short one frees space for the next.
SWEEP_STEP_FULL: Final = 16
READER_CHECK_MS: Final = 60_000

# The time for which a new proof key is in its file before it counts: longer than any verifier's interval of
# reads.
PROOF_KEY_LEAD_MS: Final = 2_000
# Counters of one session. A holder that extends a chain offline adds any number of blocks with counters.
MAX_COUNTERS: Final = 16_384

MIN_LEASE_MS: Final = 100
MAX_KEYS: Final = 1_024
MAX_NAME_BYTES: Final = 64
# Far more than may be registered at once.
MAX_REGISTRATIONS: Final = 4_096

# Request ids with this prefix are the log's own: lapses, purges.
SYSTEM_PREFIX: Final = "sessauth/"
SYSTEM_ACTOR: Final = "sessauth"
