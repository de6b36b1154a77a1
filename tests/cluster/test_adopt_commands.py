"""``sessauth cluster adopt``, ``leave`` and ``status``, typed on two hosts; their etcd was wiped."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from sessauth.reasons import Reason
from sessauth.state.host.brake import Brake, alarm_of, reader_page
from sessauth.state.layout import BRAKE_FILE
from sessauth.v1 import authorization_service_pb2 as pb
from tests.support.cluster_processes import Cluster, ServerHost, cluster_processes
from tests.support.etcd_cluster import EtcdCluster, etcd_cluster
from tests.support.service import RpcError, home_folder, serves, wait_until
from tests.support.watching import item, mint, open_session


@dataclass
class Wiped:
    """Two servers, and the member of etcd that carries their log."""

    engine: EtcdCluster
    servers: Cluster

    def serving(self) -> tuple[ServerHost, ServerHost, str]:
        """Return the two servers, the first one leading, and a token that both allow."""
        one, two = self.servers.hosts
        for host in (one, two):
            if host.process is None:
                host.start()
        assert wait_until(lambda: serves(one.operator) and serves(two.operator))
        self.servers.leader()
        # At either: what does not lead hands it on.
        token = mint(one.operator, open_session(one.operator).id).token
        assert wait_until(lambda: all(reason(host, token) is Reason.ALLOWED for host in (one, two)))
        return one, two, token

    def wipe(self, *running: ServerHost) -> None:
        """Wipe the engine, and wait until these servers are in alarm."""
        self.engine.wipe()
        for host in running:
            assert wait_until(lambda at=host: alarm(at) != "")  # type: ignore[misc]


@pytest.fixture(scope="module")
def wiped() -> Iterator[Wiped]:
    """One cluster for all."""
    with (
        home_folder() as folder,
        etcd_cluster(folder, 1, {"unsafe-no-fsync": "true"}) as engine,
        cluster_processes(folder, engine.addresses) as servers,
    ):
        one, two = (host.config.home for host in servers.hosts)
        shutil.copy(one / "operator.credential", two)
        yield Wiped(engine, servers)


def typed(host: ServerHost, *words: str, status: int = 0) -> Any:
    """Type ``sessauth cluster``, ``freeze`` or ``thaw`` on a host; return its document, or its error.

    Nothing else is printed.
    """
    environment = {**os.environ, "SESSAUTH_HOME": str(host.config.home)}
    program = Path(sys.executable).with_name("sessauth")
    group = [] if words[0] in ("freeze", "thaw") else ["cluster"]
    command = [program, *group, words[0], "--json", *words[1:]]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == status, ran.stderr
    assert not (ran.stdout and ran.stderr), ran.stderr
    # A further line, of a log for instance, would be no document.
    return json.loads(ran.stdout or ran.stderr)


def alarm(host: ServerHost) -> str:
    """Return the alarm that a host's folder stores."""
    with reader_page(host.config.state_dir / BRAKE_FILE) as page:
        return alarm_of(page)


def stop(host: ServerHost) -> None:
    """Stop a server in order."""
    assert host.process is not None
    host.process.terminate()
    host.process = None


def reason(host: ServerHost, token: str) -> Reason | None:
    """Return the reason of a check by a server's own folder; None without an answer."""
    try:
        answer = host.operator.call(
            "AuthorizationService/Check", pb.CheckRequest(item=item(token), audience="gw")
        )
    except RpcError:
        return None
    return Reason(answer.decision.reason)


def test_the_status_says_why_a_host_denies(wiped: Wiped) -> None:
    """Its own brake and the cluster's, both of which deny every check, and the alarm."""
    _, two, token = wiped.serving()
    before = typed(two, "status")
    assert (before["brake"], before["cluster_brake"], before["alarm"]) == ("", "", "")
    typed(two, "freeze", "--reason", "drill")
    page = Brake(two.config.state_dir / BRAKE_FILE)
    page.engage("by hand", by_hand=True)
    try:
        braked = typed(two, "status")
    finally:
        page.release(by_hand=True)
        page.close()
        typed(two, "thaw")
    assert braked["cluster_brake"] == "cluster frozen by operator: drill"
    assert set(braked["brake"].split("; ")) == {"by hand", braked["cluster_brake"]}
    assert wait_until(lambda: reason(two, token) is Reason.ALLOWED)


def test_the_log_goes_on_without_the_end_of_a_session(wiped: Wiped) -> None:
    """Every known host says that it holds no more."""
    one, two, token = wiped.serving()
    wiped.wipe(one, two)
    assert typed(two, "status")["alarm"].split()[0] == "ENGINE_WENT_BACK"
    stop(one)

    answer = typed(one, "adopt", two.config.cluster.address)

    assert (answer["server"], answer["sessions"]) == ("one", "kept")
    assert (answer["engine_record_before"], answer["not_asked"], answer["ahead"]) == (0, "", "")
    # The other one goes on by itself.
    assert wait_until(lambda: reason(two, token) is Reason.ALLOWED)
    one.start()
    assert wait_until(lambda: reason(one, token) is Reason.ALLOWED)
    assert alarm(one) == alarm(two) == ""


def test_somebody_vouches_for_a_host_that_is_silent(wiped: Wiped) -> None:
    """The sessions live on, at that host too once it is there again."""
    one, two, token = wiped.serving()
    wiped.wipe(one, two)
    stop(one)
    stop(two)

    answer = typed(one, "adopt", "--keep-sessions", two.config.cluster.address)

    assert (answer["sessions"], answer["not_asked"], answer["ahead"]) == ("kept", "server/two", "")
    for host in (one, two):
        host.start()
        assert wait_until(lambda at=host: reason(at, token) is Reason.ALLOWED)  # type: ignore[misc]


def test_what_another_host_holds_is_given_up_by_force_alone(wiped: Wiped) -> None:
    """Refused first, and nothing is written; that host stays in alarm, and leaves as a single one."""
    one, two, _ = wiped.serving()
    stop(two)
    assert wait_until(lambda: one.leads)
    token = mint(one.operator, open_session(one.operator).id).token
    wiped.wipe(one)
    other = one.config.cluster.address

    refused = typed(two, "adopt", "--keep-sessions", other, status=5)
    assert "server/one holds more" in refused["error"]["message"]
    assert typed(two, "status")["engine_record"] == 0
    answer = typed(two, "adopt", "--force", other)

    assert (answer["sessions"], answer["ahead"]) == ("all ended", "server/one")
    two.start()
    assert wait_until(lambda: two.leads)
    ended = mint(two.operator, open_session(two.operator).id).token
    assert wait_until(lambda: reason(two, ended) is Reason.ALLOWED)
    # It has a record that the cluster gave up.
    assert typed(one, "status")["alarm"] != ""
    assert reason(one, token) is Reason.STALE_STATE
    stop(one)
    left = typed(one, "leave")
    assert left["incarnation"] != ""
    settings = (one.config.home / "sessauth.toml").read_text()
    (one.config.home / "sessauth.toml").write_text(settings.split("[cluster]")[0])
    one.start()
    assert reason(one, token) is Reason.SESSION_ENDED
    alone = mint(one.operator, open_session(one.operator).id).token
    assert reason(one, alone) is Reason.ALLOWED
    # What the host does alone reaches nobody.
    assert reason(two, alone) is not Reason.ALLOWED
