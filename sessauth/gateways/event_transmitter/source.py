"""The reader of a stream: it follows the events of sessions, and makes of each what its receiver is told."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from typing import Any, Final

from ...client import Client, EventKind, SessionEvent
from ...clock import Clock
from ...errors import NotFound, Rejected, SessauthError, UsageError
from ...model.session import ISSUER_LABEL, LOGINS_OWNER, SUBJECT_LABEL, EndCause, Session, SessionStatus
from .receivers import EventReceiver
from .stream import SESSION_REVOKED, STREAM_UPDATED, VERIFICATION, EventStreamState, StreamPlace

_KINDS: Final = (EventKind.SUSPENDED, EventKind.ENDED, EventKind.LAPSED)
_PAGE: Final = 500
MAX_REASON: Final = 200
PAUSE_SECONDS: Final = 1.0
LOST: Final = (
    "events were lost; sessions that are over follow, and sessions that the server does not know are"
)
_log: Final = logging.getLogger("sessauth.gateways.event_transmitter")


class StreamSource(threading.Thread):
    """Reads the events of one stream until the stream ends."""

    def __init__(
        self,
        stream: EventStreamState,
        receiver: EventReceiver,
        issuer: str,
        client: Client,
        clock: Clock,
    ) -> None:
        super().__init__(name=f"sessauth-events-{stream.terms.stream_id[:8]}", daemon=True)
        self._stream, self._receiver, self._issuer = stream, receiver, issuer
        self._client, self._clock = client, clock
        # Reading goes on from here; the place of the stream is earlier.
        self._read = stream.place

    def run(self) -> None:
        """Read until the stream ends; a server that is away is tried again."""
        failed = False
        while not self._stream.stop.is_set():
            try:
                self._follow()
                failed = False
            except Exception as error:  # noqa: BLE001 - the log has what was not read
                if not failed:
                    name = self._receiver.name
                    text = str(error) if isinstance(error, SessauthError) else type(error).__name__
                    _log.warning("events for %a can't be read: %s", name, text)
                failed = True
                self._stream.stop.wait(PAUSE_SECONDS)

    def _follow(self) -> None:
        """Read events while a server answers. Raises SessauthError, OSError."""
        try:
            with self._client.watch_sessions(
                kinds=_KINDS,
                after_revision=self._read.revision,
                incarnation=self._read.incarnation,
                heartbeats=True,
            ) as watch:
                self._stream.closes(watch.close)
                for event in watch:
                    if event.kind is EventKind.RESTORED:
                        return self._begin_again()
                    self._take(event, watch.incarnation)
                    if self._stream.stop.is_set():
                        return None
        except (Rejected, UsageError) as error:
            # Compacted, restored, or a revision that is not of this state.
            if isinstance(error, UsageError) and not str(error).startswith("after_revision"):
                raise
            self._begin_again()

    def _take(self, event: SessionEvent, incarnation: bytes) -> None:
        """Add what an event is to its receiver. Raises SessauthError, OSError."""
        place = StreamPlace(event.revision, event.incarnation or incarnation)
        if event.kind is EventKind.SYNCED:
            before = self._stream.place
            if self._stream.reach(place) and place != before:
                self._stream.save()
            self._read = place
            return
        # The end of a session that is found over with its parent was told with the parent's.
        is_news = event.cause is not EndCause.PARENT_ENDED
        if event.kind is EventKind.SUSPENDED:
            is_news = self._receiver.suspensions
        if is_news and self._stream.terms.is_wanted:
            words = ("suspended: " if event.kind is EventKind.SUSPENDED else "") + event.reason
            session = self._session(event.session_id)
            self._announce(event.session_id, session, event.subject, place, event.at_ms, words, event.cause)
            if self._receiver.descendants and not self._receiver.logins_only:
                for each in self._below(event.session_id):
                    self._announce(
                        each.id, each, each.subject, place, event.at_ms, words, EndCause.PARENT_ENDED
                    )
        self._read = place
        self._stream.reach(place)

    def _begin_again(self) -> None:
        """Tell of every session that is over, and go on from now. Raises SessauthError, OSError.

        The place moves once all of it is acknowledged; else it is all told again.
        """
        _log.warning("events for %a were lost: what is over is told again", self._receiver.name)
        with self._client.watch_sessions() as watch:
            place = StreamPlace(watch.revision, watch.incarnation)
        stream, now_ms = self._stream, self._clock.now_ms()
        subject = _opaque(stream.terms.stream_id)
        claims = self._claims(STREAM_UPDATED, subject, {"status": stream.terms.status, "reason": LOST})
        stream.add(stream.jti(place.revision, b"", place.incarnation), claims)
        if stream.terms.is_wanted:
            for session in self._over():
                is_own = not session.inherited_from and session.end_cause is not EndCause.PARENT_ENDED
                if is_own or self._receiver.descendants:
                    at = StreamPlace(session.revision, place.incarnation)
                    self._announce(
                        session.id, session, session.subject, at, session.ended_at_ms or now_ms,
                        session.reason, session.end_cause,
                    )  # fmt: skip
        self._read = place
        stream.reach(place)

    def _over(self) -> Iterator[Session]:
        statuses = [SessionStatus.ENDED, *([SessionStatus.SUSPENDED] if self._receiver.suspensions else [])]
        for status in statuses:
            yield from self._pages(status=status.name)

    def _pages(self, **filters: Any) -> Iterator[Session]:
        token = ""
        while not self._stream.stop.is_set():
            page = self._client.list_sessions(page_size=_PAGE, page_token=token, **filters)
            yield from page.sessions
            token = page.next_page_token
            if not token:
                return

    def _below(self, session_id: bytes) -> Iterator[Session]:
        """Return the sessions that a session's end, or suspension, is of too."""
        for child in self._pages(parent_id=session_id):
            if child.inherited_from or child.end_cause is EndCause.PARENT_ENDED:
                yield child
                yield from self._below(child.id)

    def _session(self, session_id: bytes) -> Session | None:
        try:
            return self._client.get_session(session_id)
        except NotFound:
            return None

    def _announce(
        self,
        session_id: bytes,
        session: Session | None,
        subject: str,
        place: StreamPlace,
        at_ms: int,
        reason: str,
        cause: EndCause,
    ) -> None:
        """Add the event that a session was revoked."""
        login = session
        while login is not None and login.owner != LOGINS_OWNER and login.parent_id:
            login = self._session(login.parent_id)
        if login is not None and login.owner != LOGINS_OWNER:
            login = None
        if self._receiver.logins_only and (login is None or login.id != session_id):
            return
        named: dict[str, Any] = {"format": "complex", "session": _opaque(session_id.hex())}
        if login is not None:
            user = login.labels.get(ISSUER_LABEL, ""), login.labels.get(SUBJECT_LABEL, "")
        else:
            user = self._issuer, subject
        if all(user):
            named["user"] = {"format": "iss_sub", "iss": user[0], "sub": user[1]}
        content: dict[str, Any] = {
            "event_timestamp": at_ms // 1000,
            "initiating_entity": "admin" if cause in (EndCause.ASKED, EndCause.UNSPECIFIED) else "policy",
        }
        if reason:
            content["reason_admin"] = {"en": reason[:MAX_REASON]}
        jti = self._stream.jti(place.revision, session_id, place.incarnation)
        self._stream.add(jti, self._claims(SESSION_REVOKED, named, content))

    def _claims(self, event: str, subject: Mapping[str, Any], content: Mapping[str, Any]) -> dict[str, Any]:
        return claims_of(event, subject, content, self._issuer, self._receiver, self._clock)


def claims_of(
    event: str,
    subject: Mapping[str, Any],
    content: Mapping[str, Any],
    issuer: str,
    receiver: EventReceiver,
    clock: Clock,
) -> dict[str, Any]:
    """Return the claims of an event but for its id."""
    return {
        "iss": issuer,
        "aud": receiver.audience,
        "iat": clock.now_ms() // 1000,
        "sub_id": dict(subject),
        "events": {event: dict(content)},
    }


def verification_of(
    stream: EventStreamState, state: str, issuer: str, receiver: EventReceiver, clock: Clock
) -> dict[str, Any]:
    """Return the claims of a verification event (SSF 1.0, section 8.1.4)."""
    content = {"state": state} if state else {}
    subject = _opaque(stream.terms.stream_id)
    return claims_of(VERIFICATION, subject, content, issuer, receiver, clock)


def _opaque(identifier: str) -> dict[str, str]:
    return {"format": "opaque", "id": identifier}
