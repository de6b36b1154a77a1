"""The addresses of a transmitter (SSF 1.0, section 7 and 8; RFC 8936), as an ASGI application.

GET /.well-known/ssf-configuration, GET /jwks.json   for anyone
POST, GET, PATCH, PUT, DELETE /stream                the receiver's streams
GET, POST /status; POST /verify                      whether a stream comes through
POST /subjects/add, /subjects/remove                 each stream is of all subjects
POST /poll/STREAM                                    events, and their acknowledgement
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final
from urllib.parse import parse_qsl

from ...errors import SessauthError, StateError
from ...guard.asgi import Gone, Receive, Scope, Send
from ...guard.services.presented import AUTHORIZATION, bearer
from ...guard.services.routes import header_values
from ...server.identity.key_sets import read_object
from ..http_server import FaultyRequest, read_body, respond
from .receivers import EventReceiver
from .stream import POLL, PUSH, EventStreamState
from .transmitter import EventTransmitter

METADATA: Final = "/.well-known/ssf-configuration"
KEYS: Final = "/jwks.json"
STREAM: Final = "/stream"
STATUS: Final = "/status"
VERIFY: Final = "/verify"
ADD: Final = "/subjects/add"
REMOVE: Final = "/subjects/remove"
POLL_BELOW: Final = "/poll/"
MAX_BODY_BYTES: Final = 64 * 1024
BODY_SECONDS: Final = 5.0
MAX_EVENTS: Final = 100
LONG_POLL_SECONDS: Final = 30.0
LOOK_SECONDS: Final = 0.05
RETRY_AFTER_S: Final = 5
_JSON: Final = "application/json"
_CODES: Final = {401: "authentication_failed", 403: "access_denied"}
_METHODS: Final = {
    METADATA: ("GET",),
    KEYS: ("GET",),
    STREAM: ("POST", "GET", "PATCH", "PUT", "DELETE"),
    STATUS: ("GET", "POST"),
    VERIFY: ("POST",),
    ADD: ("POST",),
    REMOVE: ("POST",),
}
_log: Final = logging.getLogger("sessauth.gateways.event_transmitter")


class TransmitterApp:
    """Answers the receivers of a transmitter."""

    def __init__(self, transmitter: EventTransmitter) -> None:
        self._transmitter = transmitter
        # The last question of each stream: one that comes later ends the wait of the one before.
        self._questions: dict[str, object] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        sent = {"cache-control": "no-store", "content-type": _JSON}
        try:
            status, answer = await self._answer(scope, header_values(scope["headers"]), receive)
        except Gone:
            return
        except FaultyRequest as error:
            status, sent = error.status, {**sent, **error.headers}
            answer = {"err": _CODES.get(status, "invalid_request"), "description": str(error)}
        except SessauthError as error:
            _log.error("a receiver could not be answered: %s", error)
            status, answer = 503, {"err": "unavailable", "description": "ask again later"}
            sent["retry-after"] = str(RETRY_AFTER_S)
        except Exception as error:  # noqa: BLE001 - a receiver asks again
            _log.error("a receiver could not be answered: %s", type(error).__name__)
            status, answer = 500, {"err": "internal", "description": "ask again later"}
        await respond(send, status, "" if answer is None else json.dumps(answer), sent)

    async def _answer(
        self, scope: Scope, headers: Mapping[str, Sequence[str]], receive: Receive
    ) -> tuple[int, Any]:
        """Return status and JSON of an answer. Raises FaultyRequest, Gone, SessauthError, OSError."""
        path, method = scope["path"], scope["method"]
        is_poll = path.startswith(POLL_BELOW)
        methods = ("POST",) if is_poll else _METHODS.get(path)
        if methods is None:
            raise FaultyRequest(404, "nothing is served here")
        if method not in methods:
            raise FaultyRequest(405, "another method is needed", allow=", ".join(methods))
        if path == METADATA:
            return 200, self._metadata()
        if path == KEYS:
            return 200, self._transmitter.keys.published
        receiver = self._transmitter.settings.receiver(bearer(headers.get(AUTHORIZATION, [])))
        if receiver is None:
            raise FaultyRequest(401, "a receiver's token is required", www_authenticate="Bearer")
        body: dict[str, Any] = {}
        if method in ("POST", "PATCH", "PUT"):
            data = await read_body(headers, receive, MAX_BODY_BYTES, BODY_SECONDS)
            try:
                body = read_object(data, MAX_BODY_BYTES) if data or path != STREAM else {}
            except StateError as error:
                raise FaultyRequest(400, f"body: {error}") from None
        if is_poll:
            return 200, await self._poll(receiver, path.removeprefix(POLL_BELOW), body)
        query = dict(parse_qsl(scope.get("query_string", b"").decode("ascii", "replace"), max_num_fields=8))
        stream_id = query.get("stream_id") if method in ("GET", "DELETE") else body.get("stream_id")
        return await asyncio.to_thread(self._manage, receiver, method, path, stream_id, body)

    def _manage(
        self, receiver: EventReceiver, method: str, path: str, stream_id: object, body: Mapping[str, Any]
    ) -> tuple[int, Any]:
        of = self._transmitter
        if path == STREAM and method == "POST":
            return 201, of.shown(of.create(receiver, body))
        if path == STREAM and method == "GET" and stream_id is None:
            return 200, [of.shown(each) for each in of.streams_of(receiver)]
        if path == STREAM and method in ("PATCH", "PUT"):
            return 200, of.shown(of.configure(receiver, stream_id, body, whole=method == "PUT"))
        if path == STREAM and method == "DELETE":
            of.delete(receiver, stream_id)
            return 204, None
        stream = of.stream(receiver, stream_id)
        if path == STREAM:
            return 200, of.shown(stream)
        if path == STATUS:
            if method == "POST":
                stream = of.set_status(receiver, stream_id, body.get("status"), body.get("reason"))
            terms = stream.terms
            reason = {"reason": terms.reason} if terms.reason else {}
            return 200, {"stream_id": terms.stream_id, "status": terms.status, **reason}
        if path == VERIFY:
            of.verify(receiver, stream_id, body.get("state"))
            return 204, None
        if not isinstance(body.get("subject"), dict):
            raise FaultyRequest(400, "subject: is required, an object")
        if path == REMOVE:
            raise FaultyRequest(403, "a stream is of all subjects: none can be removed")
        return 200, None

    async def _poll(self, receiver: EventReceiver, stream_id: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Take acknowledgements, and return events (RFC 8936, section 2)."""
        stream = self._transmitter.stream(receiver, stream_id)
        if stream.terms.method != POLL:
            raise FaultyRequest(400, "the events of this stream are pushed")
        most, at_once = body.get("maxEvents"), body.get("returnImmediately", False)
        acknowledged, refused = body.get("ack", []), body.get("setErrs", {})
        if most is not None and (type(most) is not int or most < 0):
            raise FaultyRequest(400, "maxEvents: must be a number from 0")
        if not isinstance(at_once, bool):
            raise FaultyRequest(400, "returnImmediately: must be true or false")
        if not isinstance(acknowledged, list) or not all(isinstance(each, str) for each in acknowledged):
            raise FaultyRequest(400, "ack: must be a list of texts")
        if not isinstance(refused, dict) or not all(isinstance(each, dict) for each in refused.values()):
            raise FaultyRequest(400, "setErrs: must be an object of objects")
        for jti, error in refused.items():
            _log.error(
                "the event %a was refused by %a: %a", jti[:64], receiver.name, str(error.get("err"))[:64]
            )
        if acknowledged or refused:
            await asyncio.to_thread(stream.settle, [*acknowledged, *refused])
        most = min(MAX_EVENTS if most is None else most, MAX_EVENTS)
        if most and not at_once:
            await self._wait(stream)
        events, more = stream.waiting(most)
        sets = await asyncio.to_thread(lambda: {each.jti: self._transmitter.sign(each) for each in events})
        return {"sets": sets, **({"moreAvailable": True} if more else {})}

    async def _wait(self, stream: EventStreamState) -> None:
        """Wait until an event waits, or the same receiver asks again."""
        name, question = stream.terms.stream_id, object()
        self._questions[name] = question
        until = asyncio.get_running_loop().time() + LONG_POLL_SECONDS
        while self._questions.get(name) is question and not stream.stop.is_set():
            if stream.waiting(1)[0] or asyncio.get_running_loop().time() >= until:
                break
            await asyncio.sleep(LOOK_SECONDS)
        if self._questions.get(name) is question:
            del self._questions[name]

    def _metadata(self) -> dict[str, Any]:
        issuer = self._transmitter.settings.issuer
        return {
            "spec_version": "1_0",
            "issuer": issuer,
            "jwks_uri": issuer + KEYS,
            "delivery_methods_supported": [PUSH, POLL],
            "configuration_endpoint": issuer + STREAM,
            "status_endpoint": issuer + STATUS,
            "add_subject_endpoint": issuer + ADD,
            "remove_subject_endpoint": issuer + REMOVE,
            "verification_endpoint": issuer + VERIFY,
            "critical_subject_members": ["session"],
            "authorization_schemes": [{"spec_urn": "urn:ietf:rfc:6750"}],
            "default_subjects": "ALL",
        }
