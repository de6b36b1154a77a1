"""The server and the credential that the command line finds without options."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from sessauth.server import config as server_config
from sessauth.server.process.control import Control
from tests.cli.conftest import Run, Service, invoke


@pytest.mark.parametrize("by_option", [False, True])
def test_sockets_outside_the_home_folder_are_found(
    run: Run, monkeypatch: pytest.MonkeyPatch, by_option: bool
) -> None:
    """The home folder names socket and credential even if server.run_dir is elsewhere."""
    with tempfile.TemporaryDirectory(prefix="sa-") as folder:
        home, run_dir = Path(folder) / "home", Path(folder) / "sockets"
        assert run("--home", home, "init").code == 0
        (home / "sessauth.toml").write_text(f'[server]\nrun_dir = "{run_dir}"\n')
        control = Control(server_config.load(home))
        control.start()
        try:
            monkeypatch.setenv("SESSAUTH_HOME", str(home if not by_option else Path(folder) / "none"))
            options = ("--home", home) if by_option else ()
            listed = run(*options, "session", "list", "--json")
            assert (listed.code, listed.err) == (0, "")
            assert listed.json["sessions"] == []
            monkeypatch.setenv("SESSAUTH_TARGET", str(run_dir / "nobody.sock"))
            assert run(*options, "session", "list").code == (0 if by_option else 4)
        finally:
            control.stop()


def test_a_refused_credential_is_named(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which file's credential the server refused, and which option names another."""
    with tempfile.TemporaryDirectory(prefix="sa-") as folder:
        wrong = Path(folder, "operator.credential")
        wrong.write_text("sessauth_key_ann_" + "0" * 43)
        wrong.chmod(0o600)
        named = service("--credential-file", wrong, "session", "list")
        monkeypatch.setenv("SESSAUTH_SERVER_RUN_DIR", str(service.home / "run"))
        beside = invoke("--home", folder, "session", "list")
        wrong.unlink()
        monkeypatch.setenv("SESSAUTH_SERVER_RUN_DIR", f"{folder}/run")
        Path(folder, "run").symlink_to(service.home / "run")
        nothing = invoke("--home", folder, "session", "list")

    for ran, sent in ((named, f"that of {wrong}"), (beside, f"that of {wrong}"), (nothing, "none")):
        assert ran.code == 3
        assert ran.err.endswith(f"; sent was {sent} (--credential-file, SESSAUTH_CREDENTIAL_FILE)\n")


def test_a_mistyped_command_is_answered_with_those_alike(run: Run) -> None:
    """An unknown command names the commands that it may have meant, and none where none is alike."""
    assert "No such command 'sesion'. Did you mean 'session'" in run("sesion", "list").err
    assert "No such command 'xyzzy'.\n" in run("xyzzy").err


def test_a_home_that_was_never_made_is_named_with_its_knob(run: Run) -> None:
    """Neither a command nor a start in the wrong home ends without the options that name the home."""
    assert "SESSAUTH_HOME" in run("session", "list").err
    assert "(--home, SESSAUTH_HOME)" in run("serve").err
    assert "audit.enabled" in run("audit", "verify").err
