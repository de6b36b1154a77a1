"""One sentence for each reason: its meaning, and after a semicolon the remedy, where there is one.

The meaning is the first sentence of its paragraph in docs/reasons.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ..reasons import Reason

REASON_TEXTS: Final[Mapping[Reason, str]] = {
    Reason.UNSPECIFIED: "no check ran: the default of the enum, never produced by a check",
    Reason.ALLOWED: "every stage passed for this request, at this revision and time",
    Reason.INTERNAL_ERROR: "the check met something it can't explain: an exception inside, a record in the "
    "state that can't be read; see the decision's fault, or the verifier's log",
    Reason.AUDIT_UNAVAILABLE: "this verifier's audit stream can't be written, or decisions were lost on the "
    "way to it, and `audit.when_full` is `deny`: then no call is judged",
    Reason.MALFORMED_TOKEN: "the bytes are no token of this format: not canonical, cut, damaged, or against "
    "a rule of token-format.md, sections 2 to 6; hand on what was minted, unchanged",
    Reason.TOKEN_TOO_LARGE: "the token has more than 8192 bytes in presented form; attenuate with fewer "
    "scopes",
    Reason.UNSUPPORTED_VERSION: "the token's version is one that this verifier doesn't know, newer or older; "
    "upgrade the older of the two",
    Reason.OPEN_TOKEN: "the last block is open: its secret is meant for the holder alone, and an open chain "
    "is never presented; present() makes a sealed copy",
    Reason.CHAIN_TOO_LONG: "the chain has more blocks than some block of it permits with `max_blocks`",
    Reason.UNKNOWN_SESSION: "the state holds no such session, or no such ancestor of it: never opened here, "
    "or ended so long ago that its row was purged",
    Reason.SESSION_ENDED: "the session has ended, and with it every token of it; open another",
    Reason.SESSION_SUSPENDED: "the session or an ancestor is suspended for now; resume it to go on",
    Reason.LEASE_LAPSED: "the orchestrator missed the deadline of the lease of this session or of an "
    "ancestor; that is final, so open another session",
    Reason.WRONG_SESSION: "the token belongs to another session than the one that the caller states",
    Reason.STALE_STATE: "the verifier's view is too old to allow by, or older than was asked for; retry once "
    "it has caught up",
    Reason.SESSION_EXPIRED: "the hard end of the session or of an ancestor has passed; open another",
    Reason.STATE_BRAKED: "the brake of this host is engaged: a change could not be made durable, or an "
    "operator froze the host or its cluster; remove the cause, or thaw it, to go on",
    Reason.UNKNOWN_ISSUER: "no key with the root's key id is in the state",
    Reason.ISSUER_RETIRED: "the key was retired before the token was issued, by the token's own statement; "
    "mint with the active key",
    Reason.ISSUER_NOT_OF_SESSION: "the key may not root tokens of this session: its owner is not the "
    "session's, or the session lists its keys and this is none of them",
    Reason.ISSUER_DISTRUSTED: "the key is distrusted: every token it ever signed is denied, at once",
    Reason.ISSUER_PREPARED: "the key is known but not yet active; activate it",
    Reason.BAD_SIGNATURE: "the signature of the block at this position does not verify over the bytes "
    "received",
    Reason.EXPIRED: "a block's `expires_at_ms` has passed",
    Reason.NOT_YET_VALID: "a block's `not_before_ms` lies ahead, or it claims to be issued more than 30 s in "
    "the future",
    Reason.CLOCK_SUSPECT: "this host's wall clock can't be believed: it moved more than 60 s against the "
    "monotonic clock since the process started, or it lies more than 60 s before the state's clock floor; "
    "no times are judged until the clock is sane",
    Reason.WRONG_AUDIENCE: "a block names its verifiers and this one is not among them, or has not said who "
    "it is",
    Reason.WRONG_SOURCE: "a block limits the address the call may come from, and it comes from elsewhere or "
    "from an address the gateway did not state",
    Reason.WRONG_PEER: "a block names the certificate identities that may present it, and the connection has "
    "none of them",
    Reason.REVOKED: "the block at this position was revoked, and with it all below",
    Reason.OUT_OF_SCOPE: "at this position (a layer of the session's ceiling, or a block) no scope has this "
    "action and resource",
    Reason.CONDITION_FAILED: "action and resource matched a scope here, but a condition did not hold, or an "
    "argument was given that no condition mentions and that is not listed `free`",
    Reason.UNKNOWN_KIND: "the chain uses an operator, accessor, path source or segment kind of a later "
    "version",
    Reason.MALFORMED_REQUEST: "action, resource, arguments or tool are against the format: an empty or `..` "
    "segment, a wildcard, a control character, `%` with two hexadecimal digits, JSON that is not strict, or "
    "more work than a check may cost",
    Reason.UNKNOWN_TOOL: "the catalogue which the operator pinned does not know the tool, so no action can "
    "be given to it; pin it first",
    Reason.PROOF_REQUIRED: "the chain ends bound: it counts only with a proof by its holder for this very "
    "request, and none came; HolderKey.prove() makes one",
    Reason.BAD_PROOF: "the proof of the call does not count: by another key than the chain names, for "
    "another request or host, or for a verifier key that has expired",
    Reason.REPLAYED: "this proof was used before, on any verifier of this host; make one for each call",
    Reason.STALE_PROOF: "the proof's time lies more than 30 s from the verifier's, or before this host began "
    "to remember proofs; set the clocks",
    Reason.PROOF_UNAVAILABLE: "this verifier can't tell a proof from a replay now: it has no verifier key or "
    "no replay table, the table is full, or this holder has used its share of it; look at its log",
    Reason.APPROVAL_REQUIRED: "the deciding scope of a block asks for an approval of this very call, and it "
    "has not been given (yet)",
    Reason.USES_EXHAUSTED: "a scope's number of uses is spent, by all tokens that share its block",
    Reason.BUDGET_EXHAUSTED: "the call costs more than the budget has left, after earlier calls and open "
    "permits",
    Reason.NEEDS_SERVER: "the call costs something (uses, a budget, a permit), which only the writer of the "
    "state can take, and this verifier was given no way to it, or had no answer from it in time",
    Reason.BAD_APPROVAL: "an approval that came with the call does not count: malformed, expired, used up, "
    "signed by a key that the scope does not name or that signed already, for another request, session or "
    "epoch, or more than are needed; ask for it again and sign that",
    Reason.APPROVAL_DENIED: "an approver looked at this very call and said no; don't ask again for the same",
    Reason.BAD_PERMIT: "the permit is not open for this gateway, token and call: used, released, expired, "
    "made up, or of a session whose epoch moved; check again, commit in time",
}
