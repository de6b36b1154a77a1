"""``sessauth credential`` on the folder of a service that does not run."""

from __future__ import annotations

from pathlib import Path

from tests.cli.conftest import Run

IDENTITY = """
[tcp]
address = "127.0.0.1:0"
certificate = "c"
private_key = "k"
client_ca = "ca"
[[identities]]
name = "twin"
role = "gateway"
uri = "spiffe://x/twin"
"""


def test_the_name_of_a_certificate_is_taken(run: Run, tmp_path: Path) -> None:
    """An API key can't have the name of a configured certificate: the server would not start any more."""
    assert run("init").code == 0
    (tmp_path / "home" / "sessauth.toml").write_text(IDENTITY)

    refused = run("credential", "add", "twin", "--role", "gateway")

    assert refused.code == 2
    assert "twin is the name of a certificate in [[identities]]" in refused.err
    assert "twin" not in run("credential", "list").out
