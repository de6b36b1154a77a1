"""Local changes of the machine are logged, and recorded once in the audit stream."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from sessauth.audit import ocsf
from sessauth.audit.read.query import FolderReader
from sessauth.audit.verify.verify import verify
from sessauth.client import Client
from sessauth.server.config import load
from sessauth.server.process.control import Control
from sessauth.server.process.init import Initialised, initialise
from tests.audit.test_ocsf import assert_valid
from tests.cli.conftest import invoke
from tests.support.recorded import records
from tests.support.service import home_folder, wait_until

FREEZES = ("frozen", "frozen", "thawed")
AUDIT = "[audit]\nenabled = true\nfsync_ms = 50\n"
IDENTITY = '[[identities]]\nname = "edge"\nrole = "gateway"\nuri = "spiffe://x/edge"\n'
CA = '[tcp]\nclient_ca = "ca.pem"\n'


@pytest.fixture
def made() -> Iterator[Initialised]:
    """A home folder with audit."""
    with home_folder() as home:
        found = initialise(home)
        found.config_file.write_text(AUDIT)
        yield found


def _events(made: Initialised) -> list[tuple[Any, ...]]:
    """Return what the audit says of local changes."""
    folder = made.home / "audit"
    found = records(folder, "local") if folder.is_dir() else []
    # Streams are read in no order.
    found.sort(key=lambda each: each["at_ms"])
    return [(each["what"], each.get("name") or each.get("reason")) for each in found]


def _credential(made: Initialised, *arguments: str) -> None:
    ran = invoke("--home", made.home, "credential", *arguments)
    assert ran.code == 0, ran.err


def _brake(made: Initialised, *arguments: str) -> None:
    ran = invoke("--home", made.home, *arguments, "--this-host")
    assert ran.code == 0, ran.err


def _start_and_stop(made: Initialised) -> None:
    control = Control(load(made.home, {}))
    control.start()
    control.stop()


def test_a_running_server_logs_and_records(made: Initialised, caplog: pytest.LogCaptureFixture) -> None:
    """Keys that are added and removed and a brake by hand: a line of the log and a signed record of each."""
    control = Control(load(made.home, {}))
    with caplog.at_level("INFO", "sessauth.server"):
        control.start()
        for step, count in (
            (("add", "gw", "--role", "gateway", "--audience", "mcp"), 2),
            (("remove", "gw"), 3),
        ):
            _credential(made, *step)
            assert wait_until(lambda count=count: len(_events(made)) == count)  # type: ignore[misc]
        _brake(made, "freeze", "--reason", "drill")
        assert wait_until(lambda: len(_events(made)) == 4)
        _brake(made, "thaw")
        assert wait_until(lambda: len(_events(made)) == 5)
        with Client(str(made.socket), credential_file=made.credential_file, timeout_ms=20_000) as client:
            client.freeze("asked")
            client.freeze("again")
            client.thaw()
        assert wait_until(lambda: len(_events(made)) == 8)
        control.stop()

    expected = [
        ("credential_added", "operator"),
        ("credential_added", "gw"),
        ("credential_removed", "gw"),
        ("brake_set", "frozen by hand: drill"),
        ("brake_cleared", "frozen by hand: drill"),
        ("brake_set", "frozen by operator: asked"),
        ("brake_set", "frozen by operator: again"),
        ("brake_cleared", "frozen by operator: again"),
    ]
    logged = [getattr(each, "fields", {}) for each in caplog.records if each.message == "local_change"]
    assert [(each["what"], each.get("name") or each["reason"]) for each in logged] == expected
    assert _events(made) == expected
    assert logged[1] == {"what": "credential_added", "name": "gw", "role": "gateway", "audiences": ["mcp"]}
    assert verify(made.home / "audit").intact
    callers = [(each.message, each.fields["caller"]) for each in caplog.records if each.message in FREEZES]
    assert callers == [(word, "operator") for word in FREEZES]
    actors = [each.get("actor", "") for each in records(made.home / "audit", "local")]
    assert sorted(actors) == [""] * 5 + ["operator"] * 3
    thawed = [each for each in records(made.home / "audit", "local") if each["what"] == "brake_cleared"]
    handed_on = [ocsf.local_event(each)["actor"] for each in thawed]
    assert {"user": {"name": "operator"}} in handed_on and {"app_name": "unknown"} in handed_on


def test_a_freeze_does_not_wait_for_a_disk_that_hangs(
    made: Initialised, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the recorded state is stored, which may take for ever, it goes through; only its record waits."""
    control = Control(load(made.home, {}))
    try:
        local = control.subsystems.local
        with local._lock, local.brake_by("operator"):
            control.writer.brake_by_hand("now")
        assert control.writer.braked == "now"
        local.poll()
        monkeypatch.delattr(local, "_credentials")
        monkeypatch.delattr(local, "_identities")
        with local.brake_by("operator"):
            control.writer.brake_by_hand("again")
        assert b'"actor":"operator"' in local._waiting[-1]
        monkeypatch.undo()
    finally:
        control.stop()


def test_the_next_start_records_what_was_done_without_a_server(made: Initialised) -> None:
    """Each once, over any number of starts; a key that was made anew, a brake that came and went."""
    _start_and_stop(made)
    _start_and_stop(made)
    assert _events(made) == [("credential_added", "operator")]

    _credential(made, "add", "gw", "--role", "gateway")
    _credential(made, "remove", "operator")
    _brake(made, "freeze", "--reason", "night")
    _brake(made, "thaw")
    made.config_file.write_text(AUDIT + CA + IDENTITY)
    _start_and_stop(made)
    _start_and_stop(made)
    _credential(made, "remove", "gw")
    _credential(made, "add", "gw", "--role", "gateway")
    _start_and_stop(made)

    assert _events(made)[1:] == [
        ("credential_added", "gw"),
        ("credential_removed", "operator"),
        ("identity_added", "edge"),
        ("brake_set", "frozen by hand: night"),
        ("brake_cleared", "frozen by hand: night"),
        ("credential_changed", "gw"),
    ]


def test_what_was_recorded_is_not_recorded_again_after_a_kill(made: Initialised) -> None:
    """Changes that a killed server stored as recorded are not recorded again; others are."""
    control = Control(load(made.home, {}))
    control.start()
    kept = made.state_dir / "local.json"
    assert wait_until(kept.exists)
    assert kept.stat().st_mode & 0o777 == 0o600
    text = kept.read_text()
    control.stop()
    kept.write_text(text)
    _start_and_stop(made)
    assert _events(made) == [("credential_added", "operator")]

    kept.write_text("{}")
    _start_and_stop(made)
    assert _events(made) == [("credential_added", "operator")] * 2


def test_without_audit_there_is_a_line_in_the_log(
    made: Initialised, caplog: pytest.LogCaptureFixture
) -> None:
    """Each start logs what was changed since the last one, once."""
    made.config_file.write_text("")
    _start_and_stop(made)
    _credential(made, "add", "gw", "--role", "gateway")
    # An earlier test may have left the logger at this level: then the first start's line is there.
    caplog.clear()
    with caplog.at_level("INFO", "sessauth.server"):
        _start_and_stop(made)
        _start_and_stop(made)

    logged = [getattr(each, "fields", {}) for each in caplog.records if each.message == "local_change"]
    assert [(each["what"], each["name"]) for each in logged] == [("credential_added", "gw")]


def test_local_changes_are_found_and_handed_on(made: Initialised) -> None:
    """``audit query`` shows them, and each is an event of OCSF."""
    _brake(made, "freeze", "--reason", "drill")
    _start_and_stop(made)
    found = [each for each in FolderReader(made.home / "audit").entries() if each.kind == "local"]
    events = [ocsf.event(each, {}) for each in found]

    for event in events:
        assert event is not None
        assert_valid(event)
    assert [event and event["activity_name"] for event in events] == ["Create", "Enable"]
    shown = invoke("--home", made.home, "audit", "query").out
    assert "credential_added" in shown
    assert "brake_set" in shown
