"""deploy/sessauth.toml: the server takes it, and it says what each line is for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sessauth.errors import ConfigError
from sessauth.server.config import load
from tests.support.tree import ROOT

SAMPLE = ROOT / "deploy" / "sessauth.toml"


def test_the_server_takes_the_sample(tmp_path: Path) -> None:
    """Its values are what the file says: TLS with client certificates, workers, an audit."""
    (tmp_path / "sessauth.toml").write_text(SAMPLE.read_text("utf-8"))
    config = load(tmp_path)

    assert config.server.workers == 2
    assert config.mutual_tls and config.tcp.check_address
    assert config.audit.enabled and config.audit.keep_days == 400 and not config.usage.enabled
    assert [identity.role for identity in config.identities] == ["issuer"]


def test_a_misspelt_key_is_refused(tmp_path: Path) -> None:
    """So that the test above means something."""
    (tmp_path / "sessauth.toml").write_text(SAMPLE.read_text("utf-8").replace("workers =", "worker ="))
    with pytest.raises(ConfigError, match="worker"):
        load(tmp_path)


def test_each_line_says_what_it_is_for() -> None:
    """Every setting has a comment."""
    lines = [line for line in SAMPLE.read_text("utf-8").splitlines() if re.match(r"\w+ =", line)]

    assert len(lines) > 15
    assert [line for line in lines if not re.search(r" # \S.{10,}$", line)] == []


def test_a_source_archive_holds_the_folder() -> None:
    """A host is installed from it, where there is no checkout."""
    assert "graft deploy" in (ROOT / "MANIFEST.in").read_text("utf-8").splitlines()
