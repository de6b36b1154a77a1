from __future__ import annotations

from pathlib import Path

import pytest

from .conftest import Run, Service, invoke, start_service, stop_service

# The package reads the state in a process of its own.
pytestmark = pytest.mark.slow


def test_init_says_where_everything_is_and_overwrites_nothing(home: Path) -> None:
    """Init names its folders and files; a second one is refused and changes nothing."""
    before = (home / "operator.credential").read_bytes()

    again = invoke("--home", home, "init")

    assert again.code == 2
    assert "initialised before" in again.err
    assert (home / "operator.credential").read_bytes() == before


def test_init_answers_in_json(tmp_path: Path) -> None:
    """The JSON of init names each place, and holds no secret."""
    ran = invoke("--home", tmp_path / "h", "init", "--json")

    assert set(ran.json) == {"home", "configuration", "state", "keys", "issuer_key", "credential", "socket"}
    assert "sessauth_key_" not in ran.out
    assert Path(ran.json["credential"]).stat().st_mode & 0o777 == 0o600


def test_check_reads_the_whole_state(home: Path) -> None:
    """A sound state is described with its cluster and counts, exit code 0."""
    ran = invoke("--home", home, "state", "check", "--json")

    assert ran.code == 0
    assert (ran.json["keys"], ran.json["sessions"], ran.json["braked"]) == (1, 0, False)
    assert len(ran.json["cluster_id"]) == 32


@pytest.mark.parametrize(
    ("damage", "word"),
    [
        (lambda state: (state / "data.mdb").write_bytes(b"not lmdb" * 1000), "FOREIGN"),
        (lambda state: (state / "data.mdb").write_bytes(b""), "EMPTY"),
        (lambda state: state.chmod(0o777), "WRONG_MODE"),
        (lambda state: (state / "data.mdb").unlink(), "MISSING"),
    ],
)
def test_unusable_state_exits_with_5(home: Path, damage: object, word: str) -> None:
    """A folder that can't be served from is named by its word, exit code 5, by check and by serve."""
    damage(home / "state")  # type: ignore[operator]

    for command in (("state", "check"), ("serve",)):
        ran = invoke("--home", home, *command, "--json")
        assert (ran.code, ran.out) == (5, "")
        assert f'"word": "{word}"' in ran.err


def test_no_service_is_said(run: Run) -> None:
    """Commands on the files of a service that was never initialised say so, exit code 5."""
    for command in (("state", "check"), ("freeze", "--this-host"), ("credential", "list"), ("serve",)):
        ran = run(*command)
        assert (ran.code, ran.out) == (5, "")
        assert "init" in ran.err


def test_a_stale_state_is_reported(home: Path) -> None:
    """A freshness bound that passed makes check exit with 5; one ahead does not."""
    from sessauth.clock import SystemClock
    from sessauth.state.host.brake import Brake

    follower = Brake(home / "state" / "brake")
    assert invoke("--home", home, "state", "check", "--json").json["stale"] is False
    follower.deny_now()
    ran = invoke("--home", home, "state", "check", "--json")
    assert (ran.code, ran.json["stale"], ran.json["braked"]) == (5, True, False)
    follower.fresh_until(SystemClock().steady_ms() + 30_000)
    assert invoke("--home", home, "state", "check").code == 0
    follower.close()


def test_backup_and_restore_end_every_session(home: Path, tmp_path: Path) -> None:
    """A backup of a running server is restored once it is stopped, and every session has ended."""
    service = start_service(home)
    opened = service("session", "open", "--subject", "x", "--ceiling", "read:x", "--json").json
    backup = tmp_path / "backup"
    copied = service("state", "backup", backup, "--json")
    busy = service("state", "restore", backup)
    stop_service(service)

    restored = invoke("--home", home, "state", "restore", backup)
    assert (copied.code, busy.code, restored.code) == (0, 5, 0)
    assert "stop that server first" in busy.err
    assert "every session has ended" in restored.out

    service = start_service(home)
    after = service("session", "get", opened["id"], "--json").json
    stop_service(service)
    assert (after["status"], after["end_cause"]) == ("ENDED", "RESTORED")


def test_backup_needs_a_new_folder(home: Path, tmp_path: Path) -> None:
    """A backup is never written over something."""
    ran = invoke("--home", home, "state", "backup", tmp_path)

    assert ran.code == 5
    assert "exists already" in ran.err


def test_restore_of_no_backup(home: Path, tmp_path: Path) -> None:
    """A folder that is no backup is refused, and the state stays."""
    ran = invoke("--home", home, "state", "restore", tmp_path)

    assert ran.code == 5
    assert invoke("--home", home, "state", "check").code == 0


def test_credential_that_can_not_be_written_is_not_kept(home: Path, tmp_path: Path) -> None:
    """A credential whose secret can't be handed over does not exist."""
    taken = tmp_path / "taken"
    taken.write_text("mine")

    ran = invoke("--home", home, "credential", "add", "gw", "--role", "gateway", "--out", taken)

    assert ran.code == 2
    assert taken.read_text() == "mine"
    assert "gw" not in invoke("--home", home, "credential", "list").out


def test_server_of_a_home_is_found_without_configuration(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client finds socket and credential by SESSAUTH_HOME alone."""
    service: Service = start_service(home)
    monkeypatch.setenv("SESSAUTH_HOME", str(home))

    listed = invoke("keys", "list", "--json")
    stop_service(service)

    assert listed.code == 0
    assert len(listed.json["keys"]) == 1
