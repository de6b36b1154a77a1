"""A receiver of security events, written from RFC 8936 and SSF 1.0 alone, and a transmitter for it."""

from __future__ import annotations

import hashlib
import json
import secrets
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
from joserfc import jwt
from joserfc.jwk import KeySet

from sessauth.client import Client
from sessauth.clock import SystemClock
from sessauth.gateways.event_transmitter.app import TransmitterApp
from sessauth.gateways.event_transmitter.receivers import TransmitterSettings
from sessauth.gateways.event_transmitter.transmitter import EventTransmitter
from sessauth.gateways.http_server import address_of, bind, server_of

REVOKED = "https://schemas.openid.net/secevent/caep/event-type/session-revoked"
VERIFICATION = "https://schemas.openid.net/secevent/ssf/event-type/verification"
UPDATED = "https://schemas.openid.net/secevent/ssf/event-type/stream-updated"


class PollingReceiver:
    """A receiver that is told an address and a token, and finds the rest by itself."""

    def __init__(self, address: str, token: str, audience: str) -> None:
        self._http = httpx.Client(headers={"authorization": f"Bearer {token}"}, timeout=40, trust_env=False)
        self.metadata = self._http.get(f"{address}/.well-known/ssf-configuration").json()
        self.audience = audience
        self.stream: dict[str, Any] = {}
        # Claims of what came, by id, and how often each came.
        self.events: dict[str, dict[str, Any]] = {}
        self.times: dict[str, int] = {}

    def ask(self, method: str, endpoint: str, body: object = None, **query: str) -> httpx.Response:
        """Call an endpoint of the metadata."""
        address = self.metadata[f"{endpoint}_endpoint"]
        return self._http.request(method, address, json=body, params=query or None)

    def create(self, **stated: Any) -> dict[str, Any]:
        """Make the stream."""
        answer = self.ask("POST", "configuration", stated)
        assert answer.status_code == 201, answer.text
        self.stream = answer.json()
        return self.stream

    def post(self, **question: Any) -> httpx.Response:
        """Send a question for events."""
        return self._http.post(self.stream["delivery"]["endpoint_url"], json=question)

    def send(self, body: bytes) -> httpx.Response:
        """Send any bytes as a question for events."""
        return self._http.post(self.stream["delivery"]["endpoint_url"], content=body)

    def poll(self, ack: list[str] | None = None, **question: Any) -> list[str]:
        """Return the ids of events that are verified, in their order; they are acknowledged by the caller."""
        answer = self.post(**{"returnImmediately": True, "ack": ack or [], **question})
        assert answer.status_code == 200, answer.text
        for jti, token in answer.json()["sets"].items():
            self.events[jti] = self.claims(token)
            self.times[jti] = self.times.get(jti, 0) + 1
            assert self.events[jti]["jti"] == jti
        return list(answer.json()["sets"])

    def claims(self, token: str) -> dict[str, Any]:
        """Return the claims of a token, verified by the published keys."""
        found = jwt.decode(token, KeySet.import_key_set(self.keys()), algorithms=["RS256"])
        claims: dict[str, Any] = found.claims
        assert found.header["typ"] == "secevent+jwt"
        assert (claims["iss"], claims["aud"]) == (self.metadata["issuer"], self.audience)
        assert not {"sub", "exp"} & claims.keys()
        return claims

    def keys(self) -> Any:
        """Return the published keys."""
        return self._http.get(self.metadata["jwks_uri"]).json()

    def revoked(self) -> list[str]:
        """Return the sessions that were revoked, in the order in which they came first."""
        return [
            claims["sub_id"]["session"]["id"]
            for claims in self.events.values()
            if REVOKED in claims["events"]
        ]

    def drain(self) -> None:
        """Poll and acknowledge until nothing is left."""
        ids = self.poll()
        while ids:
            ids = self.poll(ids)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


def receivers_file(
    folder: Path, issuer: str, receivers: Mapping[str, Mapping[str, Any]]
) -> tuple[Path, dict[str, str]]:
    """Write a file of receivers; returns it, and a new token of each."""
    lines = [f'issuer = "{issuer}"']
    tokens = {}
    for name, terms in receivers.items():
        tokens[name] = secrets.token_urlsafe(24)
        digest = hashlib.sha256(tokens[name].encode()).hexdigest()
        stated = {"name": name, "token_sha256": digest, "audience": f"https://{name}.example", **terms}
        lines += ["[[receivers]]", *(f"{key} = {json.dumps(value)}" for key, value in stated.items())]
    path = folder / "receivers.toml"
    path.write_text("\n".join(lines) + "\n")
    return path, tokens


class Transmitting:
    """A transmitter in this process, which can be ended and begun again at its address."""

    def __init__(self, folder: Path, client: Client, **receivers: Mapping[str, Any]) -> None:
        self.folder, self._client = folder, client
        self._bound = bind("127.0.0.1:0")
        self.address = f"http://{address_of(self._bound)}"
        self.file, self.tokens = receivers_file(folder, self.address, receivers)
        self.transmitter: EventTransmitter
        self._receivers: list[PollingReceiver] = []
        self.begin()

    def begin(self) -> None:
        """Serve, from what is stored."""
        settings = TransmitterSettings.read(self.file)
        self.transmitter = EventTransmitter(settings, self.folder / "events", self._client, SystemClock())
        self._app = TransmitterApp(self.transmitter)
        self._server = server_of(self._app)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._bound.dup()]}, daemon=True
        )
        self._thread.start()
        self.transmitter.start()

    def end(self) -> None:
        """Serve no longer."""
        self._server.should_exit = True
        self._thread.join(20)
        self.transmitter.close()

    def questions(self) -> dict[str, object]:
        """Return the questions that wait for an event."""
        return dict(self._app._questions)

    def receiver(self, name: str) -> PollingReceiver:
        """Return a receiver of the file."""
        made = PollingReceiver(self.address, self.tokens[name], f"https://{name}.example")
        self._receivers.append(made)
        return made

    def close(self) -> None:
        """End all."""
        for each in self._receivers:
            each.close()
        self.end()
        self._bound.close()
