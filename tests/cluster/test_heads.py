"""``sessauth cluster heads``, ``adopt``, ``leave`` and ``status``, typed, over an engine in memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sessauth.cli.commands.local.cluster import to_lines
from sessauth.cli.main import cli
from sessauth.model.host import SERVER_PREFIX
from sessauth.model.server_status import ClusterStanding, HostStanding
from sessauth.reasons import Reason
from sessauth.server.cluster.repair import HostHead, judged, survey
from sessauth.server.cluster.role import ClusterRole
from sessauth.server.config import Config
from sessauth.state.host.brake import Brake
from sessauth.state.layout import BRAKE_FILE
from sessauth.state.replication.carrier import LogHead
from sessauth.v1 import cut_off_service_pb2 as cut_off
from tests.support.carried import OneEngine
from tests.support.cluster_servers import ClusterServer, two_servers
from tests.support.service import wait_until
from tests.support.watching import mint, open_session

ENGINE = ["127.0.0.1:1"]


@pytest.fixture
def pair(tmp_path: Path, engine: OneEngine) -> Iterator[tuple[ClusterServer, ClusterServer]]:
    """Two servers with homes that commands can be typed in; the first one leads."""
    with two_servers(tmp_path, ENGINE) as servers:
        for server in servers:
            config = server.config
            lines = ["[tcp]", f'address = "{config.tcp.address}"', "insecure_tcp = true", "[cluster]"]
            lines += [f'name = "{config.cluster.name}"', f'address = "{config.cluster.address}"']
            lines += [f"engine = {json.dumps(ENGINE)}", "insecure_engine = true"]
            (config.home / "sessauth.toml").write_text("\n".join(lines) + "\n")
            file = config.home / "operator.credential"
            file.write_text(server.operator.credential + "\n")
            file.chmod(0o600)
        yield servers


def typed(server: ClusterServer, *words: str, status: int = 0) -> Any:
    """Type ``sessauth cluster`` on a server's host; return its document, or its error."""
    command = ["--home", str(server.config.home), "cluster", words[0], "--json", *words[1:]]
    result = CliRunner().invoke(cli, command)
    assert result.exit_code == status, result.output
    return json.loads(result.stdout if result.stdout else result.stderr)


def verdicts(document: Any) -> dict[str, str]:
    """Return the verdicts by host."""
    return {head["host"]: head["verdict"] for head in document["heads"]}


def lose(engine: OneEngine) -> None:
    """Wipe the log, terms and all."""
    with engine.changed:
        engine.records.clear()
        engine.terms, engine.head, engine.leading = 0, LogHead(0, b""), None


def alarmed(*servers: ClusterServer) -> None:
    """Wait until these servers are in alarm."""
    for server in servers:
        assert wait_until(lambda at=server: at.control.part.alarm is not None)  # type: ignore[misc]


def test_servers_that_agree(
    pair: tuple[ClusterServer, ClusterServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked at either, by the addresses of the rows; one that is stopped has its folder, or is silent."""
    one, two = pair
    open_session(one.operator)
    assert wait_until(lambda: two.control.writer.host("server/one").address != "")  # type: ignore[union-attr]
    other = two.config.cluster.address
    found = typed(one, "heads", other)
    assert found["agree"]
    assert verdicts(found) == {"server/one": "same", "server/two": "same"}
    first, second = found["heads"]
    assert {head["host"] for head in (first, second) if head["leading"]} == {"server/one"}
    assert first["digest"] == second["digest"]
    # The first server led, so its address is in the rows.
    assert verdicts(typed(two, "heads")) == {"server/one": "same", "server/two": "same"}

    # Nothing that is stopped catches up meanwhile.
    monkeypatch.setattr("sessauth.server.cluster.repair.ROUND_SECONDS", 0.01)
    two.stop()
    assert verdicts(typed(one, "heads", other, status=1))["server/two"] == "silent"
    by_folder = typed(one, "heads", "--state", str(two.config.state_dir), status=1)
    assert by_folder["heads"][0]["incarnation"] == by_folder["heads"][1]["incarnation"]
    one.stop()
    stopped = typed(one, "heads", status=1)
    assert {head["source"] for head in stopped["heads"]} == {"folder", ""}


def test_the_status_says_why_a_host_denies(pair: tuple[ClusterServer, ClusterServer]) -> None:
    """Its own brake and the cluster's, both of which deny every check, and the alarm."""
    _, two = pair
    two.operator.call("CutOffService/Freeze", cut_off.FreezeRequest(reason="drill"))
    two.stop()
    page = Brake(two.config.state_dir / BRAKE_FILE)
    page.engage("by hand", by_hand=True)
    page.close()
    braked = typed(two, "status")

    assert braked["cluster_brake"] == "cluster frozen by operator: drill"
    assert set(braked["brake"].split("; ")) == {"by hand", braked["cluster_brake"]}
    assert braked["alarm"] == ""


def test_servers_that_refuse_a_host(
    pair: tuple[ClusterServer, ClusterServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own process states them; the table has a line of them."""
    monkeypatch.setattr(ClusterRole, "refused_by", ("a:1", "b:1"))
    found = typed(pair[0], "heads", pair[1].config.cluster.address)["heads"]
    assert [each["refused_by"] for each in found if each["host"] == "server/one"] == ["a:1, b:1"]
    assert to_lines([head("host-1", 5, refused_by="a:1, b:1")])[-1] == "host-1: refused by a:1, b:1"


def test_in_an_alarm_each_says_how_far_it_is(
    pair: tuple[ClusterServer, ClusterServer], engine: OneEngine
) -> None:
    """Heads are needed then; and adopt, which asks the same, has no session end."""
    one, two = pair
    token = mint(one.operator, open_session(one.operator).id).token
    assert wait_until(lambda: two.reason(token) is Reason.ALLOWED)
    lose(engine)
    alarmed(*pair)

    found = typed(one, "heads", two.config.cluster.address, status=1)

    assert verdicts(found) == {"server/one": "ENGINE_WENT_BACK", "server/two": "ENGINE_WENT_BACK"}
    assert "wiped" in found["heads"][0]["alarm_message"]
    one.stop()
    answer = typed(one, "adopt", two.config.cluster.address)
    assert (answer["sessions"], answer["not_asked"], answer["ahead"]) == ("kept", "", "")
    # The other one goes on by itself: the record that says so follows what it holds.
    assert wait_until(lambda: two.reason(token) is Reason.ALLOWED)
    again = ClusterServer(one.config, one.operator.credential)
    try:
        assert wait_until(lambda: again.reason(token) is Reason.ALLOWED)
        assert verdicts(typed(two, "heads")) == {"server/one": "same", "server/two": "same"}
    finally:
        again.stop()


def test_a_host_that_is_silent_ends_sessions(
    pair: tuple[ClusterServer, ClusterServer], engine: OneEngine
) -> None:
    """Nobody knows whether it holds more: somebody vouches for it, or all sessions end."""
    one, _ = pair
    token = mint(one.operator, open_session(one.operator).id).token
    lose(engine)
    alarmed(*pair)
    for server in pair:
        server.stop()
    answer = typed(one, "adopt")
    assert (answer["sessions"], answer["not_asked"]) == ("all ended", "server/two")
    again = ClusterServer(one.config, one.operator.credential)
    try:
        assert wait_until(lambda: again.reason(token) is Reason.SESSION_ENDED)
    finally:
        again.stop()


def test_a_host_that_holds_more_is_to_be_adopted_from(
    pair: tuple[ClusterServer, ClusterServer], engine: OneEngine
) -> None:
    """Refused, and nothing is written; by force its records are given up, and every session ends."""
    one, two = pair
    two.stop()
    token = mint(one.operator, open_session(one.operator).id).token
    lose(engine)
    alarmed(one)
    other = one.config.cluster.address

    for option in ((), ("--keep-sessions",), ("--end-sessions",)):
        refused = typed(two, "adopt", *option, other, status=5)
        assert "server/one holds more" in refused["error"]["message"]
    assert engine.head.number == 0
    typed(two, "adopt", "--keep-sessions", "--force", status=2)
    answer = typed(two, "adopt", "--force", other)
    assert (answer["sessions"], answer["ahead"]) == ("all ended", "server/one")
    assert wait_until(lambda: one.reason(token) is Reason.STALE_STATE)
    assert one.control.part.alarm is not None
    # It has a record that the cluster gave up, and leaves as a single one.
    one.stop()
    assert typed(one, "status")["alarm"] != ""
    assert typed(one, "leave")["incarnation"] != ""


def test_an_alarm_that_is_cleared(pair: tuple[ClusterServer, ClusterServer], engine: OneEngine) -> None:
    """A restart does not end it; the command does, and says what it was."""
    one, two = pair
    token = mint(one.operator, open_session(one.operator).id).token
    assert wait_until(lambda: two.reason(token) is Reason.ALLOWED)
    records, head = dict(engine.records), engine.head
    lose(engine)
    alarmed(*pair)
    for server in pair:
        server.stop()
    # The engine's data was found again.
    with engine.changed:
        engine.records, engine.head, engine.terms = records, head, 9
    again = ClusterServer(two.config, two.operator.credential)
    try:
        assert again.control.part.alarm is not None
        assert again.reason(token) is Reason.STALE_STATE
    finally:
        again.stop()
    assert typed(two, "clear-alarm")["cleared"] == "ENGINE_WENT_BACK"
    assert typed(two, "clear-alarm")["message"] == "there was none"
    again = ClusterServer(two.config, two.operator.credential)
    try:
        assert wait_until(lambda: again.reason(token) is Reason.ALLOWED)
    finally:
        again.stop()


def head(name: str, number: int, digest: bytes = b"d", **values: Any) -> HostHead:
    """Return a head of the cluster ``c``."""
    given = {"source": "itself", "cluster_id": b"c", "fresh": True, **values}
    return HostHead(name, number=number, digest=digest, **given)


def test_verdicts() -> None:
    """The first head counts: another cluster, another past, behind, stale, silent."""
    heads = [
        head("behind", 4),
        head("fork", 5, b"x"),
        head("stale", 5, fresh=False),
        head("first", 6),
        head("foreign", 5, cluster_id=b"y"),
        head("alarm", 5, alarm="ALTERED"),
        head("twin", 6),
        HostHead("follower", number=6, source="a server", fresh=True),
        HostHead("gone", number=9, silent="does not answer"),
        head("reached", 5),
    ]
    found = {each.host: each.verdict for each in judged(heads, 5)}
    assert found["behind"] == "behind"
    assert sorted((found["fork"], found["reached"])) == ["differs", "same"]
    assert (found["stale"], found["foreign"], found["alarm"]) == ("stale", "another cluster", "ALTERED")
    assert found["first"] == found["twin"] == found["follower"] == "same"
    assert found["gone"] == "silent"
    assert judged(heads, 5)[-1].host == "gone"
    assert SERVER_PREFIX == "server/"


def test_a_host_that_answers_in_the_name_of_another(tmp_path: Path) -> None:
    """It does not hide the head of the true one, and the host that should be there is silent."""
    rows = (HostStanding("server/two", "two:1"), HostStanding("server/three", "three:1"))

    def standing(host: str, number: int, alarm: str = "") -> ClusterStanding:
        return ClusterStanding(
            b"c" * 16, b"i" * 16, host, number, b"d" * 32, 1, 1, False, False, alarm, hosts=rows
        )

    answers = {
        "two:1": standing("server/two", 9),
        # Its row names it otherwise.
        "three:1": standing("server/two", 3, "OTHER_PAST"),
        # Nobody knows who that is: a copy of the second one.
        "four:1": standing("server/two", 4, "OTHER_PAST"),
    }
    for addresses in (("two:1", "four:1"), ("two:1", "three:1", "four:1"), ("four:1", "two:1")):
        heads = {head.host: head for head in survey(Config(home=tmp_path), answers.__getitem__, addresses)}
        assert (heads["server/two"].number, heads["server/two"].alarm) == (9, "")
        assert heads["server/three"].silent == "it says that it is server/two"


def test_two_pasts_in_one_name(tmp_path: Path) -> None:
    """Neither hides the other, whichever answers first."""

    def standing(digest: bytes) -> ClusterStanding:
        return ClusterStanding(b"c" * 16, b"i" * 16, "server/two", 9, digest, 1, 1, False, False)

    answers = {"two:1": standing(b"d" * 32), "copy:1": standing(b"e" * 32), "alias:1": standing(b"d" * 32)}
    for addresses in (("two:1", "copy:1", "alias:1"), ("copy:1", "two:1")):
        heads = survey(Config(home=tmp_path), answers.__getitem__, addresses)
        assert {head.digest[:1] for head in heads} == {b"d", b"e"}
