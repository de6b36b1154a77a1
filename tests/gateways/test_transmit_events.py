"""The transmitter of events, and a receiver that knows the specifications alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sessauth.client import Client
from tests.server.test_login_sessions import Provider, clock, corp, opened
from tests.support.event_receiver import (
    REVOKED,
    PollingReceiver,
    Transmitting,
)
from tests.support.identity_tokens import ISSUER
from tests.support.service import Service, running, wait_until

__all__ = ["clock", "corp"]
CEILING = ["read:tickets/**"]


class Watched:
    """A server, its clients, and the transmitter that watches it."""

    def __init__(self, service: Service, folder: Path, **receivers: Any) -> None:
        self.service = service
        target = str(service.made.socket)
        self.operator = Client(target, credential_file=service.made.credential_file, timeout_ms=20_000)
        self.auditor = Client(target, service.add("events", "auditor").credential, timeout_ms=20_000)
        self.desk = Client(target, service.add("desk", "issuer").credential, timeout_ms=20_000)
        self.transmitting = Transmitting(folder, self.auditor, **receivers)

    def open(self, **terms: Any) -> Any:
        """Open a session."""
        return self.operator.open_session(**{"subject": "agent:reader", "ceiling": CEILING, **terms})

    def close(self) -> None:
        """Close all."""
        self.transmitting.close()
        for client in (self.operator, self.auditor, self.desk):
            client.close()


@contextmanager
def watched(corp: Provider, folder: Path, **receivers: Any) -> Iterator[Watched]:
    """Run a server whose sessions' ends are told to receivers."""
    with running(corp.clock, identity_providers=[corp.settings]) as service:
        made = Watched(service, folder, **receivers)
        try:
            yield made
        finally:
            made.close()


def received(receiver: PollingReceiver, count: int) -> bool:
    """Poll without acknowledgement until so many events came."""
    return wait_until(lambda: bool(receiver.poll()) and len(receiver.events) >= count)


def test_an_end_is_told(corp: Provider, tmp_path: Path) -> None:
    """Of a login and of a session below it with its user, and of others by their subject."""
    with watched(corp, tmp_path, siem={}) as each:
        receiver = each.transmitting.receiver("siem")
        receiver.create()
        agent, alone = opened(each.desk, corp.token()), each.open()
        each.operator.suspend(alone.id, "a while")
        each.operator.end(agent.id, "done")
        each.operator.end(alone.id, "done")
        each.operator.end(agent.parent_id, "left")
        assert received(receiver, 3)
        ids = [agent.id.hex(), alone.id.hex(), agent.parent_id.hex()]
        assert receiver.revoked() == ids
        ann = {"format": "iss_sub", "iss": ISSUER, "sub": "ann"}
        reader = {"format": "iss_sub", "iss": each.transmitting.address, "sub": "agent:reader"}
        subjects = [claims["sub_id"] for claims in receiver.events.values()]
        assert [subject["user"] for subject in subjects] == [ann, reader, ann]
        content = next(iter(receiver.events.values()))["events"][REVOKED]
        assert content["reason_admin"] == {"en": "done"}
        assert content["initiating_entity"] == "admin"
