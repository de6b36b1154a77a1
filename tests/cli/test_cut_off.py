"""Cutting off by commands: ``session end`` of many, bans, ``freeze`` and ``thaw``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sessauth.client import Client
from sessauth.errors import StateError, StateUnusable, Unavailable
from sessauth.server.services import cut_off
from tests.support.service import running

from .conftest import Run, Service, invoke, start_service, stop_service

HERE = ("--this-host",)


def opened(service: Service, subject: str, *options: str) -> str:
    """Open a session; return its id."""
    return service(
        "session", "open", "--subject", subject, "--ceiling", "read:x", "--quiet", *options
    ).out.strip()


def test_many_end_in_one_command(service: Service) -> None:
    """A dry run says what would end; the command ends it, refuses new ones, and says what it did."""
    ids = sorted(opened(service, "agent:cut", "--label", f"n={number}") for number in range(3))
    kept = opened(service, "agent:kept")
    chosen = ("session", "end", "--subject", "agent:cut")

    dry = service(*chosen, "--dry-run")
    assert dry.out.splitlines()[-1].startswith("would end 3: 0 tokens in use, 0 calls allowed so far, 0 open")
    assert [line.split()[0] for line in dry.out.splitlines()[1:-1]] == ids
    ran = service(*chosen, "--label", "n=1", "--json").json
    assert (ran["matched"], ran["ended"], ran["remaining"], ran["dry_run"]) == (1, 1, 0, False)
    ran = service(*chosen, "--refuse-new", "10m", "--reason", "leak")
    assert "ended 2; none is allowed from revision" in ran.out
    assert "new ones are refused until" in ran.out
    assert service(*chosen).out == "ended 0; no live session matches the selection\n"
    assert service("session", "get", kept, "--json").json["status"] == "ACTIVE"

    refused = service("session", "open", "--subject", "agent:cut", "--ceiling", "read:x")
    assert (refused.code, "BANNED" in refused.err) == (3, True)
    bans = service("session", "bans").out
    assert "subject agent:cut" in bans and "leak" in bans
    (ban,) = service("session", "bans", "--json").json["bans"]
    assert (ban["subject"], ban["all"], ban["set_by"]) == ("agent:cut", False, "operator")
    assert service("session", "lift-ban", "--subject", "agent:cut").out == "lifted\n"
    assert service("session", "bans").out == "none\n"
    assert service("session", "lift-ban", "--subject", "agent:cut").code == 3
    opened(service, "agent:cut")


def test_the_end_of_one_session_is_previewed(service: Service) -> None:
    """A dry run shows the session, its children and what of it is in use, and ends nothing."""
    parent = opened(service, "agent:boss")
    child = opened(service, "agent:helper", "--parent", parent)
    dry = service("session", "end", parent, "--dry-run")

    assert (dry.code, "agent:boss" in dry.out, f"{child}  agent:helper" in dry.out) == (0, True, True)
    assert dry.out.splitlines()[-1].startswith("would end 2: 0 tokens in use, 0 calls allowed so far, 0 open")
    counted = service("session", "end", parent[:8], "--dry-run", "--json").json
    assert (counted["dry_run"], counted["sessions"], counted["children"]) == (True, 2, [child])
    assert service("session", "get", parent, "--json").json["status"] == "ACTIVE"


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ((), "--subject"),
        (("ab" * 16, "--subject", "a"), "SESSION_ID"),
        (("ab" * 16, "--refuse-new", "10m"), "--refuse-new"),
        (("--all", "--owner", "a"), "--all"),
        (("--all",), "--yes"),
        (("--label", "a=1", "--label", "a=2"), "--label"),
        (("--subject", "a", "--request-id", "b"), "--request-id"),
        (("--subject", "a", "--refuse-new", "10"), "--refuse-new"),
        (("--subject", "x" * 1025), "--subject"),
        (("--subject", "", "--label", "a=1"), "--subject"),
        (("--owner", "", "--subject", "a"), "--owner"),
        (("--subject", "a", "--subject", "b"), "--subject"),
        (("--owner", "a", "--owner", "b"), "--owner"),
        (("--subject", "", "--all", "--yes"), "--subject"),
    ],
)
def test_a_wrong_selection_ends_nothing(service: Service, words: tuple[str, ...], named: str) -> None:
    """It names the option, and leaves with 2 or 3."""
    ran = service("session", "end", *words)
    assert ran.code in (2, 3), ran.out
    assert named in ran.err
    assert not ran.out


def test_an_agents_text_does_not_steer_the_table(service: Service) -> None:
    """Its subject is escaped."""
    opened(service, "a\u202e\u2066b", "--label", "evil=1")
    ran = service("session", "end", "--label", "evil=1")
    assert (ran.code, "\u202e" in ran.out, "\\u202e" in ran.out) == (0, False, True)


def test_the_command_goes_on_until_nothing_remains(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call may end only a part; ``--all`` ends the rest, once somebody said yes."""
    monkeypatch.setattr(cut_off, "ENDS_A_COMMIT", 2)
    monkeypatch.setattr(cut_off, "WORK_SECONDS", 0.0)
    with running() as made:
        here = ("--home", made.made.home, "--timeout-ms", 10_000, "session")
        for subject in "aaaaab":
            ran = invoke(*here, "open", "--subject", subject, "--ceiling", "read:x", "--quiet")
            assert ran.code == 0, ran.err
        ran = invoke(*here, "end", "--subject", "a", "--json")
        assert (ran.json["matched"], ran.json["ended"], len(ran.json["sessions"])) == (5, 5, 5)
        ran = invoke(*here, "end", "--all")
        assert (ran.code, "would end 1 sessions; add --yes" in ran.err) == (2, True)
        assert invoke(*here, "end", "--all", "--yes").out.splitlines()[-1].startswith("ended 1;")


def test_a_call_that_fails_behind_others_leaves_their_number(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning has it; each call has its line in the server's log, the failed one too."""
    monkeypatch.setattr(cut_off, "ENDS_A_COMMIT", 2)
    monkeypatch.setattr(cut_off, "WORK_SECONDS", 0.0)
    end_part, parts = cut_off._end_part, iter((True, False))

    def fail_once(*given: Any, **more: Any) -> Any:
        if not next(parts):
            raise StateError("the disk is full")
        return end_part(*given, **more)

    monkeypatch.setattr(cut_off, "_end_part", fail_once)
    with running() as made:
        here = ("--home", made.made.home, "--timeout-ms", 10_000, "session")
        for _ in range(3):
            assert invoke(*here, "open", "--subject", "a", "--ceiling", "read:x", "--quiet").code == 0
        caplog.clear()
        ran = invoke(*here, "end", "--subject", "a")
    assert ran.code not in (0, 1)
    assert "2 sessions were ended, and stay so; type it again to end the others" in ran.err
    lines = [
        record.__dict__["fields"] for record in caplog.records if record.getMessage() == "sessions_ended"
    ]
    assert [(line["ended"], line["remaining"]) for line in lines] == [(2, 1), (0, 1)]


def unanswered(client: Client) -> None:
    """Fail as a call to a server that went away."""
    raise Unavailable("gone")


def unusable(client: Client, reason: str) -> None:
    """Fail as a server whose credentials can't be read."""
    raise StateUnusable("the server's state is not usable", "STATE_UNUSABLE")


def test_frozen_by_the_server(home: Path) -> None:
    """A server does it where one runs, in its name; with another host's address nothing is done here."""
    service = start_service(home)
    try:
        ran = service("freeze", "--reason", "drill", "--json")
        text = "frozen by operator: drill"
        assert ran.json == {"braked": True, "reason": text, "host": text, "cluster": ""}
        assert not ran.err
        refused = service("session", "open", "--subject", "x", "--ceiling", "read:x")
        assert (refused.code, "FROZEN" in refused.err) == (3, True)
        assert service("freeze", "--show").out == f"FROZEN: {text}\n"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Client, "get_freeze", unanswered)
            ran = invoke("--home", home, "thaw")
            assert (ran.code, "it was done" in ran.err) == (4, True)
            assert invoke("--home", home, "freeze", "--reason", "drill").code == 4
        assert service("freeze", "--show").out == f"FROZEN: {text}\n"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Client, "freeze", unusable)
            ran = invoke("--home", home, "freeze", "--reason", "anyway")
        assert (ran.code, ran.out) == (0, "FROZEN: frozen by hand: anyway\n")
        # One mechanism: by the server or by the folder, each ends the other's.
        assert invoke("--home", home, "thaw", *HERE).out == "not frozen\n"
        opened(service, "x")
        assert invoke("--home", home, "freeze", *HERE).code == 0
        assert service("thaw").out == "not frozen\n"
    finally:
        stop_service(service)
    ran = invoke("--target", home / "run" / "sessauth.sock", "freeze")
    assert ran.code == 4
    ran = invoke("--home", home, "freeze", "--reason", "dead")
    assert (ran.code, ran.out) == (0, "FROZEN: frozen by hand: dead\n")
    assert "this host alone" in ran.err


def test_what_is_denied_for_another_cause_stays_denied(home: Path) -> None:
    """Thawed is said of nothing that still denies; the cause and its remedy are named."""
    from sessauth.state.host.brake import Brake
    from sessauth.state.layout import BRAKE_FILE

    page = Brake(home / "state" / BRAKE_FILE)
    page.set_for_cluster("cluster frozen by desk")
    page.close()
    assert invoke("--home", home, "freeze", *HERE).code == 0
    ran = invoke("--home", home, "thaw", *HERE)
    assert (ran.code, ran.out) == (5, "")
    assert "cluster frozen by desk" in ran.err and "'sessauth thaw' at a server" in ran.err


def test_without_a_service_the_servers_absence_is_said(run: Run) -> None:
    """Neither a server nor a state folder: nothing is made."""
    assert run("freeze").code == 4
    assert run("thaw").code == 4


@pytest.mark.slow
def test_this_host_by_hand(home: Path) -> None:
    """Frozen with a reason, shown, ``state check`` exits with 5; and thawed. No server runs."""
    assert invoke("--home", home, "freeze", "--show", *HERE).out == "not frozen\n"

    assert invoke("--home", home, "freeze", *HERE, "--reason", "odd").code == 0
    assert invoke("--home", home, "freeze", "--show", *HERE).out == "FROZEN: frozen by hand: odd\n"
    assert invoke("--home", home, "state", "check").code == 5

    assert invoke("--home", home, "thaw", *HERE, "--json").json == {
        "braked": False,
        "reason": "",
        "host": "",
        "cluster": "",
    }
    assert invoke("--home", home, "state", "check").code == 0


@pytest.mark.parametrize(
    "settings", ["[server\n", "[server]\nworker = 1\n", "[limits]\ncheck_threads = 0\n", "[nonsense]\n"]
)
def test_wrong_settings_do_not_keep_anybody_from_freezing(home: Path, settings: str) -> None:
    """Frozen and thawed in the state folder that is known all the same; what is wrong is on stderr."""
    (home / "sessauth.toml").write_text(settings)

    ran = invoke("--home", home, "freeze", "--reason", "now")
    assert (ran.code, ran.out) == (0, "FROZEN: frozen by hand: now\n")
    assert "settings are wrong" in ran.err
    assert str(home / "state") in ran.err
    assert invoke("--home", home, "thaw").out == "not frozen\n"


def test_the_folder_of_wrong_settings_is_the_one_that_they_name(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stated folder is used where it can be read; where it can not, --state is asked for."""
    (home / "state").rename(tmp_path / "elsewhere")
    stated = f'state_dir = "{tmp_path / "elsewhere"}"\n'

    (home / "sessauth.toml").write_text(f"[server]\n{stated}worker = 1\n")
    assert invoke("--home", home, "freeze").code == 0
    (home / "sessauth.toml").write_text(f"[server\n{stated}")
    unknown = invoke("--home", home, "thaw", *HERE)
    assert (unknown.code, "--state" in unknown.err) == (2, True)
    assert invoke("--home", home, "freeze", "--show", "--state", tmp_path / "elsewhere").out.startswith(
        "FROZEN"
    )
    monkeypatch.setenv("SESSAUTH_SERVER_STATE_DIR", str(tmp_path / "elsewhere"))
    assert invoke("--home", home, "thaw").out == "not frozen\n"


def test_the_brake_of_a_failed_write_is_released_by_a_probe(home: Path) -> None:
    """A brake that a failed write set is released by a write that succeeds."""
    from sessauth.state.host.brake import Brake
    from sessauth.state.layout import BRAKE_FILE

    page = Brake(home / "state" / BRAKE_FILE)
    page.engage("input/output error")
    page.close()

    assert invoke("--home", home, "freeze", "--show", *HERE).out.startswith("DENIED: input/output error")
    assert invoke("--home", home, "thaw", *HERE).code == 0
    assert invoke("--home", home, "freeze", "--show", *HERE).out == "not frozen\n"


@pytest.mark.slow
def test_a_brake_that_is_missing_is_made_anew_set(home: Path) -> None:
    """Check and serve say what to type; typed, every check denies until a person releases it."""
    (home / "state" / "brake").unlink()
    for command in (("state", "check"), ("serve",), ("freeze", "--show", *HERE)):
        ran = invoke("--home", home, *command)
        assert ran.code == 5 and "sessauth freeze --this-host" in ran.err

    assert invoke("--home", home, "freeze", *HERE, "--reason", "it was lost").code == 0
    assert invoke("--home", home, "state", "check").code == 5
    assert invoke("--home", home, "thaw").out == "not frozen\n"
    assert invoke("--home", home, "state", "check").code == 0


@pytest.mark.parametrize("reason", ["a\x1b[2Jb", "a\u202eb", "a\nb", "a\udcffb", "é" * 129])
def test_a_reason_that_can_not_be_shown_freezes_nothing(home: Path, reason: str) -> None:
    """Without a server too: it names the option, and the page holds no such text."""
    ran = invoke("--home", home, "freeze", *HERE, "--reason", reason)
    assert (ran.code, "--reason" in ran.err) == (2, True)
    assert invoke("--home", home, "freeze", "--show", *HERE).out == "not frozen\n"
