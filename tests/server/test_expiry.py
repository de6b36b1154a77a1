"""Certificates that end soon are logged, at 30, 7 and 1 days, and when they ended."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from sessauth.clock import FixedClock
from sessauth.server.config import from_dict
from sessauth.server.keys.certificates import DAY_S, ExpiryWatch, stated_certificates
from tests.support.tls_pair import CA, SERVER_PAIR

HOUR_MS = 3_600_000
DAY_MS = DAY_S * 1000


def _watched(folder: Path, days: int) -> tuple[ExpiryWatch, FixedClock]:
    (folder / "server.pem").write_bytes(SERVER_PAIR.pem)
    (folder / "server.key").write_bytes(SERVER_PAIR.key_pem)
    tcp = {"address": "localhost:0", "certificate": "server.pem", "private_key": "server.key"}
    config = from_dict({"home": str(folder), "tcp": tcp})
    ends_ms = int(SERVER_PAIR.certificate.not_valid_after_utc.timestamp() * 1000)
    clock = FixedClock(ends_ms - days * DAY_MS + HOUR_MS)
    return ExpiryWatch(config, clock), clock


def test_each_mark_is_logged_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Polled every hour for 40 days."""
    watch, clock = _watched(tmp_path, 40)

    for _ in range(41 * 24):
        watch.poll()
        clock.advance(HOUR_MS)

    lines = [(record.message, record.levelno, record.fields["days_left"]) for record in caplog.records]  # type: ignore[attr-defined]
    assert lines == [
        ("certificate_ends", logging.WARNING, 29),
        ("certificate_ends", logging.WARNING, 6),
        ("certificate_ends", logging.WARNING, 0),
        ("certificate_expired", logging.ERROR, -1),
    ]
    assert caplog.records[0].fields["setting"] == "tcp.certificate"  # type: ignore[attr-defined]


def test_another_certificate_begins_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A new file is watched as one that was never logged; one that can't be read is no end."""
    watch, clock = _watched(tmp_path, 5)
    watch.poll()
    other = CA.issue("localhost", days=(-1, 2))
    (tmp_path / "server.pem").write_bytes(other.pem)
    (tmp_path / "server.key").write_bytes(other.key_pem)

    clock.advance(HOUR_MS)
    watch.poll()
    (tmp_path / "server.pem").write_bytes(b"")
    clock.advance(HOUR_MS)
    watch.poll()

    assert [record.message for record in caplog.records] == ["certificate_ends", "certificate_ends"]


def test_every_stated_certificate_is_read(tmp_path: Path) -> None:
    """Those of [tcp], [cluster] and [follow], with their CA files; a key that does not fit is said."""
    for name, data in (
        ("ca.pem", CA.pem),
        ("a.pem", SERVER_PAIR.pem),
        ("a.key", SERVER_PAIR.key_pem),
        ("b.key", CA.key_pem),
    ):
        (tmp_path / name).write_bytes(data)
    sections = {
        "tcp": {"address": "a:1", "certificate": "a.pem", "private_key": "a.key", "client_ca": "ca.pem"},
        "follow": {"certificate": "a.pem", "private_key": "b.key", "server_ca": "none.pem"},
    }

    found = {
        each.setting: each for each in stated_certificates(from_dict({"home": str(tmp_path), **sections}))
    }

    assert {setting for setting, each in found.items() if not each.problem} == {
        *("tcp.certificate", "tcp.client_ca")
    }
    assert found["tcp.certificate"].ends_s == int(SERVER_PAIR.certificate.not_valid_after_utc.timestamp())
    assert "mismatch" in found["follow.certificate"].problem.lower()
    assert "none.pem: No such file" in found["follow.server_ca"].problem
