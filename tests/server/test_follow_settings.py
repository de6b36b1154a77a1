"""Settings of a host that only follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sessauth.errors import ConfigError
from sessauth.server.cluster.follower_role import require_follower
from sessauth.server.config import from_dict

FOLLOW = {"servers": ["one.internal:7443"], "server_ca": "ca.pem"}


def test_a_follower_has_sockets_workers_audit_and_metrics(tmp_path: Path) -> None:
    """All that a server has, but for what only a server does."""
    config = from_dict(
        {
            "home": str(tmp_path),
            "follow": FOLLOW,
            "server": {"workers": 2},
            "tcp": {"address": "127.0.0.1:0", "insecure_tcp": True},
            "audit": {"enabled": True},
            "usage": {"enabled": True},
            "metrics": {"address": "127.0.0.1:0"},
            "proofs": {"key_lifetime_ms": 900_000},
        }
    )
    require_follower(config)
    assert config.server.workers == 2


@pytest.mark.parametrize(
    ("section", "settings", "knob"),
    [
        ("server", {"keys_dir": "keys"}, "server.keys_dir"),
        ("sessions", {"default_ttl_ms": 60_000}, "sessions.default_ttl_ms"),
        ("evidence", {"receipt_wait_ms": 100}, "evidence.receipt_wait_ms"),
        (
            "cluster",
            {
                "name": "one",
                "address": "one.internal:7443",
                "engine": ["e:2379"],
                "insecure_engine": True,
                "server_ca": "ca.pem",
            },
            "cluster.engine",
        ),
    ],
)
def test_what_only_a_server_does_is_refused(
    tmp_path: Path, section: str, settings: dict[str, Any], knob: str
) -> None:
    """The error names the setting."""
    tcp = {"address": "127.0.0.1:0", "insecure_tcp": True}
    config = from_dict({"home": str(tmp_path), "follow": FOLLOW, "tcp": tcp, section: settings})
    with pytest.raises(ConfigError, match=rf"^{knob}: "):
        require_follower(config)
