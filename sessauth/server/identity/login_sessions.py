"""Logins as sessions: what a token of an identity provider opens is below the session of the token's login.

The session of a login has an id that follows from issuer, subject and login, so that all first tokens find
one row. Its end, by whomever, ends all sessions below it, and its ended row refuses every later token of that
login. The row stays longer than a provider's tokens count (``max_age_ms``).

A lapse is no such end. After it a token that was issued later opens the next session of the login, whose id
follows from the former one's.
"""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Final, NamedTuple, cast

from ...clock import Clock, utc_text
from ...errors import ConfigError, IdentityRefused, NotLeader, Rejected, SessauthError
from ...model.change import Change, Rejection, once_change_id, open_session, suspend_session
from ...model.session import (
    ACTOR_LABEL,
    ISSUER_LABEL,
    LOGIN_LABEL,
    LOGINS_OWNER,
    PROVIDER_LABEL,
    SID_LABEL,
    SUBJECT_LABEL,
    EndCause,
    Fact,
    ScopeRecord,
    Session,
    SessionStatus,
    lineage,
)
from ...scopes.containment import contains
from ...scopes.scope import Scope
from ...state import layout
from ...state.rules.effects import Rows
from ...state.rules.logins import claims_changed_ms, cut_of_login, digest_of
from ...state.rules.validation import RuleViolation, is_contained
from ...state.writer.group import Group
from ...state.writer.state_writer import StateWriter
from ..config import Config
from ..status import word_of
from .event_streams import EventStreams
from .key_proofs import NOTHING_SHOWN, Possession, UsedProofs
from .key_sets import KeySets, PublicKeys
from .login_changes import (
    COMMIT_BYTES,
    AppliedPart,
    apply_signal,
    current,
    gap_reason,
    suspension_of_login,
)
from .mapping import MappedIdentity, map_identity
from .providers import PLACEHOLDER, IdentityProvider
from .statements import LOGOUT, LoginEffect, Signal, verify_event, verify_logout, verify_revocation
from .tokens import IdentityFault, ProvenIdentity, TokenKind, verify

# Of one login. Each opening reads the rows of all before.
MAX_LAPSES: Final = 256
OPENED: Final = "OPENED"
APPLIED: Final = "APPLIED"
_RENEWAL_BYTES: Final = 256
_LOGIN: Final = b"sessauth/login"


@dataclass(frozen=True, slots=True)
class ProvenLogin:
    """A login that a token proves, and the terms of its session."""

    identity: ProvenIdentity
    terms: MappedIdentity

    @property
    def first_id(self) -> bytes:
        """The id of the login's first session: by its ``sid``, else by the time of the login."""
        identity = self.identity
        kind, value = ("sid", identity.sid) if identity.sid else ("at", str(identity.logged_in_at_ms))
        return digest_of(_LOGIN, "login", identity.provider.issuer, identity.subject, kind, value)

    @property
    def opened_id(self) -> bytes:
        """The id of the one session that an ID-JAG opens; empty for other tokens, which open any number."""
        identity = self.identity
        if identity.kind is not TokenKind.ID_JAG:
            return b""
        return digest_of(_LOGIN, "id-jag", identity.provider.issuer, identity.token_id)

    @property
    def ceiling(self) -> list[ScopeRecord]:
        """The ceiling of the login's session."""
        return [Scope.parse(scope).to_record() for scope in self.terms.ceiling]

    def labels(self, at_ms: int) -> dict[str, str]:
        """Return the labels of the login's session that is opened at ``at_ms``, in ms since 1970."""
        identity = self.identity
        known = {
            PROVIDER_LABEL: identity.provider.name,
            ISSUER_LABEL: identity.provider.issuer,
            SUBJECT_LABEL: identity.subject,
            # A provider's clock may be ahead, and a cut of now is of all that was opened.
            LOGIN_LABEL: utc_text(min(identity.logged_in_at_ms, at_ms)),
            SID_LABEL: identity.sid,
            ACTOR_LABEL: ", ".join(identity.actors),
        }
        return {**self.terms.labels, **{name: value for name, value in known.items() if value}}

    def opening(self, session_id: bytes, actor: str, at_ms: int) -> Change:
        """Return the change that opens the login's session at ``at_ms``, in ms since 1970."""
        terms = self.terms
        return open_session(
            f"{layout.SYSTEM_PREFIX}login/{session_id.hex()}",
            session_id,
            self.ceiling,
            actor=actor,
            facts=[Fact(name, value) for name, value in terms.facts.items()],
            labels=self.labels(at_ms),
            expires_at_ms=terms.ends_at_ms,
            subject=terms.subject,
            owner=LOGINS_OWNER,
            lease_ms=terms.lease_ms,
        )


@dataclass(slots=True, eq=False)
class Opening:
    """An opening by a token, which is counted: the provider whose token it seems to be, empty if none."""

    provider: str = ""


class LoginSessions:
    """Finds, opens, renews and ends the sessions of logins."""

    def __init__(self, writer: StateWriter, config: Config, clock: Clock) -> None:
        """Take the tokens of the providers in ``config``. Raises ConfigError if joserfc is missing."""
        if config.identity_providers and find_spec("joserfc") is None:
            raise ConfigError("identity_providers: needs joserfc; pip install 'sessauth[identity]'")
        self._writer = writer
        self.providers = config.identity_providers
        self._keys = KeySets(config.home, clock)
        self._used_proofs = UsedProofs(config.state_dir)
        self.streams = EventStreams(writer, config.identity_providers, clock)
        self._proven_only = [
            (each.name, _subjects_of(each)) for each in config.identity_providers if each.require_token
        ]
        self._lock = threading.Lock()
        self._openings: Counter[tuple[str, ...]] = Counter(
            {(each.name, OPENED): 0 for each in self.providers}
        )
        self._signals: Counter[tuple[str, ...]] = Counter(
            {(each.name, LOGOUT, APPLIED): 0 for each in self.providers}
        )

    @property
    def openings(self) -> Mapping[tuple[str, ...], int]:
        """Counts of openings by provider, empty where none is known, and by outcome: a word, or OPENED."""
        with self._lock:
            return dict(self._openings)

    @property
    def signals(self) -> Mapping[tuple[str, ...], int]:
        """Counts of providers' statements, by the provider they were sent for, event, and word or APPLIED."""
        with self._lock:
            return dict(self._signals)

    def count_signal(self, provider: str, event: str, outcome: str) -> None:
        """Count a statement; one for a provider that is not in the settings has an empty name."""
        known = any(each.name == provider for each in self.providers)
        with self._lock:
            self._signals[provider if known else "", event, outcome] += 1

    @contextmanager
    def counted(self, opening: Opening) -> Iterator[None]:
        """Count an opening by a token, by its outcome here; not if another server is to be asked."""
        try:
            yield
        except NotLeader:
            raise
        except SessauthError as error:
            self._count(opening.provider, word_of(error))
            raise
        self._count(opening.provider, OPENED)

    def _count(self, provider: str, outcome: str) -> None:
        with self._lock:
            self._openings[provider, outcome] += 1

    def prove(
        self, token: str, shown: Possession = NOTHING_SHOWN, opening: Opening | None = None
    ) -> ProvenLogin:
        """Return the login that a token proves now. ``opening`` gets the name of its provider.

        ``shown`` are the keys that the caller shows. A proof is used up by what follows: :meth:`place_below`
        or :meth:`renew`. Raises IdentityRefused, ServerError IDENTITY_KEYS_UNAVAILABLE, and NotLeader where
        another server opens sessions.
        """
        self._writer.require_leading()

        def keys_of(provider: IdentityProvider, kid: str) -> PublicKeys:
            if opening is not None:
                opening.provider = provider.name
            return self._keys.keys(provider, kid)

        now_ms = self._writer.now_ms()
        identity = verify(token, self.providers, keys_of, now_ms, shown.require)
        terms = map_identity(identity)
        if terms.ends_at_ms <= now_ms:
            raise _refused(
                IdentityFault.EXPIRED,
                f"the login is older than max_session_ms of {identity.provider.name}; log in again",
            )
        with self._writer.source().rows() as rows:
            self._require_counts(rows, identity)
        return ProvenLogin(identity, terms)

    def _require_counts(self, rows: Rows, identity: ProvenIdentity) -> None:
        """Raise IdentityRefused CUT for a login that was ended, ServerError while its provider is silent."""
        name = identity.provider.name
        self.streams.require_events(name)
        if identity.logged_in_at_ms <= (gap_ms := self.streams.cut_up_to_ms(name)):
            up_to, why = utc_text(gap_ms), gap_reason(identity.provider)
            raise _refused(IdentityFault.CUT, f"logins up to {up_to} are cut off ({why}); log in again")
        _require_not_cut(rows, identity)
        changed_ms = claims_changed_ms(rows, identity.provider.issuer, identity.subject, identity.sid)
        if identity.issued_at_ms <= changed_ms:
            raise _refused(
                IdentityFault.EXPIRED,
                f"iat: {name} changed claims of the user at {utc_text(changed_ms)}; refresh the token",
            )

    def logout(self, token: str, name: str) -> Signal:
        """Return what a logout token for the provider ``name`` says. Raises as :meth:`prove`."""
        self._writer.require_leading()
        return verify_logout(token, name, self.providers, self._keys.keys, self._writer.now_ms())

    def revocation(self, bearer: str, body: bytes, name: str) -> Signal:
        """Return what a global revocation says that was sent for ``name``. Raises as :meth:`prove`."""
        self._writer.require_leading()
        now_ms = self._writer.now_ms()
        return verify_revocation(bearer, body, name, self.providers, self._keys.keys, now_ms)

    def provider(self, name: str) -> IdentityProvider | None:
        """Return the provider of a name, None if the settings have none."""
        return next((each for each in self.providers if each.name == name), None)

    def keys_age_ms(self, name: str) -> int | None:
        """Return the time since a provider's keys were had; None if this process has needed none."""
        return self._keys.age_ms(name)

    def event(self, token: str, name: str) -> Signal:
        """Return what a security event token for ``name`` says. Raises as :meth:`prove`."""
        self._writer.require_leading()
        return verify_event(token, name, self.providers, self._keys.keys, self._writer.now_ms())

    def apply(self, signal: Signal, reason: str, actor: str, *, goes_on: bool = False) -> Future[AppliedPart]:
        """Apply a signal to the first sessions that it names; as ``apply_signal``."""
        if signal.effect is LoginEffect.RESUME and self.streams.refuses(signal.provider.name):
            # The stream resumes them once it comes through again.
            signal = replace(signal, effect=LoginEffect.NOTHING)
        work = partial(apply_signal, signal=signal, reason=reason, actor=actor, goes_on=goes_on)
        removes = signal.effect not in (LoginEffect.RESUME, LoginEffect.NARROW)
        return self._writer.decide(work, COMMIT_BYTES, only_removes_authority=removes)

    def require_token(self, subject: str, login: ProvenLogin | None) -> None:
        """Raise IdentityRefused for a subject that only a token can prove, and that ``login`` does not."""
        if login is not None and subject == login.terms.subject:
            return
        for name, subjects in self._proven_only:
            if not subjects.fullmatch(subject):
                continue
            if login is None:
                raise _refused(
                    IdentityFault.REQUIRED,
                    f"subject: a token of the identity provider {name} has to prove it; open with that",
                )
            raise _refused(
                IdentityFault.NOT_GRANTED, "subject: is that of another login than the token's; leave it out"
            )

    def session_of(self, login: ProvenLogin) -> Session | None:
        """Return the living session of a login; None before it is opened. Raises IdentityRefused."""
        return _find(login, self._writer.effective_session).session

    def place_below(self, login: ProvenLogin, group: Group, change: Change) -> Change:
        """Return the opening of a session as one below its login's session, which is opened if need be.

        Nothing is opened if the session itself could not be. Raises IdentityRefused, Rejected, and as
        ``Group.submit``.
        """
        is_first = group.first_outcome(change.id) is None
        if is_first:
            self._use_proof(login, group)
            self._require_counts(group.rows, login.identity)
        parent_id, parent, lapsed = _find(login, lambda session_id: current(group, session_id))
        if is_first:
            if login.opened_id and group.rows.session(login.opened_id) is not None:
                raise _refused(IdentityFault.REPLAYED, "jti: the token has opened a session before")
            _require_granted(login, parent, change)
            if parent is None:
                group.require_applicable(change)
                opening = login.opening(parent_id, change.actor, group.at_ms)
                group.require_applicable(opening)
                group.submit(opening)
                provider, labels = login.identity.provider, login.labels(group.at_ms)
                reason = suspension_of_login(group.rows, provider, labels, lapsed)
                if reason:
                    suspension = suspend_session(
                        once_change_id(), parent_id, reason, actor=layout.SYSTEM_ACTOR
                    )
                    group.submit(suspension)
                    raise _suspended(reason)
            elif parent.status is SessionStatus.SUSPENDED:
                raise _suspended(parent.reason)
            elif parent.lease_ms and _is_fresh(login, parent):
                # It writes nothing while more than half of the lease is left.
                group.keep_alive(parent_id)
        return replace(change, body={**change.body, "parent_id": parent_id})

    def renew(self, login: ProvenLogin, session_id: bytes) -> Future[int]:
        """Renew the lease of a login's session; the future gives its durable deadline in ms since 1970.

        ``session_id`` is its id, or that of a session below it. The future raises IdentityRefused for another
        login's token and for one that is older than the last renewal, and Rejected for a login without lease.
        """

        def work(group: Group) -> int:
            self._use_proof(login, group)
            self._require_counts(group.rows, login.identity)
            login_id, session, _ = _find(login, lambda each: current(group, each))
            if session is None:
                raise _refused(
                    IdentityFault.SESSION_ENDED,
                    "the login has no living session; open a session with the token",
                )
            named = lineage(group.rows.session(session_id), group.rows.session)
            if login_id not in [member.id for member in named]:
                raise _refused(
                    IdentityFault.NOT_GRANTED, "session_id: belongs to another login than the token's"
                )
            due = session.lease_ms and session.lease_deadline_ms - group.at_ms <= session.lease_ms // 2
            if due and not _is_fresh(login, session):
                raise _refused(
                    IdentityFault.EXPIRED, "iat: the token was issued before the last renewal; refresh it"
                )
            return group.keep_alive(login_id)

        return self._writer.decide(work, _RENEWAL_BYTES)

    def _use_proof(self, login: ProvenLogin, group: Group) -> None:
        """Use up the proof of a login's token, if there is one. Raises IdentityRefused."""
        if login.identity.proof is not None:
            self._used_proofs.use(login.identity.proof, group.at_ms)


def _require_not_cut(rows: Rows, identity: ProvenIdentity) -> None:
    """Raise IdentityRefused CUT for a token of a login that its provider, or an operator, has ended."""
    issuer, sid = identity.provider.issuer, identity.sid
    cut = cut_of_login(rows, issuer, identity.subject, sid, identity.logged_in_at_ms)
    if cut is None:
        return
    if cut.is_disabled:
        raise _refused(IdentityFault.CUT, f"the account is disabled ({cut.reason or cut.cut_by})")
    which = "the login was" if cut.sid else f"logins up to {utc_text(cut.up_to_ms)} were"
    raise _refused(IdentityFault.CUT, f"{which} cut off ({cut.reason or cut.cut_by}); log in again")


def _refused(fault: IdentityFault, detail: str) -> IdentityRefused:
    return IdentityRefused(fault, detail)


def _suspended(reason: str) -> Rejected:
    detail = f"identity_token: the login's session is suspended ({reason or 'no reason is stated'})"
    return Rejected(Rejection.PARENT_NOT_LIVE, detail)


class _Found(NamedTuple):
    """The id of a login's present session, the session if it was opened, and the last one that lapsed."""

    session_id: bytes
    session: Session | None
    lapsed: Session | None


def _find(login: ProvenLogin, read: Callable[[bytes], Session | None]) -> _Found:
    """Return the present session of a login.

    Raises IdentityRefused SESSION_ENDED for a login that was ended, and for a token that is not younger than
    the lapse of the login's last session.
    """
    session_id, lapsed = login.first_id, None
    for _ in range(MAX_LAPSES):
        session = read(session_id)
        if session is None or session.status is not SessionStatus.ENDED:
            return _Found(session_id, session, lapsed)
        if session.end_cause is not EndCause.LEASE_LAPSED:
            raise _refused(
                IdentityFault.SESSION_ENDED,
                "the login's session has ended, and no token of it counts; log in again",
            )
        if login.identity.issued_at_ms <= session.lease_deadline_ms:
            raise _refused(
                IdentityFault.SESSION_ENDED,
                "the login's lease lapsed after the token was issued; refresh the token",
            )
        session_id, lapsed = digest_of(_LOGIN, "after", session_id.hex()), session
    raise _refused(IdentityFault.SESSION_ENDED, f"the login's lease lapsed {MAX_LAPSES} times; log in again")


def _is_fresh(login: ProvenLogin, session: Session) -> bool:
    """Return True for a token that was issued after the last renewal of a lease."""
    return login.identity.issued_at_ms > session.lease_deadline_ms - session.lease_ms


def _require_granted(login: ProvenLogin, parent: Session | None, change: Change) -> None:
    """Raise Rejected WIDENS for a session that has more than its token gives now.

    A check holds it to the login's ceiling, which is that of the login's first token. If the token gives less
    than that, a ceiling has to be proven to lie inside.
    """
    given = login.ceiling
    asked = cast("Mapping[str, list[ScopeRecord]]", change.body["ceiling"])["scopes"]
    try:
        proven = is_contained(given, asked, same_session=False)
    except RuleViolation as violation:
        raise Rejected(violation.word, violation.detail) from None
    if proven or parent is None:
        return
    held = (contains(given, layer, same_facts=True, same_session=True) for layer in parent.ceilings)
    if not any(verdict > 0 for verdict, _ in held):
        raise Rejected(Rejection.WIDENS, "ceiling: is not proven to lie inside what the token gives now")


def _subjects_of(provider: IdentityProvider) -> re.Pattern[str]:
    """Return a pattern of all subjects that a provider's tokens can give, and of some that look alike."""
    templates = (".*".join(map(re.escape, PLACEHOLDER.split(each)[::2])) for each in provider.subjects)
    return re.compile("|".join(templates), re.DOTALL)
