"""Carries statements of identity providers to the server, which verifies them.

    POST /logout/NAME   OpenID Connect Back-Channel Logout 1.0: the form parameter logout_token
    POST /revoke/NAME   draft-parecki-oauth-global-token-revocation: a bearer JWT, and JSON with sub_id
    POST /events/NAME   RFC 8935: a security event token that the provider pushes

A provider that holds security events ready (RFC 8936) is asked for them each second, and each is acknowledged
once it is durable. NAME is that of the provider in the server's settings.

The answer is 200, 202 or 204 once the change is durable on the server. This program reads no claim and has no
key: it can keep a statement back and nothing else. So any client may send: a statement that no provider
signed is refused by the server.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Final
from urllib.error import HTTPError
from urllib.parse import parse_qsl, urlsplit
from urllib.request import Request

from ..client import AsyncClient, Client
from ..errors import IdentityRefused, Rejected, SessauthError, StateFull, UsageError
from ..guard.asgi import Gone, Receive, Scope, Send
from ..guard.services.presented import AUTHORIZATION, bearer
from ..guard.services.routes import header_values
from ..server.identity.key_sets import cause_of, same_host_opener
from ..server.sections import is_loopback
from .http_server import FaultyRequest, read_body, respond
from .json_parts import members, strict_object, string

LOGOUT: Final = "/logout/"
REVOKE: Final = "/revoke/"
EVENTS: Final = "/events/"
MAX_BODY_BYTES: Final = 64 * 1024
BODY_SECONDS: Final = 2.0
# Statements that are under way at once; a provider sends a further one again.
MAX_IN_FLIGHT: Final = 64
RETRY_AFTER_S: Final = 5
_FORM: Final = "application/x-www-form-urlencoded"
_JSON: Final = "application/json"
_EVENT: Final = "application/secevent+jwt"
# The faults of a bearer that does not count; the others are of the request.
_UNAUTHENTICATED: Final = ("IDENTITY_UNTRUSTED", "IDENTITY_EXPIRED")
_log: Final = logging.getLogger("sessauth.gateways.security_events")


class SecurityEventsApp:
    """Answers the requests of identity providers, as an ASGI application."""

    def __init__(self, make_client: Callable[[], AsyncClient]) -> None:
        """Hand statements on by a client that ``make_client`` returns, at the first request."""
        self._make_client = make_client
        self._client: AsyncClient | None = None
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        sent = {"cache-control": "no-store", "content-type": _JSON}
        text = ""
        try:
            status = await self._answer(scope, header_values(scope["headers"]), receive)
        except Gone:
            return
        except FaultyRequest as error:
            status, sent = error.status, {**sent, **error.headers}
            text = json.dumps(error_members(error))
        except Exception as error:  # noqa: BLE001 - the provider is told to send it again
            _log.error("a statement could not be handed on: %s", type(error).__name__)
            status, sent = 503, {**sent, "retry-after": str(RETRY_AFTER_S)}
        await respond(send, status, text, sent)

    async def _answer(self, scope: Scope, headers: Mapping[str, Sequence[str]], receive: Receive) -> int:
        """Return the status of a statement that took effect. Raises FaultyRequest, or Gone."""
        path, method = scope["path"], scope["method"]
        kind = next((each for each in (LOGOUT, REVOKE, EVENTS) if path.startswith(each)), "")
        name = path.removeprefix(kind)
        if not kind or not name or "/" in name:
            raise FaultyRequest(404, "nothing is served here")
        if method != "POST":
            raise FaultyRequest(405, "a statement is sent with POST", allow="POST")
        if scope.get("query_string"):
            # Queries are in the logs of proxies.
            raise FaultyRequest(400, "a statement has no query")
        body = await read_body(headers, receive, MAX_BODY_BYTES, BODY_SECONDS)
        # Bodies that come slowly hold no place.
        if self._in_flight >= MAX_IN_FLIGHT:
            raise FaultyRequest(503, "too many at once; send it again", retry_after=str(RETRY_AFTER_S))
        self._in_flight += 1
        try:
            return await self._hand_on(kind, name, headers, body)
        finally:
            self._in_flight -= 1

    async def _hand_on(self, kind: str, name: str, headers: Mapping[str, Sequence[str]], body: bytes) -> int:
        if self._client is None:
            self._client = self._make_client()
        credential = bearer(headers.get(AUTHORIZATION, []))
        try:
            if kind == EVENTS:
                _require_type(headers, _EVENT)
                await self._client.report_security_event(name, body.decode("ascii", "replace"))
                return 202
            if kind == LOGOUT:
                await self._client.report_logout(name, _logout_token(headers, body))
                return 200
            if not credential:
                raise FaultyRequest(401, "the provider's JWT is required", www_authenticate="Bearer")
            _require_type(headers, _JSON)
            await self._client.report_revocation(name, credential, body)
        except IdentityRefused as error:
            unauthenticated = kind == REVOKE and error.fault in _UNAUTHENTICATED
            _log.warning("refused a statement for %a: %s", name[:64], error.fault)
            raise FaultyRequest(401 if unauthenticated else 400, str(error)) from error
        except SessauthError as error:
            _log.error("a statement for %a could not be handed on: %s", name[:64], error)
            raise FaultyRequest(
                503, "the server can't take it now; send it again", retry_after=str(RETRY_AFTER_S)
            ) from None
        return 204


def _require_type(headers: Mapping[str, Sequence[str]], wanted: str) -> None:
    stated = headers.get("content-type", ())
    if len(stated) != 1 or stated[0].partition(";")[0].strip().lower() != wanted:
        raise FaultyRequest(400, f"the content type must be {wanted}")


def _logout_token(headers: Mapping[str, Sequence[str]], body: bytes) -> str:
    """Return the one logout token of a form. Raises FaultyRequest."""
    _require_type(headers, _FORM)
    try:
        pairs = parse_qsl(body.decode("ascii"), strict_parsing=True, max_num_fields=16)
    except ValueError:
        raise FaultyRequest(400, "the body is no form") from None
    tokens = [value for name, value in pairs if name == "logout_token"]
    if len(tokens) != 1:
        raise FaultyRequest(400, "logout_token: exactly one is required")
    return tokens[0]


def error_members(error: Exception) -> dict[str, str]:
    """Return the members of an answer that refuses a statement: of OAuth, and of RFC 8935 (section 2.4)."""
    refused = error.__cause__ if isinstance(error.__cause__, IdentityRefused) else error
    text, code = str(refused), "invalid_request"
    if isinstance(refused, IdentityRefused):
        if refused.fault == "IDENTITY_UNTRUSTED":
            code = "invalid_key"
        elif text.startswith("IDENTITY_WRONG_KIND: aud"):
            code = "invalid_audience"
    return {"error": "invalid_request", "error_description": text, "err": code, "description": text}


POLL_SECONDS: Final = 1.0
VERIFY_SECONDS: Final = 60.0
UNTRUSTED_SECONDS: Final = 60.0
MAX_WAIT_SECONDS: Final = 60.0
# A provider that asks for a day is asked again nevertheless: who is revoked has to be known.
MAX_RETRY_AFTER_SECONDS: Final = 300.0
ANSWER_SECONDS: Final = 20.0
MAX_EVENTS: Final = 100
MAX_ANSWER_BYTES: Final = 4 << 20


class EventPoller:
    """Asks a provider for its security events (RFC 8936), and hands them on.

    With a ``verification`` it also asks for a verification event each minute (SSF 1.0, section 7.1.4.2), with
    a state that the server gives: by that the server knows that the stream still comes through.
    """

    def __init__(
        self,
        name: str,
        address: str,
        token_file: Path,
        client: Client,
        *,
        verification: tuple[str, str] | None = None,
        ca_file: str = "",
    ) -> None:
        """Ask at ``address``, with the bearer token that ``token_file`` has at that time.

        ``verification`` is the address of the verification endpoint, and the id of the stream. With it and an
        empty ``address`` a provider that pushes is asked for verification alone. Raises UsageError for an
        address that is neither https nor of the loopback.
        """
        polled = [address] if address or verification is None else []
        for each in (*polled, *(verification or ())[:1]):
            parts = urlsplit(each)
            host = parts.hostname or ""
            if not host or (parts.scheme != "https" and (parts.scheme != "http" or not is_loopback(host))):
                raise UsageError("poll: the address must be https; http is for the loopback")
        self._name, self._address, self._token_file = name, address, token_file
        self._client, self._verification = client, verification
        self._opener = same_host_opener(ca_file)
        self._acknowledged: list[str] = []
        self._refused: dict[str, dict[str, str]] = {}
        # Events that no known key signed, since when: the provider's next key may not be known yet.
        self._untrusted: dict[str, float] = {}
        # Events that the server could not apply, which come again.
        self._waiting: set[str] = set()
        self._failures = 0
        self._verify_at = 0.0

    def run(self, stop: threading.Event) -> None:
        """Ask until ``stop`` is set."""
        wait_s = 0.0
        while not stop.wait(wait_s):
            self._ask_verification()
            if not self._address:
                wait_s = POLL_SECONDS
                continue
            try:
                more = self.poll()
                wait_s, self._failures = (0.0 if more else POLL_SECONDS), 0
            except Exception as error:  # noqa: BLE001 - what is not acknowledged comes again
                if not self._failures:
                    _log.warning("the events of %a can't be had: %s", self._name, _cause(error))
                self._failures = min(self._failures + 1, 16)
                wait_s = max(min(MAX_WAIT_SECONDS, POLL_SECONDS * 2**self._failures), _retry_after(error))

    def poll(self) -> bool:
        """Ask once, and hand on what came; return True if there is more.

        Events that are durable are acknowledged by the next question. Raises OSError, UsageError for another
        form of answer, and the errors of the server that are no refusals.
        """
        question = {
            "maxEvents": MAX_EVENTS,
            "returnImmediately": True,
            "ack": self._acknowledged,
            "setErrs": self._refused,
        }
        found = members(strict_object(self._post(self._address, question)))
        self._acknowledged, self._refused = [], {}
        events = members(found.get("sets", "{}"))
        for event_id, text in islice(events.items(), MAX_EVENTS):
            self._hand_on(event_id, string(text))
        self._untrusted = {each: since for each, since in self._untrusted.items() if each in events}
        self._waiting &= events.keys()
        return found.get("moreAvailable") == "true" and bool(self._acknowledged)

    def _hand_on(self, event_id: str, token: str) -> None:
        try:
            self._client.report_security_event(self._name, token)
        except IdentityRefused as error:
            now = time.monotonic()
            is_untrusted = error.fault == "IDENTITY_UNTRUSTED"
            if is_untrusted and now - self._untrusted.setdefault(event_id, now) < UNTRUSTED_SECONDS:
                return
            _log.warning("refused an event of %a: %s", self._name, error.fault)
            stated = error_members(error)
            self._refused[event_id] = {"err": stated["err"], "description": stated["description"]}
        except (Rejected, StateFull) as error:
            # The state has no place for it, or is frozen. Others, which end logins, may find theirs.
            if event_id not in self._waiting:
                _log.error("an event of %a waits: %s", self._name, error)
            self._waiting.add(event_id)
        else:
            self._acknowledged.append(event_id)

    def _ask_verification(self) -> None:
        """Ask for a verification event, once a minute. Events are polled whatever becomes of it."""
        if self._verification is None or time.monotonic() < self._verify_at:
            return
        self._verify_at = time.monotonic() + VERIFY_SECONDS
        address, stream_id = self._verification
        try:
            state = self._client.ask_stream(self._name)
            if state:
                self._post(address, {"stream_id": stream_id, "state": state})
        except Exception as error:  # noqa: BLE001 - it is asked again in a minute
            _log.warning("no verification of the events of %a: %s", self._name, _cause(error))

    def _post(self, address: str, question: Mapping[str, object]) -> bytes:
        try:
            token = self._token_file.read_text("ascii").strip()
        except (OSError, ValueError):
            raise UsageError(f"poll: {self._token_file} holds no bearer token that can be read") from None
        headers = {
            "Authorization": f"Bearer {token}",
            "Content-Type": _JSON,
            "Accept": _JSON,
        }
        request = Request(address, json.dumps(question).encode(), headers)
        with self._opener.open(request, timeout=ANSWER_SECONDS) as answer:
            data: bytes = answer.read(MAX_ANSWER_BYTES + 1)
        if len(data) > MAX_ANSWER_BYTES:
            raise UsageError(f"an answer has more than {MAX_ANSWER_BYTES} bytes")
        return data


def _cause(error: Exception) -> str:
    """Return the cause of a failure, without an address: it may have a secret."""
    if isinstance(error, HTTPError):
        return f"status {error.code}"
    return cause_of(error) if isinstance(error, OSError | SessauthError) else type(error).__name__


def _retry_after(error: Exception) -> float:
    stated = error.headers.get("retry-after", "") if isinstance(error, HTTPError) else ""
    return min(float(stated), MAX_RETRY_AFTER_SECONDS) if stated.isdecimal() else 0.0
