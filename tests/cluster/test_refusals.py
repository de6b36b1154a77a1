"""Servers of a follower's settings that refuse it: known before it needs them."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sessauth.errors import ConfigError
from sessauth.model.host import HostRecord
from sessauth.server import log
from sessauth.server.cluster.follower_role import ServerRefusals
from sessauth.server.cluster.joining import join, open_source
from sessauth.server.config import from_dict
from sessauth.server.keys.credentials import CredentialFile
from sessauth.state.lmdb import cluster_rows
from tests.support.feeding import Cluster, cluster
from tests.support.service import running, wait_until


@pytest.fixture
def pair() -> Iterator[Cluster]:
    """Two servers, of which the second one lacks the follower's credential."""
    with cluster(("one", "two")) as made:
        made.members[1].follow()
        (made.home / "members" / "two" / "credentials.toml").write_text("")
        yield made


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """The events that are logged."""
    found: list[tuple[str, dict[str, Any]]] = []
    monkeypatch.setattr(log, "event", lambda level, name, **fields: found.append((name, fields)))
    return found


def test_one_that_lacks_the_credential_is_said_once(
    pair: Cluster, events: list[tuple[str, dict[str, Any]]]
) -> None:
    """Also behind the first answers; once it has the credential that is said too."""
    refusing = f"unix:{pair.servers[1].socket}"
    with closing(pair.source()) as source, closing(ServerRefusals(source, 0.05)) as refusals:
        asked: list[str] = []
        ask = source.ask
        source.ask = lambda server: (asked.append(server), ask(server))[1]  # type: ignore[method-assign]
        refusals.start()
        assert wait_until(lambda: asked.count(refusing) > 3)
        assert refusals.servers == (refusing,)
        ((name, fields),) = events
        assert (name, fields["setting"]) == ("server_refuses", "follow.credential")
        assert refusing in fields["error"]

        members = pair.home / "members"
        shutil.copy(members / "one" / "credentials.toml", members / "two")
        assert wait_until(lambda: refusals.servers == ())
        assert events[1:] == [("server_accepts", {"server": refusing})]


def test_one_that_is_silent_is_no_refusal(pair: Cluster, events: list[tuple[str, dict[str, Any]]]) -> None:
    """Nor does its silence end one that was known."""
    one, two = (f"unix:{server.socket}" for server in pair.servers)
    with closing(pair.source()) as source, closing(ServerRefusals(source)) as refusals:
        refusals.ask(two)
        for server in pair.servers:
            server.close()
        refusals.ask(one)
        refusals.ask(two)
        assert refusals.servers == (two,)
        assert len(events) == 1


def test_in_an_alarm_nobody_is_asked(pair: Cluster) -> None:
    """A barrier would say that the host is in none."""
    alarm = threading.Event()
    alarm.set()
    with (
        closing(pair.source()) as source,
        closing(ServerRefusals(source, 0.01, in_alarm=alarm.is_set)) as refusals,
    ):
        asked: list[str] = []
        ask = source.ask
        source.ask = lambda server: (asked.append(server), ask(server))[1]  # type: ignore[method-assign]
        refusals.start()
        assert not wait_until(lambda: asked, seconds=0.2)
        alarm.clear()
        assert wait_until(lambda: refusals.servers == (f"unix:{pair.servers[1].socket}",))


def test_a_name_of_another_credential(pair: Cluster, events: list[tuple[str, dict[str, Any]]]) -> None:
    """The refusal is of the host, and names the setting."""
    taken = HostRecord("host-1", "somebody", b"i" * 16, 3_000)
    pair.leader.writer.run(lambda group: cluster_rows.store_host(group, taken))
    with closing(pair.source()) as source:
        ServerRefusals(source).ask(f"unix:{pair.servers[0].socket}")
    assert events[0][1]["setting"] == "follow.host_name"


def test_a_join_at_a_single_host_ends(tmp_path: Path) -> None:
    """It can't be followed, whoever asks."""
    with running() as service:
        credential = tmp_path / "host.credential"
        file = service.made.state_dir / "credentials.toml"
        credential.write_text(CredentialFile(file).add("host-1", "follower"))
        credential.chmod(0o600)
        # Returns once a server reads its credentials anew.
        service.add("somebody", "auditor")
        settings = {"servers": [str(service.made.socket)], "credential": str(credential), "host_name": "h"}
        config = from_dict({"home": str(tmp_path), "follow": settings})
        with (
            closing(open_source(config)) as source,
            pytest.raises(ConfigError, match=r"^follow\.servers: .*single host"),
        ):
            join(config, source, threading.Event())
