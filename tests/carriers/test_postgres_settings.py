"""Settings of a cluster over PostgreSQL: what is refused, and that no message has a password."""

from __future__ import annotations

import secrets
import sys

import pytest

from sessauth.carriers.postgres.postgres_carrier import PostgresCarrier
from sessauth.carriers.postgres.session import hosts
from sessauth.errors import ConfigError
from sessauth.server.config import Config, from_dict
from tests.support.interop_server import free_port
from tests.support.log_writer import START, UNKNOWN, digest

# No password of anybody.
WORD = "hunter" + "-two"
VERIFIED = "sslmode=verify-full&sslrootcert=/tls/ca.pem"


def settings(*engine: str, **more: object) -> Config:
    """Return the settings of a server with this engine."""
    cluster = {"name": "one", "address": "h:1", "server_ca": "ca", "engine": list(engine), **more}
    return from_dict({"tcp": {"address": "h:1", "insecure_tcp": True}, "cluster": cluster})


def test_a_uri_of_postgresql_is_an_engine() -> None:
    """TLS verifies the certificate, unless the settings permit less."""
    for scheme in ("postgresql", "postgres"):
        assert settings(f"{scheme}://u@h1,h2/db?{VERIFIED}").cluster.postgres
    assert settings("postgresql://u@h/db", insecure_engine=True).cluster.postgres
    assert not settings("h:2379", insecure_engine=True).cluster.postgres


@pytest.mark.parametrize(
    ("engine", "more", "message"),
    [
        ((f"postgresql://u:{WORD}@h/db?{VERIFIED}",), {}, "password file"),
        ((f"postgresql://u@h/db?{VERIFIED}&password={WORD}",), {}, "password file"),
        ((f"postgresql://u@h/db?{VERIFIED}&pass%77ord={WORD}",), {}, "password file"),
        ((f"postgresql://u@h/db?{VERIFIED}&sslpassword={WORD}",), {}, "password file"),
        ((f"postgresq://u:{WORD}@h/db",), {"insecure_engine": True}, "HOST:PORT"),
        (("postgresql://u@h/db",), {}, "verify-full"),
        (("postgresql://u@h/db?sslmode=require",), {}, "verify-full"),
        ((f"postgresql://u@h/db?{VERIFIED}", "postgresql://u@g/db"), {}, "one URI"),
        ((f"postgresql://u@h/db?{VERIFIED}", "h:2379"), {}, "one URI"),
        ((f"postgresql://u@h/db?{VERIFIED}",), {"engine_ca": "ca.pem"}, "sslrootcert"),
        (("h:2379",), {"insecure_engine": True, "engine_without_standby": True}, "PostgreSQL alone"),
    ],
)
def test_other_settings_are_refused(engine: tuple[str, ...], more: dict[str, object], message: str) -> None:
    """The message names the setting and has nothing of a password."""
    with pytest.raises(ConfigError, match=message) as refused:
        settings(*engine, **more)

    assert "cluster.engine" in str(refused.value)
    assert WORD not in str(refused.value)


@pytest.mark.parametrize(
    "uri",
    [
        f"postgresql://u:{WORD}@h/db?{VERIFIED}",
        f"postgresql://u@h/db?{VERIFIED}&ssl=true",
        f"postgresql://u@h:p:{WORD}/db?{VERIFIED}",
        f"postgresql://u@h/db?{VERIFIED}&unknown={WORD}",
        f"postgresql://u@h1,h2:1,h3:2/db?{VERIFIED}&port=1,2",
    ],
)
def test_the_carrier_judges_what_libpq_reads(uri: str) -> None:
    """Its own parser reads the URI, and its text is left out."""
    with pytest.raises(ConfigError) as refused:
        hosts(uri, insecure=False)

    assert WORD not in str(refused.value)


def test_each_host_is_one_to_connect_to() -> None:
    """Each has its own port, takes writes, and is reached by TLS alone."""
    found = hosts(f"postgresql://u@h1:1,h2:2/d%27b?{VERIFIED}", insecure=False)

    assert [b"host='h1'" in text and b"port='1'" in text for text in found] == [True, False]
    assert [b"host='h2'" in text and b"port='2'" in text for text in found] == [False, True]
    for text in found:
        for expected in (b"dbname='d\\'b'", b"gssencmode='disable'", b"target_session_attrs='read-write'"):
            assert expected in text
    assert len(hosts("postgresql:///db?host=/run/postgresql", insecure=True)) == 1
    assert len(hosts("postgresql://", insecure=True)) == 1


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing else of the server needs psycopg."""
    monkeypatch.setitem(sys.modules, "psycopg", None)

    with pytest.raises(ConfigError, match=r"pip install 'sessauth\[postgres\]'"):
        hosts("postgresql://h/db", insecure=True)


def test_an_error_of_a_connection_has_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes from the environment or a password file, and libpq's messages name hosts alone."""
    monkeypatch.setenv("PGPASSWORD", WORD)
    uri = f"postgresql://u@127.0.0.1:{free_port()}/db"
    carrier = PostgresCarrier(uri, secrets.token_bytes(16), insecure=True)

    answer = carrier.append(1, START, b"first", digest(b"first"), 300)

    assert answer.status is UNKNOWN
    assert "127.0.0.1" in answer.detail
    assert WORD not in answer.detail
    carrier.close()


@pytest.mark.parametrize("size", [0, 25])
def test_a_cluster_id_names_a_schema(size: int) -> None:
    """An empty one and a long one are the caller's mistake."""
    with pytest.raises(ValueError, match="id of 1 to 24 bytes"):
        PostgresCarrier("postgresql://h/db", bytes(size), insecure=True)
