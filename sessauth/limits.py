"""Every limit of the format and of the service, each with its argument.

The format's limits are normative (``docs/token-format.md``, section 12). The kernel holds its own
copies (``_fast/base/limits.pxd``), since it imports nothing of ours; a test compares them.
"""

from __future__ import annotations

from typing import Final

# A presented token travels in a header or in gRPC metadata; common proxies pass 8 KiB.
MAX_TOKEN_BYTES: Final = 8192
# gRPC refuses metadata between 8 and 16 KiB at random; text is 4/3 of the bytes, so warn at 6 KiB.
WARN_TEXT_BYTES: Final = 6144
# A delegation deeper than this is a loop, and each block may cost a signature (about 50 us).
MAX_BLOCKS: Final = 16
MAX_SCOPES: Final = 64
MAX_CONDITIONS: Final = 16
MAX_ACTIONS: Final = 16
MAX_ACTION_CHARS: Final = 64
MAX_SEGMENTS: Final = 32
MAX_SEGMENT_TEXTS: Final = 32
MAX_FREE_PATHS: Final = 64
MAX_PATH_SEGMENTS: Final = 8
MAX_VALUES: Final = 64
MAX_AUDIENCES: Final = 16
MAX_SOURCES: Final = 16
MAX_PEERS: Final = 16
MAX_APPROVAL_KEYS: Final = 16
MAX_STRING_BYTES: Final = 1024
MAX_NESTING: Final = 8
MAX_TIME_MS: Final = 2**53 - 1

MAX_RESOURCE_BYTES: Final = 1024
MAX_JSON_BYTES: Final = 1_048_576
MAX_JSON_DEPTH: Final = 32
# Values in a request's JSON. With MAX_WORK it bounds what a request can cost, in steps, not in time.
MAX_JSON_VALUES: Final = 10_000
MAX_WORK: Final = 262_144
# The part of it for arguments of no bytes; the rest grows with them.
MIN_WORK: Final = MAX_WORK // 4

# A session, its parent, its grandparent and one above: every check evaluates all of them.
MAX_ANCESTORS: Final = 3
MAX_CEILING_LAYERS: Final = 16
MAX_FACTS: Final = 32
MAX_LABELS: Final = 32
MAX_SESSION_ISSUER_KEYS: Final = 16
MAX_REVOKE_BLOCK_IDS: Final = 256
MAX_REQUEST_ID_BYTES: Final = 64
MAX_BATCH_ITEMS: Final = 1024
# An id is found by the digits that it begins with. Fewer are a slip of the hand, and fit many ids.
MIN_ID_PREFIX_DIGITS: Final = 4
MAX_RETRY_ID_BYTES: Final = 64
# A permit is for a call that is about to happen.
MAX_PERMIT_MS: Final = 300_000
MAX_OPEN_PERMITS: Final = 1024
MAX_OPEN_APPROVALS: Final = 64
# A person decides in minutes or hours; the session's end ends the request as well.
APPROVAL_TTL_MS: Final = 24 * 3_600_000
# The arguments that an approver is shown must fit into a change of the log.
MAX_APPROVAL_ARGUMENT_BYTES: Final = 32_768
# So must the text of its scope; escapes make it longer than the token.
MAX_APPROVAL_SCOPE_BYTES: Final = 16_384

# The time that a registered verifier may allow calls without a report. A pause of its process must not cost a
# renewal, due every third of it; a dead verifier leaves receipts open for so long.
MIN_STALENESS_MS: Final = 1_000
MAX_STALENESS_MS: Final = 60_000
# Each stands in every receipt, 100 bytes of it at most.
MAX_VERIFIERS: Final = 256

# Skew that an issuer's clock may have against a verifier's. None on expiry.
ISSUED_AT_LEEWAY_MS: Final = 30_000
# The distance of a proof's time from the verifier's, either way; a host stores nonces for as long.
PROOF_WINDOW_MS: Final = 30_000
# A wall clock that moved this far against the monotonic one is not trusted.
CLOCK_STEP_MS: Final = 60_000
