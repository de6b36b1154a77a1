"""A real server's audit log replays clean, and one verdict turned around in it is found."""

from __future__ import annotations

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sessauth.audit import layout
from sessauth.audit.replay import Standing, read_arguments, replay
from sessauth.audit.verify.verify import verify
from sessauth.reasons import Reason
from tests.cli.conftest import invoke
from tests.support.resigned_log import reseal
from tests.support.server_fixture import AUDIENCE, ServerFixture

WHERE = 'read:repo/* where owner == "acme" free branch'
LEVEL = "read:secret/** where session.level == 2"
TOOL = "write:notes where tool.safe == true free *"
GOOD, BAD = b'{"owner":"acme","branch":"x"}', b'{"owner":"evil"}'


class Played:
    """The calls of the server, and the log that it left."""

    def __init__(self, folder: Path) -> None:
        """Play, end the server, and keep a copy of its audit folder."""
        self.decisions: list[Any] = []
        self.folder = folder / "audit"
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SESSAUTH_AUDIT_ENABLED", "true")
            with ServerFixture(workers=1) as self.server:
                self._play()
                assert self.server.process.terminate() == 0, self.server.process.log
                shutil.copytree(self.server.home / "audit", self.folder)

    def _ask(self, token: bytes, action: str, resource: str, arguments: bytes = b"", **more: Any) -> None:
        """Ask the control process and the worker."""
        for client in (self.server.control, *self.server.workers):
            self.decisions.append(client.check(token, action, resource, arguments, **more))

    def _play(self) -> None:
        operator = self.server.operator
        session = operator.open_session(subject="agent", ceiling=["*:**"])
        scopes = ["read:files/**", WHERE, LEVEL, TOOL, "read:paid needs uses(2)"]
        token = operator.mint(session.id, scopes, [AUDIENCE])
        self._ask_everything(token.data)
        operator.update_facts(session.id, {"level": 2})
        self._ask_everything(token.data)
        child = operator.open_session(subject="sub", ceiling=["read:**"], parent_id=session.id, ttl_ms=60_000)
        below = operator.mint(child.id, ["*:**"], [AUDIENCE])
        operator.suspend(session.id)
        self._ask(below.data, "read", "files/a")
        operator.resume(session.id)
        self._ask(below.data, "write", "files/a")
        operator.narrow(session.id, ["read:files/a", "read:repo/**", "write:notes"])
        self._ask_everything(token.data)
        operator.revoke(session.id, [token.inspect().blocks[0].block_id])
        self._ask_everything(token.data)
        operator.end(session.id)
        self._ask_everything(token.data)
        self._ask(below.data, "read", "files/a")

    def _ask_everything(self, token: bytes) -> None:
        for resource in ("files/a", "files/b", "secret/x", "paid", "elsewhere", "no//resource"):
            self._ask(token, "read", resource)
        for arguments in (GOOD, BAD, b"no json"):
            self._ask(token, "read", "repo/x", arguments)
        for facts in (b'{"safe":true}', b'{"safe":false}'):
            self._ask(token, "write", "notes", b'{"text":"x"}', tool=facts)
        self._ask(token + b"x", "read", "files/a")


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    """The log of one play."""
    return Played(tmp_path_factory.mktemp("played"))


@pytest.fixture
def arguments_file(tmp_path: Path) -> Path:
    """A file with the arguments of all calls."""
    file = tmp_path / "arguments.jsonl"
    file.write_bytes(b"\n".join([GOOD, BAD, b"no json", b'{"text":"x"}', b""]))
    return file


def test_the_log_of_a_real_server_replays_clean(played: Played, arguments_file: Path) -> None:
    """Every decision that was answered comes out as it was recorded, or rests on what no log holds."""
    report = replay(played.folder, arguments=read_arguments(arguments_file, played.folder))

    assert verify(played.folder).intact
    assert report.findings == []
    assert report.unreadable == 0
    answered = Counter(decision.reason for decision in played.decisions)
    assert len(answered) >= 9
    assert answered[Reason.ALLOWED] > 10
    assert report.decisions >= len(played.decisions)
    assert report.standings[Standing.CONFIRMED] > len(played.decisions) // 2
    assert report.standings[Standing.UNDECIDABLE] == 0


def test_one_verdict_turned_around_by_an_insider_is_found(played: Played, tmp_path: Path) -> None:
    """The chain is made anew with the folder's own keys, so that it verifies; only replay can tell."""
    chosen = next(
        decision
        for decision in played.decisions
        if decision.reason is Reason.OUT_OF_SCOPE and decision.matched_index < 0
    )
    lie = {"allowed": True, "reason": "ALLOWED", "stage": "NONE", "at": None, "matched": [0, 0]}

    def edit(record: dict[str, Any]) -> dict[str, Any]:
        return {**record, **lie} if record.get("id") == chosen.decision_id.hex() else record

    reseal(played.folder, tmp_path / "audit", edit)
    ran = invoke("audit", "replay", "--dir", tmp_path / "audit", "--json")

    assert ran.code == 1
    (finding,) = ran.json["findings"]
    assert (finding["kind"], finding["id"]) == ("flipped", chosen.decision_id.hex())
    assert finding["recorded"] == "ALLOWED"
    assert finding["comes_out"].startswith("OUT_OF_SCOPE at stage scope")
    line = (tmp_path / "audit" / finding["file"]).read_bytes().splitlines()[finding["line"] - 1]
    record = layout.parse(line)
    assert record is not None
    assert (record["n"], record["id"]) == (finding["n"], finding["id"])
    assert invoke("audit", "replay", "--dir", played.folder).code == 0
