from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Run, Service, invoke, start_service, stop_service


@pytest.fixture
def home() -> Iterator[Path]:
    """Give an initialised home folder with a short path."""
    with tempfile.TemporaryDirectory(prefix="sessauth-") as folder:
        home = Path(folder) / "home"
        assert invoke("--home", home, "init").code == 0
        yield home


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
    for command in (("state", "check"), ("state", "brake"), ("credential", "list"), ("serve",)):
        ran = run(*command)
        assert (ran.code, ran.out) == (5, "")
        assert "init" in ran.err


def test_brake_by_hand(home: Path) -> None:
    """The brake is set with a reason, shown, makes check exit with 5, and is cleared."""
    assert invoke("--home", home, "state", "brake").out == "not set\n"

    assert invoke("--home", home, "state", "brake", "--set", "--reason", "odd").code == 0
    assert invoke("--home", home, "state", "brake").out == "SET: set by hand: odd\n"
    assert invoke("--home", home, "state", "check").code == 5

    assert invoke("--home", home, "state", "brake", "--clear", "--json").json == {
        "braked": False,
        "reason": "",
    }
    assert invoke("--home", home, "state", "check").code == 0


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


@pytest.mark.parametrize(
    "settings", ["[server\n", "[server]\nworker = 1\n", "[limits]\ncheck_threads = 0\n", "[nonsense]\n"]
)
def test_wrong_settings_do_not_keep_the_brake_from_being_set(home: Path, settings: str) -> None:
    """Set, shown and cleared in the state folder that is known all the same; what is wrong is on stderr."""
    (home / "sessauth.toml").write_text(settings)

    ran = invoke("--home", home, "state", "brake", "--set", "--reason", "now")
    assert (ran.code, ran.out) == (0, "SET: set by hand: now\n")
    assert "settings are wrong" in ran.err
    assert str(home / "state") in ran.err
    assert invoke("--home", home, "state", "brake", "--clear").out == "not set\n"


def test_the_brake_of_wrong_settings_is_that_of_their_state_folder(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stated folder is used where it can be read; where it can not, --state is asked for."""
    (home / "state").rename(tmp_path / "elsewhere")
    stated = f'state_dir = "{tmp_path / "elsewhere"}"\n'

    (home / "sessauth.toml").write_text(f"[server]\n{stated}worker = 1\n")
    assert invoke("--home", home, "state", "brake", "--set").code == 0
    (home / "sessauth.toml").write_text(f"[server\n{stated}")
    unknown = invoke("--home", home, "state", "brake", "--clear")
    assert (unknown.code, "--state" in unknown.err) == (2, True)
    assert invoke("--home", home, "state", "brake", "--state", tmp_path / "elsewhere").out.startswith("SET")
    monkeypatch.setenv("SESSAUTH_SERVER_STATE_DIR", str(tmp_path / "elsewhere"))
    assert invoke("--home", home, "state", "brake", "--clear").out == "not set\n"


def test_brake_of_a_failed_write_is_cleared_by_a_probe(home: Path) -> None:
    """A brake that a failed write set is released by a write that succeeds."""
    from sessauth.state.host.brake import Brake
    from sessauth.state.layout import BRAKE_FILE

    page = Brake(home / "state" / BRAKE_FILE)
    page.engage("input/output error")
    page.close()

    assert "input/output error" in invoke("--home", home, "state", "brake").out
    assert invoke("--home", home, "state", "brake", "--clear").code == 0
    assert invoke("--home", home, "state", "brake").out == "not set\n"


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


def test_a_brake_that_is_missing_is_made_anew_set(home: Path) -> None:
    """Check and serve say what to type; typed, every check denies until a person releases it."""
    (home / "state" / "brake").unlink()
    for command in (("state", "check"), ("serve",), ("state", "brake")):
        ran = invoke("--home", home, *command)
        assert ran.code == 5 and "sessauth state brake --set" in ran.err

    assert invoke("--home", home, "state", "brake", "--set", "--reason", "it was lost").code == 0
    assert invoke("--home", home, "state", "check").code == 5
    assert invoke("--home", home, "state", "brake", "--clear").out == "not set\n"
    assert invoke("--home", home, "state", "check").code == 0
