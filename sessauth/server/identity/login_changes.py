"""Changes of the sessions of logins: what a statement of a provider says, and what its silence means.

Each is made in the commit that moves the moments, so a login that opens meanwhile is seen or refused.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Final

from ...clock import utc_text
from ...errors import Rejected
from ...model.change import (
    Change,
    cut_logins,
    end_session,
    narrow_session,
    once_change_id,
    resume_session,
    suspend_session,
    update_facts,
)
from ...model.session import (
    ISSUER_LABEL,
    LOGIN_LABEL,
    LOGINS_OWNER,
    SID_LABEL,
    SUBJECT_LABEL,
    Session,
    SessionStatus,
)
from ...state import layout
from ...state.lmdb.effective_status import effective_status
from ...state.lmdb.rows import TxnRows
from ...state.lmdb.terms import LIVING, ids_after, terms_of
from ...state.rules.effects import Rows
from ...state.rules.logins import claims_changed_ms, cuts_of_login, login_cut
from ...state.writer.group import Group
from .mapping import ChangedTerms, changed_terms
from .providers import IdentityProvider
from .statements import SUSPENDING, LoginEffect, Named, Signal

SILENCE: Final = "silence"
GAP: Final = "gap"
# A cut outlives each token that it refuses, whatever the clocks are.
_KEEP_LONGER_MS: Final = 600_000
# Sessions of logins that one commit changes. A user has a few.
CHANGES_A_COMMIT: Final = 64
COMMIT_BYTES: Final = 64 * 1_536
MAX_COUNTED: Final = 10_000
_COUNTED_AT_ONCE: Final = 1_000


@dataclass(frozen=True, slots=True)
class AppliedPart:
    """Logins' sessions that a commit changed, counted by effect; its revision; whether there are more."""

    changed: Mapping[LoginEffect, int]
    revision: int
    more: bool


def apply_signal(group: Group, signal: Signal, reason: str, actor: str, *, goes_on: bool) -> AppliedPart:
    """Move the moments that a signal states, and change the first sessions that it names.

    ``goes_on`` changes those that the commit before left. Raises Rejected OLD_FORMAT where the cluster can't
    have moments of logins yet.
    """
    issuer, moments = signal.provider.issuer, dict.fromkeys(signal.moments, signal.moment_ms)
    is_new = goes_on
    for named in signal.named:
        standing = login_cut(group.rows, issuer, **named._asdict())
        # A repeat takes no place in the queue. It has no request id, which another could use first.
        if standing is None or any(getattr(standing, name) < at_ms for name, at_ms in moments.items()):
            change = cut_logins(
                once_change_id(),
                issuer,
                moments,
                signal.provider.max_age_ms + _KEEP_LONGER_MS,
                reason,
                actor=actor,
                **named._asdict(),
            )
            group.submit(change).raise_if_rejected()
            is_new = True
    # A repeat ends and narrows what is left, and leaves alone what an operator resumed since.
    repeats = signal.effect in (LoginEffect.END, LoginEffect.NARROW)
    if signal.effect is LoginEffect.NOTHING or not (is_new or repeats):
        return AppliedPart({}, group.rows.current.revision, more=False)
    found = list(islice(_changed_by(group, signal), CHANGES_A_COMMIT + 1))
    return _changed(group, found, partial(_apply, signal=signal, reason=reason, actor=actor))


def _changed(group: Group, found: Sequence[Session], apply: _Apply) -> AppliedPart:
    """Change the first of the sessions that were found."""
    first = found[:CHANGES_A_COMMIT]
    counts = Counter(apply(group, session) for session in first)
    return AppliedPart(counts, group.rows.current.revision, more=len(found) > len(first))


def _apply(group: Group, session: Session, *, signal: Signal, reason: str, actor: str) -> LoginEffect:
    """Change a session as a signal says; return the effect that it had."""
    if signal.effect is LoginEffect.NARROW and _narrow(group, session, signal, actor):
        return LoginEffect.NARROW
    effect = LoginEffect.END if signal.effect is LoginEffect.NARROW else signal.effect
    return _move(group, session, effect=effect, reason=reason, actor=actor)


def _move(group: Group, session: Session, *, effect: LoginEffect, reason: str, actor: str) -> LoginEffect:
    """End, suspend or resume a session."""
    change = _MOVES[effect](once_change_id(), session.id, reason, actor=actor)
    group.submit(change).raise_if_rejected()
    return effect


def _narrow(group: Group, session: Session, signal: Signal, actor: str) -> bool:
    """Take from a session what changed claims no longer give; return False if it has to end."""
    terms = _changed_terms(group.rows, session, signal)
    if terms is None:
        return False
    changes = []
    if terms.ceiling:
        changes.append(narrow_session(once_change_id(), session.id, terms.ceiling, actor=actor))
    if terms.set_facts or terms.removed_facts:
        facts = update_facts(
            once_change_id(), session.id, set_facts=terms.set_facts, remove=terms.removed_facts, actor=actor
        )
        changes.append(facts)
    try:
        for change in changes:
            group.require_applicable(change)
    except Rejected:
        # An operator's layers or facts leave no place.
        return False
    for change in changes:
        group.submit(change).raise_if_rejected()
    return True


def _changed_terms(rows: Rows, session: Session, signal: Signal) -> ChangedTerms | None:
    labels = session.labels
    issuer, subject, sid = (labels.get(name, "") for name in (ISSUER_LABEL, SUBJECT_LABEL, SID_LABEL))
    is_late = claims_changed_ms(rows, issuer, subject, sid) > signal.moment_ms
    return changed_terms(signal.provider, signal.claims, session, is_late=is_late)


_Apply = Callable[[Group, Session], LoginEffect]
_MOVES: Final[Mapping[LoginEffect, Callable[..., Change]]] = {
    LoginEffect.END: end_session,
    LoginEffect.SUSPEND: suspend_session,
    LoginEffect.RESUME: resume_session,
}


def _changed_by(group: Group, signal: Signal) -> Iterator[Session]:
    """Yield the sessions that a signal's effect changes, in no order."""
    seen = set()
    for named in signal.named:
        for session in _named_sessions(group, signal.provider.issuer, named):
            if session.id not in seen and _is_changed(group.rows, session, named, signal):
                seen.add(session.id)
                yield session


def _named_sessions(group: Group, issuer: str, named: Named) -> Iterator[Session]:
    """Yield the sessions of logins that have a name, all of an issuer for none, and that have not ended."""
    wanted = {ISSUER_LABEL: issuer}
    if named.sid:
        wanted[SID_LABEL] = named.sid
    elif named.subject:
        wanted[SUBJECT_LABEL] = named.subject
    terms, after = terms_of("", LOGINS_OWNER, wanted), b""
    while ids := ids_after(group.rows, terms, (LIVING,), after, CHANGES_A_COMMIT):
        after = ids[-1]
        for session in filter(None, map(partial(current, group), ids)):
            # The index finds candidates.
            if session.owner != LOGINS_OWNER or not wanted.items() <= session.labels.items():
                continue
            if session.status is not SessionStatus.ENDED and not (
                named.without_sid and SID_LABEL in session.labels
            ):
                yield session


def _is_changed(rows: Rows, session: Session, named: Named, signal: Signal) -> bool:
    """Return True if a signal's effect changes a session that it names.

    By the moments as they are now: what is late changes nothing that a later statement settled.
    """
    provider = signal.provider
    if signal.effect is LoginEffect.NARROW:
        if not named.sid and session.labels.get(LOGIN_LABEL, "") > utc_text(signal.moment_ms):
            return False
        terms = _changed_terms(rows, session, signal)
        return terms is None or bool(terms)
    if signal.effect is LoginEffect.END:
        cut = login_cut(rows, provider.issuer, named.subject, named.sid, without_sid=named.without_sid)
        logged_in = session.labels.get(LOGIN_LABEL, "") <= utc_text(signal.moment_ms)
        return bool(named.sid) or logged_in or (cut is not None and cut.is_disabled)
    if signal.effect is LoginEffect.SUSPEND:
        return session.status is SessionStatus.ACTIVE and bool(_unsafe_event(rows, session.labels))
    return _is_resumable(rows, session, provider)


def _is_resumable(rows: Rows, session: Session, provider: IdentityProvider) -> bool:
    """Return True for a session that nothing holds suspended any more. Another's suspension stays."""
    suspended = session.status is SessionStatus.SUSPENDED and session.reason in _reasons(provider)
    return suspended and not _unsafe_event(rows, session.labels)


def suspension_of_login(
    rows: Rows, provider: IdentityProvider, labels: Mapping[str, str], lapsed: Session | None
) -> str:
    """Return why the next session of a login begins suspended; empty if it does not.

    ``lapsed`` is the login's last session. A suspension outlives a lapse: what was taken from an agent does
    not come back because the agent waited. ``labels`` are those of the login's session.
    """
    event = _unsafe_event(rows, labels)
    if lapsed is not None and lapsed.reason and (event or lapsed.reason not in _reasons(provider)):
        return lapsed.reason
    return f"{provider.name}: {event}" if event else ""


def _reasons(provider: IdentityProvider) -> set[str]:
    """Return the reasons of suspensions that a provider takes back."""
    return {f"{provider.name}: {event}" for event in (SILENCE, *SUSPENDING)}


def _unsafe_event(rows: Rows, labels: Mapping[str, str]) -> str:
    """Return the event that holds a login suspended; empty for none."""
    issuer, subject, sid = (labels.get(name, "") for name in (ISSUER_LABEL, SUBJECT_LABEL, SID_LABEL))
    for cut in cuts_of_login(rows, issuer, subject, sid):
        for event, up_to_ms in zip(SUSPENDING, cut.unsafe_ms, strict=True):
            if up_to_ms and labels.get(LOGIN_LABEL, "") <= utc_text(up_to_ms):
                return event
    return ""


def follow_silence(group: Group, provider: IdentityProvider, *, silent: bool) -> AppliedPart:
    """Suspend or end the first of a provider's logins while it is silent, or resume what nothing else holds.

    Which of both is in the settings (``on_silence``).
    """
    ends = provider.on_silence == LoginEffect.END

    def is_changed(session: Session) -> bool:
        if silent:
            return ends or session.status is SessionStatus.ACTIVE
        return _is_resumable(group.rows, session, provider)

    found = filter(is_changed, _named_sessions(group, provider.issuer, Named()))
    loses = LoginEffect.END if ends else LoginEffect.SUSPEND
    effect = loses if silent else LoginEffect.RESUME
    reason = f"{provider.name}: {SILENCE}"
    move = partial(_move, effect=effect, reason=reason, actor=layout.SYSTEM_ACTOR)
    return _changed(group, list(islice(found, CHANGES_A_COMMIT + 1)), move)


def cut_gap(group: Group, provider: IdentityProvider, end_ms: int) -> AppliedPart:
    """Cut all logins of a provider up to the end of a gap, in ms since 1970, and end the first of them."""
    signal = Signal(provider, GAP, (Named(),), end_ms)
    return apply_signal(group, signal, gap_reason(provider), layout.SYSTEM_ACTOR, goes_on=False)


def count_logins(rows: TxnRows, issuer: str, now_ms: int) -> int:
    """Return how many logins of an issuer have a session that has not ended; MAX_COUNTED at most."""
    terms, after, found = terms_of("", LOGINS_OWNER, {ISSUER_LABEL: issuer}), b"", 0
    while found < MAX_COUNTED and (ids := ids_after(rows, terms, (LIVING,), after, _COUNTED_AT_ONCE)):
        after = ids[-1]
        states = (effective_status(rows, each, now_ms) for each in ids)
        found += sum(state is not None and state.status is not SessionStatus.ENDED for state in states)
    return min(found, MAX_COUNTED)


def gap_reason(provider: IdentityProvider) -> str:
    """Return the reason of a cut at the end of a gap."""
    return f"{provider.name}: {GAP}"


def current(group: Group, session_id: bytes) -> Session | None:
    """Return a session with its lease; one that is over by now is ended first."""
    session = group.rows.leased_session(session_id)
    cause = None if session is None else group.lapse(session)
    if session is None or cause is None:
        return session
    group.end(session, cause)
    return group.rows.leased_session(session_id)
