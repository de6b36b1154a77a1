"""The comparison with peers, as far as it can be held without them: work, gates, notes, pins, exit status."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import budgets, workloads
from benchmarks.measure import Measurement
from benchmarks.peers import __main__ as entry
from benchmarks.peers import rows, work
from benchmarks.peers.rows import PEERS
from benchmarks.state_setup import World
from sessauth.reasons import Reason

ROOT = Path(entry.__file__).parents[2]
GATES = budgets.load(entry.BUDGETS)
EXPECTED = {"biscuit-python", "tenuo", "pymacaroons", "PyJWT", "cedarpy"}


def test_all_five_libraries_are_there_and_say_what_is_not_equal() -> None:
    """Each module has a paragraph that begins so, says something, and none stands for another's."""
    assert {peer.package for peer in PEERS} == EXPECTED
    by_package = {peer.package: peer.note for peer in PEERS}

    assert all(note.startswith("Not equal: ") and len(note) > 150 for note in by_package.values())
    assert len(set(by_package.values())) == len(EXPECTED)


def test_the_notes_stand_in_the_documentation() -> None:
    """docs/performance.md has the paragraph of each library."""
    page = " ".join((ROOT / "docs" / "performance.md").read_text("utf-8").split())

    assert all(f"**{package}**: {note}" in page for package, note in rows.notes().items())


def test_every_peer_is_pinned_exactly_and_none_is_a_dependency() -> None:
    """Each line of the requirements is one exact version; the project itself asks for no peer."""
    text = (Path(entry.__file__).parent / "requirements.txt").read_text("utf-8")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    pinned = {line.partition("==")[0].partition("[")[0] for line in lines}
    assert pinned >= EXPECTED
    assert all(line.partition("==")[2].replace(".", "").isdigit() for line in lines)

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    asked = json.dumps([project["project"], project["dependency-groups"]]).lower()
    assert not [name for name in EXPECTED if name.lower() in asked]


def test_the_equal_work_is_the_work_of_our_own_row(live_world: World) -> None:
    """Permissions, conditions and arguments of the peers are those of `warm/root`, so neither can drift."""
    scopes = workloads.eight_scopes()
    states = ", ".join(f'"{state}"' for state in work.STATES)
    conditions = (
        f'owner == "{work.OWNER}" and repo == "{work.REPO}"'
        f" and state in [{states}] and page <= {work.MAX_PAGE}"
    )
    assert len(scopes) == len(work.OTHER_RESOURCES) + 1
    assert [text.split()[0] for text in scopes[:-1]] == [
        f"{work.ACTION}:{resource}/*" for resource in work.OTHER_RESOURCES
    ]
    assert scopes[-1].startswith(f"{work.ACTION}:{work.RESOURCE} where {conditions}")

    (call,) = workloads.root(live_world).calls
    verifier = live_world.verifier()
    for arguments, reason in ((work.ALLOWED, Reason.ALLOWED), (work.DENIED, Reason.CONDITION_FAILED)):
        assert verifier.check(call.token, work.ACTION, work.RESOURCE, arguments).reason is reason


def test_the_gates_are_those_of_the_design() -> None:
    """45 for each library whose tokens are kept, 1 for each that verifies a public key; all from below."""
    kept = {row for row, gate in GATES.items() if gate.floor == "ours/warm-1"}
    cold = set(GATES) - kept

    assert kept == {f"peer/{name}/kept" for name in ("biscuit", "tenuo", "pymacaroons", "cedarpy")}
    assert {row.split("/")[1] for row in cold} == {"biscuit", "tenuo", "pyjwt-eddsa"}
    assert all(gate.gates and gate.at_least >= (45 if row in kept else 1) for row, gate in GATES.items())
    for row in ("peer/biscuit/text", "peer/tenuo/text"):
        assert {f"{row}{work.suffix(blocks)}" for blocks in work.DEPTHS} <= cold
    assert {f"peer/tenuo/text{work.suffix(blocks)}-by-signatures" for blocks in work.DEPTHS} <= cold


def _run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, measured: Sequence[Measurement], *arguments: str
) -> tuple[int, dict[str, Any]]:
    """Run the command with synthetic measurements; returns its status and what it wrote."""
    file = tmp_path / "peers.json"
    monkeypatch.setattr(entry, "_measurements", lambda only, plan: iter(measured))
    status = entry.main(["--json", str(file), *arguments])
    return status, json.loads(file.read_text("utf-8"))


def _at(share: float, *, but: str = "none") -> list[Measurement]:
    """Return each gate's row at so many times its bound, without those of one peer."""
    return [
        Measurement(gate.row, gate.floor, (gate.at_least * share,) * 7, (1.0,) * 7)
        for gate in GATES.values()
        if gate.row.split("/")[1] != but
    ]


def test_peers_that_are_slow_enough_meet_every_gate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At twice the bounds the status is 0; the table has the notes, the file the versions and verdicts."""
    status, result = _run(tmp_path, monkeypatch, _at(2.0), "--require-all")

    assert status == 0 and "every gate met" in (shown := capsys.readouterr().out)
    for package in EXPECTED:
        assert f"- {package}: " in shown and package in result["machine"]["peers"]
    assert {row["verdict"] for row in result["rows"]} == {budgets.MET}
    assert {row["budget_side"] for row in result["rows"]} == {"at_least"}
    assert result["notes"] == rows.notes() and set(result["notes"]) == EXPECTED
