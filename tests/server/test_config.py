from __future__ import annotations

from pathlib import Path

import pytest

from sessauth.errors import ConfigError
from sessauth.server import config as server_config
from sessauth.server import sections
from sessauth.server.config import from_dict, load

CERTIFICATES = '[tcp]\nclient_ca = "ca.pem"\ncertificate = "c"\nprivate_key = "k"\naddress = "h:1"\n'
GATEWAY = '[[identities]]\nname = "{}"\nrole = "gateway"\nuri = "{}"\n'
PRINTED = '[[identities]]\nname = "{}"\nrole = "operator"\nthumbprint = "{}"\n'
PRINT = "sha256:" + "ab" * 32


def test_nothing_configured_serves_on_a_unix_socket(tmp_path: Path) -> None:
    """Without a file the defaults stand, and every folder lies in the home folder."""
    config = load(tmp_path, {})

    assert config.socket == tmp_path / "run" / "sessauth.sock"
    assert config.keys_dir == tmp_path / "keys"
    assert config.tcp.address == ""
    assert config.server.workers == 0


def test_environment_overrides_the_file(tmp_path: Path) -> None:
    """SESSAUTH_<SECTION>_<KEY> replaces what the file says, in the type of the key."""
    (tmp_path / "sessauth.toml").write_text("[server]\nworkers = 1\n[sessions]\nmax_ttl_ms = 7200000\n")

    environment = {"SESSAUTH_SERVER_WORKERS": "3", "SESSAUTH_TCP_INSECURE_TCP": "true"}
    config = load(tmp_path, environment)

    assert config.server.workers == 3
    assert config.tcp.insecure_tcp is True
    assert config.sessions.max_ttl_ms == 7_200_000


def test_home_is_taken_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """SESSAUTH_HOME names the home folder."""
    monkeypatch.setenv("SESSAUTH_HOME", str(tmp_path))

    assert load(environ={}).home == tmp_path


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[servers]\n", "servers"),
        ("[server]\nworker = 1\n", "server.worker"),
        ("[server]\nworkers = true\n", "server.workers"),
        ("[server]\nworkers = 65\n", "server.workers"),
        ('[server]\nlog_level = "LOUD"\n', "server.log_level"),
        ("[server]\nmap_size_bytes = 70368744177665\n", "server.map_size_bytes"),
        ('[tcp]\ninsecure_tcp = true\naddress = "127.0.0.1:99999"\n', "tcp.address"),
        ('[tcp]\ninsecure_tcp = true\ncheck_address = "127.0.0.1"\n', "tcp.check_address"),
        ("server = 3\n", "server"),
        ("[limits]\ncheck_threads = 0\n", "limits.check_threads"),
        ("[sessions]\ndefault_ttl_ms = 90000000\n", "sessions.default_ttl_ms"),
        ('[tcp]\naddress = "0.0.0.0:1"\n', "tcp.certificate"),
        ('[tcp]\naddress = "0.0.0.0:1"\ninsecure_tcp = true\ncertificate = "c"\n', "tcp.insecure_tcp"),
        ('[[identities]]\nname = "a"\nrole = "gateway"\nuri = "spiffe://x"\n', "tcp.client_ca"),
        ('[[identities]]\nname = "a"\nrole = "root"\nuri = "spiffe://x"\n', r"identities\[0\].role"),
        ('[[identities]]\nname = "a"\nrole = "gateway"\n', r"identities\[0\]"),
        ('[[identities]]\nrole = "gateway"\nuri = "u"\n', r"identities\[0\].name"),
        (CERTIFICATES + GATEWAY.format("a", "spiffe"), r"identities\[0\].uri"),
        (CERTIFICATES + GATEWAY.format("a", "sha256:" + "0" * 64), r"identities\[0\].uri"),
        (CERTIFICATES + GATEWAY.format("a\\nb", "spiffe://x"), r"identities\[0\].name"),
        (CERTIFICATES + GATEWAY.format("a\\u0000b", "spiffe://x"), r"identities\[0\].name"),
        (CERTIFICATES + GATEWAY.format("a\\u202eb", "spiffe://x"), r"identities\[0\].name"),
        (CERTIFICATES + GATEWAY.format("sessauth/worker", "spiffe://x"), r"identities\[0\].name"),
        (CERTIFICATES + PRINTED.format("a", "sha256:zz"), r"identities\[0\].thumbprint"),
        (CERTIFICATES + PRINTED.format("a", "0" * 64), r"identities\[0\].thumbprint"),
        (
            CERTIFICATES + GATEWAY.format("a", "spiffe://x") + GATEWAY.format("b", "spiffe://x"),
            r"identities\[1\].uri: is that of identities\[0\]",
        ),
        (
            CERTIFICATES + PRINTED.format("a", PRINT) + PRINTED.format("b", PRINT.replace("ab", "AB")),
            r"identities\[1\].thumbprint: is that of identities\[0\]",
        ),
        (
            CERTIFICATES + GATEWAY.format("a", "spiffe://x") + PRINTED.format("a", PRINT),
            r"identities\[1\].name: is that of identities\[0\]",
        ),
        (
            CERTIFICATES + GATEWAY.format("a", "spiffe://x") + 'audiences = ["a\\nb"]\n',
            r"identities\[0\].audiences",
        ),
        ("file_stamp = [1, 2, 3]\n", "file_stamp"),
        ("[proofs]\nkey_lifetime_ms = 119999\n", "proofs.key_lifetime_ms"),
        ("[proofs]\nreplay_slots = 1000\n", "proofs.replay_slots"),
        ("[proofs]\nreplay_slots = 128\n", "proofs.replay_slots"),
        ("[server\n", "sessauth.toml"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, named: str) -> None:
    """An unknown key, a wrong type and a contradiction are errors that name the key."""
    (tmp_path / "sessauth.toml").write_text(text)

    with pytest.raises(ConfigError, match=named):
        load(tmp_path, {})


def test_a_misspelt_variable_is_an_error(tmp_path: Path) -> None:
    """An unknown key in the environment is refused as one in the file is."""
    with pytest.raises(ConfigError, match=r"server\.worker"):
        load(tmp_path, {"SESSAUTH_SERVER_WORKER": "1"})
    with pytest.raises(ConfigError, match="SESSAUTH_SERVER_WORKERS"):
        load(tmp_path, {"SESSAUTH_SERVER_WORKERS": "two"})


def test_settings_survive_the_way_to_a_worker(tmp_path: Path) -> None:
    """to_dict and from_dict give the same settings."""
    (tmp_path / "sessauth.toml").write_text(
        '[tcp]\nclient_ca = "ca.pem"\ncertificate = "c"\nprivate_key = "k"\naddress = "h:1"\n'
        '[[identities]]\nname = "g"\nrole = "gateway"\nuri = "spiffe://x"\naudiences = ["a", "b"]\n'
    )
    config = load(tmp_path, {})

    assert from_dict(config.to_dict()) == config


def test_the_sample_file_is_at_the_defaults(tmp_path: Path) -> None:
    """The sessauth.toml that init writes changes nothing, and each commented key exists."""
    from sessauth.server.process.init import SAMPLE

    (tmp_path / "sessauth.toml").write_text(SAMPLE)
    assert load(tmp_path, {}) == server_config.Config(home=tmp_path)

    section = ""
    for line in SAMPLE.splitlines():
        bare = line.removeprefix("# ").strip()
        if bare.startswith("["):
            section = bare.split("#")[0].strip().strip("[]")
        elif " = " in bare and section:
            kind = sections.Identity if section == "identities" else server_config.SECTIONS[section]
            assert bare.split(" = ")[0] in kind.__dataclass_fields__, line


@pytest.mark.parametrize(
    "name", ["SESSAUTH_SESSION_MAX_TTL_MS", "SESSAUTH_WORKERS", "SESSAUTH_TLS_CLIENT_CA"]
)
def test_a_misspelt_section_in_the_environment_is_an_error(tmp_path: Path, name: str) -> None:
    """A setting under no section would be a limit that is not there; it is named."""
    with pytest.raises(ConfigError, match=name):
        load(tmp_path, {name: "1"})


def test_other_names_in_the_environment_are_left_alone(tmp_path: Path) -> None:
    """Variables of clients, and of an orchestrator for a service of our name, are no settings."""
    names = ("SESSAUTH_HOME", "SESSAUTH_TARGET", "SESSAUTH_CREDENTIAL_FILE", "SESSAUTH_SERVICE_HOST")
    assert load(tmp_path, dict.fromkeys(names, "x")) == load(tmp_path, {})
