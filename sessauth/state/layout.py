"""What stands where in a state folder, and every bound of the state, each with its argument."""

from __future__ import annotations

from typing import Final

DATA_FILE: Final = "data.mdb"
LOCK_FILE: Final = "lock.mdb"
BRAKE_FILE: Final = "brake"
ANCHOR_FILE: Final = "anchor"
WRITER_LOCK_FILE: Final = "writer.lock"
OWNER_FILE: Final = "owner.json"
# What the host's verifiers share for the proofs of bound tokens: the secrets, and the proofs that were used.
PROOF_DIR: Final = "proof"
PROOF_KEYS_FILE: Final = "keys"
REPLAY_FILE: Final = "replay"

# A local verifier in the folder's group reads the data, takes reader slots and notes used proofs; it
# never writes data.
DIR_MODE: Final = 0o750
DATA_MODE: Final = 0o640
LOCK_MODE: Final = 0o660

# A writer of an earlier format would purge and restore around the tables of a later one; readers of format 1
# never read them.
FORMAT: Final = 4
# From this format on a folder has an anchor.
ANCHOR_FORMAT: Final = 4
# A reader of an earlier one would take a session for alive that a new incarnation ended by its one row.
INCARNATION_FORMAT: Final = 4
MIN_READER_FORMAT: Final = 1

SESSIONS: Final = "sessions"
LEASES: Final = "leases"
REVOKED: Final = "revoked"
COUNTERS: Final = "counters"
OUTCOMES: Final = "outcomes"
KEYS: Final = "keys"
CHANGES: Final = "changes"
META: Final = "meta"
# The writer's own indices, not part of the replicated state: when each session needs a look, and in
# which order outcomes came.
DUE: Final = "due"
OUTCOME_ORDER: Final = "outcome_order"
# Of format 2. A folder of format 1 gets them when it is next opened for writing; until then it has none.
PERMITS: Final = "permits"
APPROVALS: Final = "approvals"
# Of format 3, and added the same way. What became of each change of the log, under the same seq; the writer's
# own, made and dropped with the log. A change that was logged before the folder had this table has none.
# Behind all of them, under a prefix and the session's id, traces of sessions whose purge the log still has.
RESULTS: Final = "results"
TRACE_PREFIX: Final = b"\xff"
# Names of credentials have at most 64 bytes: a longer owner is hardly ever looked for.
TRACE_OWNER_BYTES: Final = 128
# This host's own as well: who is enrolled, and finished receipts.
EVIDENCE: Final = "evidence"
LATER_TABLES: Final = (PERMITS, APPROVALS, RESULTS, EVIDENCE)
TABLES: Final = (
    SESSIONS, LEASES, REVOKED, COUNTERS, OUTCOMES, KEYS, CHANGES, META, DUE, OUTCOME_ORDER,
    *LATER_TABLES,
)  # fmt: skip

HEAD_KEY: Final = b"head"
# seq and digest of the last change that was compacted away: where the digest chain starts.
COMPACTED_KEY: Final = b"anchor"
PROBE_KEY: Final = b"probe"
# Written to see whether the disk takes writes again: as much as the largest change.
PROBE_BYTES: Final = 65_536

MAX_DBS: Final = 32
# LMDB's default of 126 is full after one busy host's worth of worker threads.
MAX_READERS: Final = 1024
MAP_SIZE: Final = 1 << 30
# Above this share of the map only changes that take authority away are written.
FULL_SHARE: Final = 0.85

# How many changes share one fsync at most: bounds how long the first of them waits for the last.
GROUP_CHANGES: Final = 256
# A change is a ceiling and a few texts; the format's own limits would permit megabytes.
MAX_CHANGE_BYTES: Final = 65_536
# The kernel's view addresses a record with 16 bits and takes a larger one for unreadable.
MAX_SESSION_BYTES: Final = 65_535
# What opening, narrowing and facts may fill of it: an end, a suspension and a count of revocations, with
# the longest reason, must fit into every session.
MAX_FILLED_BYTES: Final = MAX_SESSION_BYTES - 2_048
# Callers that wait for the writer. Beyond it they hear "not now" instead of waiting for ever.
MAX_QUEUE: Final = 16_384
# From here on only what takes authority away may still wait: no flood of calls keeps an end out.
QUEUE_FOR_ALL: Final = MAX_QUEUE * 3 // 4

# What a follower may have missed and still catch up without a snapshot.
KEEP_CHANGES: Final = 100_000
# How long a repeated request id still finds its first outcome, and how many are kept at most.
KEEP_OUTCOMES_MS: Final = 24 * 3_600_000
KEEP_OUTCOMES: Final = 500_000
# Old rows that one group drops at most: compaction never makes a caller wait for long.
COMPACT_STEP: Final = 512

# An ended session's row stays this long past its hard end, so that "ended" can still be told.
KEEP_ENDED_MS: Final = 7 * 24 * 3_600_000
# Sessions that one sweep looks at; it is called every second.
SWEEP_STEP: Final = 1_000
# With hardly any room a long step would not fit, and a short one still frees what the next needs.
SWEEP_STEP_FULL: Final = 16
READER_CHECK_MS: Final = 60_000

# How long before a new proof key counts it is in its file: longer than any verifier takes to look there.
PROOF_KEY_LEAD_MS: Final = 2_000
# Counters of one session. Whoever extends a chain offline names new blocks to count for, as many as he likes.
MAX_COUNTERS: Final = 16_384

MIN_LEASE_MS: Final = 100
MAX_KEYS: Final = 1_024
MAX_NAME_BYTES: Final = 64
# Far more than may be enrolled at once.
MAX_ENROLMENTS: Final = 4_096

# Request ids with this prefix are the log's own: lapses, purges.
SYSTEM_PREFIX: Final = "sessauth/"
SYSTEM_ACTOR: Final = "sessauth"
