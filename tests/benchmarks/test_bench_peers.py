"""The comparison with peers, as far as it can be held without them: work, gates, notes, pins, exit status."""

from __future__ import annotations

import json
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks import budgets, workloads
from benchmarks.measure import Measurement, Row, not_measured
from benchmarks.peers import __main__ as entry
from benchmarks.peers import ours, pyjwt, pymacaroons, rows, work
from benchmarks.peers.rows import PEERS, Peer
from benchmarks.peers.work import Form
from benchmarks.state_setup import World
from benchmarks.workloads import WrongDecision
from sessauth.reasons import Reason

ROOT = Path(entry.__file__).parents[2]
GATES = budgets.load(entry.BUDGETS)
PARSED = json.loads(work.ALLOWED)
EXPECTED = {"biscuit-python", "tenuo", "pymacaroons", "PyJWT", "cedarpy"}


class Refused(Exception):
    """A denial by a library."""


def a_form(**changes: Any) -> Form:
    """A peer that allows what its token names, up to page 10, and is raised at by everything else."""

    def call(token: str, arguments: dict[str, Any]) -> bool:
        if token != "good" or arguments["page"] > 10:
            raise Refused
        return True

    values: dict[str, Any] = {
        "name": "parse",
        "blocks": 1,
        "signatures": 1,
        "token_bytes": 4,
        "about_us": 100,
        "tokens": ["good", "good"],
        "call": call,
        "refusals": (Refused,),
        "stranger": "made by another key",
    }
    return Form(**(values | changes))


def test_all_five_libraries_are_there_and_say_what_is_not_equal() -> None:
    """Each module has a paragraph that begins so, says something, and none stands for another's."""
    assert {peer.package for peer in PEERS} == EXPECTED
    by_package = {peer.package: peer.note for peer in PEERS}

    assert all(note.startswith("Not equal: ") and len(note) > 150 for note in by_package.values())
    assert len(set(by_package.values())) == len(EXPECTED)


def test_a_module_that_keeps_silent_about_it_is_refused() -> None:
    """A peer without the paragraph can't be listed."""
    with pytest.raises(ValueError, match="not equal"):
        _ = Peer("work", "benchmarks.peers.work").note


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


def test_our_rows_have_the_depth_that_they_are_named_for(live_world: World) -> None:
    """`named` gives warm and cold rows, each once; cold tokens are all different."""
    mine = ours.Ours(live_world)

    assert mine.named("ours/warm-1") is mine.named("ours/warm-1")
    for name, depth in (("ours/warm-2", 2), ("ours/cold-3", 3)):
        subject = mine.named(name)
        items = subject.prepare(2)
        subject.run(items)
        assert subject.name == name
        assert {len(token) for token, *_ in items} == {
            len(call.token) for call in workloads.chain(live_world, depth).calls
        }
    with pytest.raises(KeyError):
        mine.named("ours/tepid-1")


def test_a_form_that_decides_as_it_must_is_timed_by_fresh_calls() -> None:
    """Every call of a block has its own request; the row is named for peer and form."""
    subject = a_form().subject("x")
    items = subject.prepare(3)

    assert subject.name == "peer/x/parse" and subject.calls == work.BLOCK_US // 100
    assert [item[1] for item in items] == [PARSED] * 3
    assert len({id(item[1]) for item in items}) == 3
    subject.run(items)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tokens": ["good", "bad"]}, "the call was denied"),
        ({"call": lambda token, arguments: token == "good"}, "a changed argument was allowed"),
        ({"call": lambda token, arguments: arguments["page"] <= 10}, "an unknown key was allowed"),
    ],
)
def test_a_form_that_decides_otherwise_is_not_timed(changes: dict[str, Any], words: str) -> None:
    """A denial, a changed argument that is allowed and a stranger's token that is allowed stop the run."""
    with pytest.raises(WrongDecision, match=f"x/parse: .*{words}"):
        a_form(**changes).subject("x")


def test_a_timed_call_that_is_denied_stops_the_run() -> None:
    """Timed calls are allowed, also where a library denies by False instead of an exception."""
    answers = iter([True, False, True, False])
    form = a_form(tokens=["good"], stranger=None, call=lambda token, arguments: next(answers))
    subject = form.subject("x")

    with pytest.raises(WrongDecision, match="a timed call was denied"):
        subject.run(subject.prepare(2))


def test_an_exception_that_is_no_refusal_is_not_taken_for_one() -> None:
    """Only what the library raises to deny counts as a denial."""
    with pytest.raises(ZeroDivisionError):
        a_form(call=lambda token, arguments: 1 // 0).subject("x")


def test_each_form_is_compared_with_our_row_of_as_many_blocks_and_of_as_many_signatures() -> None:
    """Kept with warm, parsed with cold; a proof on top adds a row against our longer chain."""
    assert list(rows.floors_of(a_form(name="kept-chain-2", blocks=2))) == [("", "ours/warm-2")]
    assert list(rows.floors_of(a_form(blocks=4, signatures=4))) == [("", "ours/cold-4")]
    assert list(rows.floors_of(a_form(blocks=1, signatures=0))) == [("", "ours/cold-1")]
    assert list(rows.floors_of(a_form(blocks=2, signatures=3))) == [
        ("", "ours/cold-2"),
        ("-by-signatures", "ours/cold-3"),
    ]


def test_rows_carry_their_floor_and_what_they_work_on(live_world: World) -> None:
    """The rows of a peer name their floors, and their further figures are those of their own form."""
    mine = ours.Ours(live_world)
    forms = [a_form(signatures=2), a_form(name="kept", signatures=0, token_bytes=7)]
    made = list(rows.rows(Peer("x", "benchmarks.peers.work"), forms, mine.named))

    assert [(row.subject.name, row.floor and row.floor.name) for row in made] == [
        ("peer/x/parse", "ours/cold-1"),
        ("peer/x/parse-by-signatures", "ours/cold-2"),
        ("peer/x/kept", "ours/warm-1"),
    ]
    assert [row.extra and row.extra()["token bytes"] for row in made] == [4, 4, 7]


def test_the_gates_are_those_of_the_design() -> None:
    """45 for each library whose tokens are kept, 1 for each that verifies a public key; all from below."""
    kept = {row for row, gate in GATES.items() if gate.floor == "ours/warm-1"}
    cold = set(GATES) - kept

    assert kept == {f"peer/{name}/kept" for name in ("biscuit", "tenuo", "pymacaroons", "cedarpy")}
    assert {row.split("/")[1] for row in cold} == {"biscuit", "tenuo", "pyjwt-eddsa"}
    assert all(gate.gates and gate.at_least >= (45 if row in kept else 1) for row, gate in GATES.items())
    for row in ("peer/biscuit/parse", "peer/tenuo/parse"):
        assert {f"{row}{work.suffix(blocks)}" for blocks in work.DEPTHS} <= cold
    assert {f"peer/tenuo/parse{work.suffix(blocks)}-by-signatures" for blocks in work.DEPTHS} <= cold


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


def test_a_missed_gate_is_named_and_fails_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At half the bounds the status is 1 and each gate has its line."""
    status, _ = _run(tmp_path, monkeypatch, _at(0.5))

    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("budget missed: ")]
    assert status == 1
    assert [line.split(": ")[1] for line in lines] == list(GATES)


@pytest.mark.parametrize(("arguments", "expected"), [((), 0), (("--require-all",), 1)])
def test_a_peer_that_is_not_installed_is_shown_and_fails_only_where_all_are_required(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    expected: int,
) -> None:
    """Its row says why, a line on stderr too, and its gates are no further misses."""
    measured = [*_at(2.0, but="tenuo"), not_measured("peer/tenuo/all", "", "not installed: no module")]
    status, result = _run(tmp_path, monkeypatch, measured, *arguments)

    shown = capsys.readouterr()
    assert status == expected
    assert "not measured: not installed: no module" in shown.out
    assert shown.err.splitlines() == ["peer not measured: tenuo: not installed: no module"]
    assert result["rows"][-1]["missing"]


def test_a_gate_whose_row_was_dropped_fails_a_whole_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A peer that is installed and has no row does not take its gate along; --only is told apart."""
    measured = _at(2.0)[1:]

    assert _run(tmp_path, monkeypatch, measured)[0] == 1
    assert f"{next(iter(GATES))}: has a budget and was not measured" in capsys.readouterr().err
    assert _run(tmp_path, monkeypatch, measured, "--only", "tenuo")[0] == 0


@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_each_peer_is_reported_missing_where_its_library_is(
    peer: Peer, live_world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Importing its module needs nothing; loading its forms without the library gives the one row."""
    module = sys.modules.get(peer.module) or __import__(peer.module, fromlist=["MODULE"])
    monkeypatch.setitem(sys.modules, module.MODULE, None)

    (row,) = entry._rows_of(peer, ours.Ours(live_world))

    assert not isinstance(row, Row)
    assert row.name == f"peer/{peer.name}/all" and row.missing.startswith("not installed: ")


@pytest.mark.parametrize(
    ("change", "expected"),
    [({}, True), ({"page": 11}, False), ({"owner": "other"}, False), ({"state": "merged"}, False)],
)
def test_the_conditions_that_are_ours_to_judge_are_judged(change: dict[str, Any], expected: bool) -> None:
    """JWT claims have no evaluator but this: all four conditions of the permission that fits must hold."""
    assert pyjwt.permits(pyjwt._claims(), PARSED | change) is expected
    assert not pyjwt.permits({"permissions": []}, PARSED)


@pytest.mark.parametrize(
    ("caveat", "expected"),
    [
        ("state in open,closed", True),
        ("state in closed", False),
        ("page <= 10", True),
        ("page <= 2", False),
        ("per_page <= 49", False),
        (f"permits read:other,{pymacaroons.ASKED}", True),
        ("permits read:other", False),
        ("expires 1", False),
        ("expires 99999999999", True),
        ("owner = acme", False),
        ("anything else", False),
    ],
)
def test_a_caveat_that_is_not_understood_does_not_hold(caveat: str, expected: bool) -> None:
    """The function that judges a macaroon's caveats knows its own and denies the rest."""
    assert pymacaroons.holds(caveat, PARSED) is expected
