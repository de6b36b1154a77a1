"""A transmitter of security events on loopback, written from the specifications alone, that can also lie.

It speaks SSF 1.0, push (RFC 8935) and poll (RFC 8936).
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from typing import Any, Final
from urllib.error import HTTPError
from urllib.parse import parse_qs, urlsplit
from urllib.request import HTTPRedirectHandler, HTTPSHandler, ProxyHandler, Request, build_opener
from uuid import uuid4

from tests.support.identity_tokens import SERVICE, public_jwk
from tests.support.misbehaving_server import MisbehavingServer
from tests.support.security_event_tokens import EVENTS, Lie, Subject, opaque, security_event_token

PUSH: Final = "urn:ietf:rfc:8935"
POLL: Final = "urn:ietf:rfc:8936"
# Paths of the endpoints, which also name them in `misbehave`.
METADATA_PATH: Final = "/.well-known/ssf-configuration"
KEYS_PATH: Final = "/jwks.json"
STREAM_PATH: Final = "/stream"
STATUS_PATH: Final = "/status"
VERIFY_PATH: Final = "/verify"
POLL_PATH: Final = "/poll"

_TIMEOUT_S: Final = 10.0
_OF_STREAMS: Final = {EVENTS["verification"], EVENTS["stream-updated"]}


@dataclass(frozen=True)
class Push:
    """A try to push a SET, and the receiver's answer; status 0 is none."""

    jti: str
    status: int
    body: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Stream:
    """A stream: its configuration, its status and the SETs that are not yet acknowledged."""

    config: dict[str, Any] = field(repr=False)
    status: str = "enabled"
    reason: str = ""
    waiting: list[tuple[str, str]] = field(default_factory=list, repr=False)


class _Refusal(Exception):
    """An HTTP status that ends a request."""


class _NoRedirect(HTTPRedirectHandler):
    """Follows no redirect: the answer is recorded."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Return no further request."""


class SsfTransmitter(MisbehavingServer):
    """A transmitter that serves from its construction to `stop`; its attributes may change at any time."""

    def __init__(
        self,
        *,
        audience: str | list[str] = SERVICE,
        issuer: str = "",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Listen at a free port of 127.0.0.1; without an issuer its address is the issuer."""
        super().__init__(tls)
        self.issuer = issuer or self.address
        self.audience = audience
        self.bearer = "management-token"
        self.algorithm = "RS256"
        self.clock: Callable[[], float] = time.time
        # A poll that may wait does so this long, in seconds.
        self.long_poll_s = 5.0
        self.push_retries = 0
        self.push_pause_s = 0.05
        self.push_headers: dict[str, str] = {}
        self.push_tls: ssl.SSLContext | None = None
        self.metadata: dict[str, Any] = {}
        # A second stream of the receiver is refused with 409.
        self.allows_one_stream = False
        # Lies of whole streams.
        self.verifies = True
        self.ignores_acks = False
        self.ignores_max_events = False
        self.always_more = False
        # Records, in the order of their arrival.
        self.streams: dict[str, Stream] = {}
        self.acknowledged: list[str] = []
        self.set_errors: list[tuple[str, dict[str, str]]] = []
        self.pushes: list[Push] = []
        self._texts: dict[str, str] = {}
        self._of_streams: set[str] = set()
        self._held: list[tuple[Stream, str, str]] | None = None

    def add_stream(self, push_url: str = "", authorization: str = "") -> str:
        """Return the id of a new stream, which pushes to a URL or else is polled."""
        push = {"method": PUSH, "endpoint_url": push_url, "authorization_header": authorization}
        stream = self._create({"delivery": push if push_url else {"method": POLL}})
        return str(stream.config["stream_id"])

    def emit(
        self, event: str, subject: Subject | None, /, *, lie: Lie | None = None, jti: str = "", **claims: Any
    ) -> str:
        """Send an event on every stream that delivers it; returns its jti, after the pushes' last answers.

        The event is a short name of EVENTS, whose required claims it then has, or any URI. A jti that was
        sent before is the lie of two contents under one name.
        """
        return self._emit(list(self.streams.values()), event, subject, claims, lie, jti)

    def emit_raw(self, text: str, jti: str = "") -> str:
        """Send any text as a SET; returns the name under which polls list it."""
        return self._send(list(self.streams.values()), "", text, jti or uuid4().hex)

    def text(self, jti: str) -> str:
        """Return the SET of a name, as it was sent."""
        return self._texts[jti]

    def repeat(self, jti: str) -> None:
        """Send a SET again, as if its acknowledgement had been lost."""
        self._send(list(self.streams.values()), "", self._texts[jti], jti)

    @contextmanager
    def reverse_order(self) -> Iterator[None]:
        """Hold what is sent meanwhile, and send the last of it first."""
        with self.changed:
            self._held = []
        yield
        with self.changed:
            held, self._held = self._held or [], None
        for stream, jti, text in reversed(held):
            self._deliver(stream, jti, text)

    def set_status(self, stream_id: str, status: str, reason: str = "", announce: bool = True) -> None:
        """Change a stream's status, after a stream-updated event if that is announced."""
        stream = self.streams[stream_id]
        if announce:
            claims = {"status": status, **({"reason": reason} if reason else {})}
            self._emit([stream], "stream-updated", opaque(stream_id), claims)
        stream.status, stream.reason = status, reason
        if status == "enabled":
            self._push_waiting(stream)

    def verify(self, stream_id: str, state: str | None = None) -> str:
        """Send a verification event; returns its jti."""
        claims = {} if state is None else {"state": state}
        return self._emit([self.streams[stream_id]], "verification", opaque(stream_id), claims)

    def _emit(
        self,
        streams: list[Stream],
        event: str,
        subject: Subject | None,
        claims: Mapping[str, Any],
        lie: Lie | None = None,
        jti: str = "",
    ) -> str:
        jti = jti or uuid4().hex
        text = security_event_token(
            event,
            subject,
            claims,
            issuer=self.issuer,
            audience=self.audience,
            jti=jti,
            now=int(self.clock()),
            algorithm=self.algorithm,
            lie=lie,
        )
        return self._send(streams, EVENTS.get(event, event), text, jti)

    def _send(self, streams: list[Stream], uri: str, text: str, jti: str) -> str:
        self._texts[jti] = text
        for stream in streams:
            left_out = {*stream.config["events_supported"]} - {*stream.config["events_delivered"]}
            if uri in left_out or (stream.status == "disabled" and uri not in _OF_STREAMS):
                continue
            with self.changed:
                if uri in _OF_STREAMS:
                    self._of_streams.add(jti)
                if self._held is not None:
                    self._held.append((stream, jti, text))
                    continue
            self._deliver(stream, jti, text)
        return jti

    def _deliver(self, stream: Stream, jti: str, text: str) -> None:
        with self.changed:
            stream.waiting.append((jti, text))
            self.changed.notify_all()
        self._push_waiting(stream)

    def _push_waiting(self, stream: Stream) -> None:
        """Push the SETs of a stream in their order; one that fails to the last try is dropped."""
        delivery = stream.config["delivery"]
        while delivery["method"] == PUSH and stream.status == "enabled":
            with self.changed:
                if not stream.waiting:
                    return
                jti, text = stream.waiting.pop(0)
            for attempt in range(self.push_retries + 1):
                if attempt and self.stopped.wait(self.push_pause_s):
                    return
                answer = self._push(delivery, jti, text)
                with self.changed:
                    self.pushes.append(answer)
                    if answer.status == 202:
                        self.acknowledged.append(jti)
                    elif answer.status == 400:
                        with suppress(ValueError):
                            self.set_errors.append((jti, json.loads(answer.body)))
                    self.changed.notify_all()
                if answer.status and answer.status < 500 and answer.status != 429:
                    break

    def _push(self, delivery: Mapping[str, str], jti: str, text: str) -> Push:
        headers = {"Content-Type": "application/secevent+jwt", "Accept": "application/json"}
        if delivery.get("authorization_header"):
            headers["Authorization"] = delivery["authorization_header"]
        request = Request(delivery["endpoint_url"], text.encode(), {**headers, **self.push_headers})
        opener = build_opener(ProxyHandler({}), _NoRedirect(), HTTPSHandler(context=self.push_tls))
        try:
            with opener.open(request, timeout=_TIMEOUT_S) as answer:
                return Push(jti, answer.status, answer.read().decode(), dict(answer.headers))
        except HTTPError as error:
            with error:
                return Push(jti, error.code, error.read().decode(), dict(error.headers))
        except (OSError, HTTPException) as error:
            return Push(jti, 0, str(error))

    # The endpoints.

    def _create(self, body: Mapping[str, Any]) -> Stream:
        """Return a new stream of a receiver's request."""
        stream_id = uuid4().hex
        stream = Stream({"stream_id": stream_id, "iss": self.issuer, "aud": self.audience})
        self._configure(stream, body)
        self.streams[stream_id] = stream
        return stream

    def _configure(self, stream: Stream, body: Mapping[str, Any]) -> None:
        """Change a stream by the members that a receiver may state."""
        delivery = dict(body.get("delivery") or stream.config.get("delivery") or {"method": POLL})
        if delivery.get("method") not in (PUSH, POLL):
            raise _Refusal(400)
        if delivery["method"] == POLL:
            delivery["endpoint_url"] = f"{self.address}{POLL_PATH}/{stream.config['stream_id']}"
        supported = [uri for uri in EVENTS.values() if "/ssf/" not in uri]
        requested = body.get("events_requested", stream.config.get("events_requested", supported))
        stream.config |= {
            "delivery": delivery,
            "events_supported": supported,
            "events_requested": requested,
            "events_delivered": [uri for uri in supported if uri in requested],
            "min_verification_interval": 0,
            **({"description": body["description"]} if "description" in body else {}),
        }

    def _answer(self, method: str, path: str, query: Mapping[str, str], body: Any) -> tuple[int, Any]:
        """Return the status and JSON of a request that has the credential."""
        if method == "GET" and path == KEYS_PATH:
            return 200, {"keys": [public_jwk(name) for name in ("RS256", "ES256", "EdDSA")]}
        if method == "GET" and path.startswith(METADATA_PATH):
            return 200, self._metadata()
        if path.startswith(POLL_PATH + "/"):
            return 200, self._poll(self._stream(path.rpartition("/")[2]), body)
        if method == "POST" and path == STREAM_PATH:
            if self.allows_one_stream and self.streams:
                raise _Refusal(409)
            return 201, self._create(body).config
        if method == "GET" and path == STREAM_PATH and "stream_id" not in query:
            return 200, [stream.config for stream in self.streams.values()]
        stream_id = query.get("stream_id") or (body or {}).get("stream_id", "")
        stream = self._stream(stream_id)
        if path == STREAM_PATH and method in ("GET", "PATCH", "PUT"):
            if method == "PUT":
                # It states all that a receiver may state; PATCH leaves the rest as it is.
                for name in ("events_requested", "description"):
                    stream.config.pop(name, None)
            if method != "GET":
                self._configure(stream, body)
            return 200, stream.config
        if path == STREAM_PATH and method == "DELETE":
            del self.streams[stream_id]
            return 204, None
        if path == STATUS_PATH and method in ("GET", "POST"):
            if method == "POST":
                stream.status, stream.reason = body["status"], body.get("reason", "")
                self.start_thread(self._push_waiting, stream)
            reason = {"reason": stream.reason} if stream.reason else {}
            return 200, {"stream_id": stream_id, "status": stream.status, **reason}
        if path == VERIFY_PATH and method == "POST":
            if self.verifies:
                # The event is sent after the answer, as real ones do.
                self.start_thread(self.verify, stream_id, body.get("state"))
            return 204, None
        raise _Refusal(405)

    def respond(self, method: str, target: str, body: Any, authorization: str) -> tuple[int, Any]:
        """Return the honest status and JSON of a request; only metadata and keys need no credential."""
        split = urlsplit(target)
        open_to_all = split.path == KEYS_PATH or split.path.startswith(METADATA_PATH)
        if not open_to_all and authorization != f"Bearer {self.bearer}":
            return 401, None
        try:
            query = {name: values[0] for name, values in parse_qs(split.query).items()}
            return self._answer(method, split.path, query, body)
        except _Refusal as refusal:
            return int(refusal.args[0]), None
        except (AttributeError, KeyError, TypeError, ValueError):
            return 400, None

    def _stream(self, stream_id: str) -> Stream:
        if stream_id not in self.streams:
            raise _Refusal(404)
        return self.streams[stream_id]

    def _metadata(self) -> dict[str, Any]:
        return {
            "spec_version": "1_0",
            "issuer": self.issuer,
            "jwks_uri": self.address + KEYS_PATH,
            "delivery_methods_supported": [PUSH, POLL],
            "configuration_endpoint": self.address + STREAM_PATH,
            "status_endpoint": self.address + STATUS_PATH,
            "verification_endpoint": self.address + VERIFY_PATH,
            "critical_subject_members": ["user", "session"],
            "authorization_schemes": [{"spec_urn": "urn:ietf:rfc:6750"}],
            "default_subjects": "ALL",
            **self.metadata,
        }

    def _poll(self, stream: Stream, body: Mapping[str, Any]) -> dict[str, Any]:
        errors, maximum = body.get("setErrs", {}), body.get("maxEvents")
        with self.changed:
            self.acknowledged += body.get("ack", [])
            self.set_errors += errors.items()
            for jti in [] if self.ignores_acks else [*body.get("ack", []), *errors]:
                first = next((each for each in stream.waiting if each[0] == jti), None)
                if first is not None:
                    stream.waiting.remove(first)
            self.changed.notify_all()
            if not body.get("returnImmediately", False) and maximum != 0 and not self.always_more:
                self.wait_for(
                    lambda _: self.stopped.is_set() or bool(self._offered(stream)), self.long_poll_s
                )
            sets: dict[str, str] = {}
            offered = self._offered(stream)
            for jti, text in offered:
                if self.ignores_max_events or maximum is None or len(sets) < maximum:
                    # Of two under one name the second comes after the first is acknowledged.
                    sets.setdefault(jti, text)
            more = self.always_more or len(sets) < len(offered)
        return {"sets": sets, **({"moreAvailable": True} if more else {})}

    def _offered(self, stream: Stream) -> list[tuple[str, str]]:
        """Return the SETs that a poll may list: of a stream that is not enabled those about itself."""
        enabled = stream.status == "enabled"
        return [each for each in stream.waiting if enabled or each[0] in self._of_streams]


@contextmanager
def ssf_transmitter(**options: Any) -> Iterator[SsfTransmitter]:
    """Run a transmitter."""
    transmitter = SsfTransmitter(**options)
    try:
        yield transmitter
    finally:
        transmitter.stop()
