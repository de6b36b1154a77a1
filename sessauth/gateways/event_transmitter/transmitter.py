"""The streams of a transmitter: made, changed and deleted by their receivers, and stored in a folder."""

from __future__ import annotations

import fcntl
import logging
import os
import re
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from ...client import Client
from ...clock import Clock
from ...errors import ConfigError, StateError
from ...state.host.folder import make_folder
from ..http_server import FaultyRequest
from .push import EventPusher
from .receivers import EventReceiver, TransmitterSettings
from .signing import SigningKeys
from .source import StreamSource, verification_of
from .stream import (
    POLL,
    PUSH,
    SESSION_REVOKED,
    STATUSES,
    EventStreamState,
    StreamPlace,
    StreamTerms,
    WaitingEvent,
)

MIN_VERIFICATION_SECONDS: Final = 10
MAX_TEXT: Final = 1_024
MAX_EVENT_TYPES: Final = 32
MAX_EVENT_TYPE: Final = 256
_HEADER: Final = re.compile(r"[\x20-\x7e]{1,4096}", re.ASCII)
_log: Final = logging.getLogger("sessauth.gateways.event_transmitter")


class EventTransmitter:
    """All streams of one program. Any thread may use it."""

    def __init__(self, settings: TransmitterSettings, folder: Path, client: Client, clock: Clock) -> None:
        """Read the keys and streams of ``folder``, which is made if it is missing.

        Raises ConfigError if it can't be used, or another program uses it.
        """
        self.settings, self._folder = settings, folder / "streams"
        self._client, self._clock = client, clock
        self._lock = threading.Lock()
        try:
            make_folder(folder, 0o700)
            make_folder(self._folder, 0o700)
            self._in_use = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._in_use, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigError(f"dir: another program uses {folder}") from None
        except OSError as error:
            raise ConfigError(f"dir: {folder}: {error.strerror}") from None
        self.keys = SigningKeys(folder / "keys")
        self._streams: dict[str, EventStreamState] = {}
        for file in sorted(self._folder.glob("*.json")):
            try:
                stream = EventStreamState.load(file)
            except (OSError, StateError) as error:
                raise ConfigError(f"dir: {file} can't be read: {error}") from None
            self._streams[stream.terms.stream_id] = stream

    def start(self) -> None:
        """Start the threads of all streams."""
        with self._lock:
            for stream in self._streams.values():
                self._run(stream)

    def close(self) -> None:
        """End the threads, and let another program use the folder."""
        with self._lock:
            for stream in self._streams.values():
                stream.end()
        os.close(self._in_use)

    def streams_of(self, receiver: EventReceiver) -> list[EventStreamState]:
        """Return the streams of a receiver."""
        with self._lock:
            return [each for each in self._streams.values() if each.terms.receiver == receiver.name]

    def stream(self, receiver: EventReceiver, stream_id: object) -> EventStreamState:
        """Return a stream of a receiver. Raises FaultyRequest 404 for another's as for none."""
        found = next((each for each in self.streams_of(receiver) if each.terms.stream_id == stream_id), None)
        if found is None:
            raise FaultyRequest(404, "stream_id: there is no such stream")
        return found

    def create(self, receiver: EventReceiver, body: Mapping[str, Any]) -> EventStreamState:
        """Return a new stream of what happens from now on.

        Raises FaultyRequest, OSError, and SessauthError if the server does not answer.
        """
        terms = _configured(StreamTerms(secrets.token_hex(16), receiver.name), receiver, body)
        place = self._now()
        with self._lock:
            of_receiver = [each for each in self._streams.values() if each.terms.receiver == receiver.name]
            if len(of_receiver) >= receiver.max_streams:
                raise FaultyRequest(409, f"this receiver may have {receiver.max_streams} streams")
            return self._put(terms, place)

    def configure(
        self, receiver: EventReceiver, stream_id: object, body: Mapping[str, Any], *, whole: bool
    ) -> EventStreamState:
        """Change the settings of a stream; ``whole`` resets those that the body leaves out."""
        before = self.stream(receiver, stream_id)
        for name, value in self.shown(before).items():
            may_state = name in ("delivery", "events_requested", "description")
            if not may_state and name in body and body[name] != value:
                raise FaultyRequest(400, f"{name}: is the transmitter's to state")
        old = before.terms
        kept = StreamTerms(old.stream_id, old.receiver, status=old.status, reason=old.reason)
        terms = _configured(kept if whole else old, receiver, body)
        return self._replace(before, terms, None)

    def set_status(
        self, receiver: EventReceiver, stream_id: object, status: object, reason: object
    ) -> EventStreamState:
        """Enable, pause or disable a stream. One that was disabled begins anew, from now on."""
        if status not in STATUSES:
            raise FaultyRequest(400, f"status: must be one of {', '.join(STATUSES)}")
        before = self.stream(receiver, stream_id)
        was_disabled = before.terms.status == "disabled"
        place = self._now() if was_disabled and status != "disabled" else None
        terms = replace(before.terms, status=str(status), reason=_text("reason", reason))
        return self._replace(before, terms, place)

    def delete(self, receiver: EventReceiver, stream_id: object) -> None:
        """Delete a stream."""
        stream = self.stream(receiver, stream_id)
        with self._lock:
            if self._streams.pop(stream.terms.stream_id, None) is not None:
                stream.delete()

    def verify(self, receiver: EventReceiver, stream_id: object, state: object) -> None:
        """Have a stream say that it comes through. Raises FaultyRequest 429 for questions too often."""
        stream = self.stream(receiver, stream_id)
        text = _text("state", state)
        now = time.monotonic()
        with stream.changed:
            wait_s = stream.verified_at + MIN_VERIFICATION_SECONDS - now
            if wait_s > 0:
                raise FaultyRequest(429, "a verification was asked for", retry_after=str(int(wait_s) + 1))
            stream.verified_at = now
        claims = verification_of(stream, text, self.settings.issuer, receiver, self._clock)
        stream.verify(secrets.token_hex(20), claims)

    def sign(self, event: WaitingEvent) -> str:
        """Return the signed token of an event."""
        if not event.token:
            event.token = self.keys.sign({**event.claims, "jti": event.jti})
        return event.token

    def shown(self, stream: EventStreamState) -> dict[str, Any]:
        """Return the settings of a stream as its receiver is shown them."""
        terms = stream.terms
        receiver = next(each for each in self.settings.receivers if each.name == terms.receiver)
        is_push = terms.method == PUSH
        address = terms.endpoint if is_push else f"{self.settings.issuer}/poll/{terms.stream_id}"
        shown: dict[str, Any] = {
            "stream_id": terms.stream_id,
            "iss": self.settings.issuer,
            "aud": receiver.audience,
            "delivery": {"method": terms.method, "endpoint_url": address},
            "events_supported": [SESSION_REVOKED],
            "events_delivered": [SESSION_REVOKED] if terms.is_wanted else [],
            "min_verification_interval": MIN_VERIFICATION_SECONDS,
        }
        if terms.events_requested is not None:
            shown["events_requested"] = terms.events_requested
        if terms.description:
            shown["description"] = terms.description
        return shown

    def _now(self) -> StreamPlace:
        with self._client.watch_sessions() as watch:
            return StreamPlace(watch.revision, watch.incarnation)

    def _replace(
        self, before: EventStreamState, terms: StreamTerms, place: StreamPlace | None
    ) -> EventStreamState:
        """Go on with other settings: what was not acknowledged is read again."""
        with self._lock:
            if self._streams.get(terms.stream_id) is not before:
                raise FaultyRequest(409, "the stream was changed meanwhile; ask again")
            before.end()
            after = self._put(terms, before.place if place is None else place)
            after.verified_at = before.verified_at
            return after

    def _put(self, terms: StreamTerms, place: StreamPlace) -> EventStreamState:
        stream = EventStreamState(self._folder / f"{terms.stream_id}.json", terms, place)
        stream.save()
        self._streams[terms.stream_id] = stream
        self._run(stream)
        return stream

    def _run(self, stream: EventStreamState) -> None:
        """Start the threads of a stream."""
        terms = stream.terms
        receiver = next((each for each in self.settings.receivers if each.name == terms.receiver), None)
        if receiver is None:
            _log.warning("the stream %s is of no receiver of the file: it waits", terms.stream_id)
        elif terms.status != "disabled":
            StreamSource(stream, receiver, self.settings.issuer, self._client, self._clock).start()
            if terms.method == PUSH:
                EventPusher(stream, receiver, self.sign).start()


def _configured(terms: StreamTerms, receiver: EventReceiver, body: Mapping[str, Any]) -> StreamTerms:
    """Return the settings with those that a receiver states. Raises FaultyRequest."""
    if "description" in body:
        terms = replace(terms, description=_text("description", body["description"]))
    if "events_requested" in body:
        listed = body["events_requested"]
        if not isinstance(listed, list) or len(listed) > MAX_EVENT_TYPES:
            raise FaultyRequest(400, f"events_requested: must be a list of at most {MAX_EVENT_TYPES} texts")
        requested = [_text("events_requested", each, MAX_EVENT_TYPE) for each in listed]
        terms = replace(terms, events_requested=requested)
    if "delivery" not in body:
        return terms
    delivery = body["delivery"]
    method = delivery.get("method") if isinstance(delivery, dict) else None
    if method == POLL:
        return replace(terms, method=POLL, endpoint="", authorization="")
    if method != PUSH:
        raise FaultyRequest(400, f"delivery.method: must be {POLL} or {PUSH}")
    address = delivery.get("endpoint_url")
    if address not in receiver.push:
        raise FaultyRequest(400, "delivery.endpoint_url: is none of the addresses of this receiver")
    header = delivery.get("authorization_header", "")
    if header != "" and not (isinstance(header, str) and _HEADER.fullmatch(header)):
        raise FaultyRequest(
            400, "delivery.authorization_header: must be printable ASCII, of 4,096 bytes at most"
        )
    return replace(terms, method=PUSH, endpoint=address, authorization=header)


def _text(name: str, value: object, most: int = MAX_TEXT) -> str:
    """Return a text; empty for None. Raises FaultyRequest."""
    if value is None:
        return ""
    if not isinstance(value, str) or len(value) > most or not value.isprintable():
        raise FaultyRequest(400, f"{name}: must be a printable text of at most {most} characters")
    return value
