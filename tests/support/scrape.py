"""Reads the page of metrics as Prometheus would, and makes traffic for there to be something on it."""

from __future__ import annotations

import urllib.request
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from sessauth.v1 import authorization_service_pb2 as checks
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_service_pb2 as tokens
from tests.support.service import Caller, RpcError
from tests.support.watching import Stream

Labels = frozenset[tuple[str, str]]


@dataclass(frozen=True)
class Scrape:
    """One page: its families by name, and the value of each series."""

    text: str
    families: Mapping[str, Metric]
    values: Mapping[tuple[str, Labels], float]

    def value(self, name: str, **labels: str) -> float:
        """Return the value of the one series of that name and labels. KeyError if there is none."""
        return self.values[name, frozenset(labels.items())]

    def counted(self, name: str, label: str) -> dict[str, float]:
        """Return by the value of a label what the series of that name add up to, without zeros."""
        found: Counter[str] = Counter()
        for (series, labels), value in self.values.items():
            if series == name:
                found[dict(labels)[label]] += value  # type: ignore[assignment]
        return {key: value for key, value in found.items() if value}


def scrape(port: int, **headers: str) -> Scrape:
    """Read the page of the server at a port of this machine."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers=headers)
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read().decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    values = {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in families.values()
        for sample in family.samples
    }
    return Scrape(text, families, values)


@dataclass
class Traffic:
    """Calls of a server and their results: decisions by reason, and the count of all."""

    operator: Caller
    decided: Counter[str] = field(default_factory=Counter)
    judged: int = 0

    def open(self, needs: str = "", subject: str = "agent-7") -> tuple[bytes, bytes]:
        """Open a session and mint a token of it, with what its scope needs; returns id and token."""
        scope = "read:files/**"
        request = sessions.OpenSessionRequest(subject=subject, ceiling=[scope])
        session = self.operator.call("SessionService/OpenSession", request).session
        minted = self.operator.call(
            "TokenService/Mint",
            tokens.MintRequest(session_id=session.id, scopes=[scope + needs], audience=["gw"]),
        )
        return session.id, minted.token.encode()

    def check(self, caller: Caller, token: bytes, action: bytes = b"read", **options: int) -> checks.Decision:
        """Have one call judged."""
        item = checks.CheckItem(token=token, action=action, resource=b"files/a", **options)
        request = checks.CheckRequest(item=item, audience="gw")
        return self._note(caller.call("AuthorizationService/Check", request).decision)

    def check_batch(self, caller: Caller, token: bytes, actions: tuple[bytes, ...]) -> None:
        """Have a batch judged."""
        items = [checks.CheckItem(token=token, action=action, resource=b"files/a") for action in actions]
        request = checks.CheckBatchRequest(items=items, audience="gw")
        for decision in caller.call("AuthorizationService/CheckBatch", request).decisions:
            self._note(decision)

    def watch_and_end(self, caller: Caller) -> None:
        """Have one call watched, and taken back by the end of its session."""
        session_id, token = self.open()
        stream = Stream(caller)
        try:
            stream.allow(1, checks.CheckItem(token=token, action=b"read", resource=b"files/a"))
            self.decided["ALLOWED"] += 1
            self.judged += 1
            self.operator.call("SessionService/EndSession", sessions.EndSessionRequest(session_id=session_id))
            stream.withdrawn()
        finally:
            stream.close()

    def refuse(self, stranger: Caller) -> None:
        """Be refused as a stranger."""
        try:
            stranger.call("SessionService/ListSessions", sessions.ListSessionsRequest())
        except RpcError:
            return
        raise AssertionError("a stranger was let in")

    def _note(self, decision: checks.Decision) -> checks.Decision:
        self.decided[checks.Reason.Name(decision.reason).removeprefix("REASON_")] += 1
        self.judged += 1
        return decision
