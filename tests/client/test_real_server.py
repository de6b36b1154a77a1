from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from sessauth import errors
from sessauth.client import AsyncClient, CheckItem, Client, Tls
from sessauth.model.session import EndCause, SessionStatus
from sessauth.reasons import Reason, Stage
from sessauth.server.config import from_dict
from sessauth.server.process.control import Control
from sessauth.server.process.init import initialise
from sessauth.tokens.token import Token
from tests.support.service import ServerProcess, Service, home_folder, wait_until

ACME = 'read:mcp/github/* where owner == "acme" free *'
ALLOWED = b'{"owner": "acme"}'


def test_a_session_from_birth_to_death(real: Client) -> None:
    """Calls are allowed inside the block and denied after it, and the session says why it ended."""
    with real.session(subject="agent", purpose="ticket", ceiling=[ACME], lease_ms=5_000) as session:
        token = session.mint(["read:mcp/github/*"], ["gateway"])
        inside = real.check(token, "read", "mcp/github/get", ALLOWED, audience="gateway")
        beyond = real.check(token, "read", "mcp/github/get", b"{}", audience="gateway")
    after = real.check(token.text, "read", "mcp/github/get", ALLOWED, audience="gateway")

    assert inside
    assert inside.session_id == session.id
    assert (beyond.reason, beyond.stage) == (Reason.CONDITION_FAILED, Stage.SCOPE)
    assert after.reason is Reason.SESSION_ENDED
    ended = real.get_session(session.id)
    assert (ended.status, ended.end_cause) == (SessionStatus.ENDED, EndCause.ASKED)


def test_lease_lapses_only_without_its_keeper(real: Client) -> None:
    """A session held by a block outlives its lease; one that nobody keeps alive does not."""
    lease_ms = 1_500
    with real.session(subject="kept", ceiling=[ACME], lease_ms=lease_ms) as kept:
        left = real.open_session(subject="left", ceiling=[ACME], lease_ms=lease_ms)
        tokens = [real.mint(each, ["read:mcp/github/*"], ["gateway"]) for each in (kept.id, left.id)]
        time.sleep(1.5 * lease_ms / 1000)
        judged = [real.check(t, "read", "mcp/github/get", ALLOWED, audience="gateway") for t in tokens]
        assert not kept.lost

    assert [each.reason for each in judged] == [Reason.ALLOWED, Reason.LEASE_LAPSED]


def test_inspect_keeps_the_secret_here(real: Client) -> None:
    """An open token is inspected without its secret, by its own blocks alone."""
    with real.session(subject="agent", ceiling=[ACME]) as session:
        stored = session.mint([ACME], ["gateway"], ending="open")

        without_secret = Token.parse(stored.data)
        for held in (stored, without_secret):
            inspected = real.inspect(held)
            assert inspected.verified
            assert [block.block_id for block in inspected.blocks] == list(stored.block_ids)
        assert real.inspect(stored.stored_text()).token == stored


def test_batch_and_stream_agree_with_single_checks(real: Client) -> None:
    """A call gets the same answer alone, in a batch and in a stream, whatever an agent put into it."""
    with real.session(subject="agent", ceiling=[ACME]) as session:
        token = session.mint(["read:mcp/github/*"], ["gateway"])
        items = [
            CheckItem(token, "read", "mcp/github/get", arguments)
            for arguments in (ALLOWED, b"{}", b'{"owner": NaN}', b'{"owner": "acme", "owner": "x"}', b"\xff")
        ] + [CheckItem(token, "read", "mcp//github", ALLOWED), CheckItem(b"junk", "read", "x")]
        items += [CheckItem(token.text, "write", "mcp/github/get", ALLOWED), CheckItem(b"junk", "read", "y")]
        items += [CheckItem(token.text, "read", "mcp//github", ALLOWED), CheckItem(b"other", "read", "x")]
        alone = [
            real.check(i.token, i.action, i.resource, i.arguments, audience="gateway").reason for i in items
        ]
        batch = [each.reason for each in real.check_batch(items, audience="gateway")]
        stream = dict(real.check_stream(items, audience="gateway"))

    assert alone[0] is Reason.ALLOWED
    assert Reason.ALLOWED not in alone[1:]
    assert batch == alone
    assert [stream[number].reason for number in range(len(items))] == alone


def test_leaving_a_stream_early_ends_it(real: Client) -> None:
    """A loop over a stream that is left early cancels it, and the client goes on."""
    with real.session(subject="agent", ceiling=[ACME]) as session:
        token = session.mint(["read:mcp/github/*"], ["gateway"])
        endless = iter(lambda: CheckItem(token, "read", "mcp/github/get", ALLOWED), None)
        for _, decision in real.check_stream(endless, audience="gateway"):
            assert decision
            break

        assert real.check(token, "read", "mcp/github/get", ALLOWED, audience="gateway")


def test_asyncio_client_does_the_same(service: Service) -> None:
    """The asyncio client opens, mints, checks, streams and ends as the blocking one does."""

    async def main() -> list[Reason]:
        async with AsyncClient(str(service.made.socket), timeout_ms=10_000) as client:
            async with client.session(subject="agent", ceiling=[ACME], lease_ms=1_500) as session:
                token = await session.mint(["read:mcp/github/*"], ["gateway"])
                item = CheckItem(token, "read", "mcp/github/get", ALLOWED)
                await asyncio.sleep(2)
                found = [
                    (await client.check(token, "read", "mcp/github/get", ALLOWED, audience="gateway")).reason,
                    *[each.reason for each in await client.check_batch([item, item], audience="gateway")],
                ]
                async for _, decision in client.check_stream([item], audience="gateway"):
                    found.append(decision.reason)
                await session.update_facts({"n": 1})
                await session.narrow(["read:mcp/github/other"])
            found.append(
                (await client.check(token, "read", "mcp/github/get", ALLOWED, audience="gateway")).reason
            )
            return found

    assert asyncio.run(main()) == [Reason.ALLOWED] * 4 + [Reason.SESSION_ENDED]


def test_workers_and_a_killed_server() -> None:
    """Checks go to the workers, and a session outlives a server that is killed and comes back in time."""
    with home_folder() as home:
        made = initialise(home)
        server = ServerProcess.start(home, SESSAUTH_SERVER_WORKERS="2")
        workers = [str(home / "run" / f"check-{index}.sock") for index in range(2)]
        client = Client(str(made.socket), check_target=workers, timeout_ms=1_000)
        try:
            assert wait_until(lambda: _answers(client))
            with client.session(subject="agent", ceiling=[ACME], lease_ms=20_000) as session:
                token = session.mint(["read:mcp/github/*"], ["gateway"])

                def allowed() -> bool:
                    try:
                        return bool(
                            client.check(token, "read", "mcp/github/get", ALLOWED, audience="gateway")
                        )
                    except errors.Unavailable:
                        return False

                assert wait_until(lambda: all(allowed() for _ in range(4)))
                server.kill()
                with pytest.raises(errors.Unavailable):
                    client.list_keys()
                server = ServerProcess.start(home, SESSAUTH_SERVER_WORKERS="2")
                assert wait_until(lambda: _answers(client))
                assert wait_until(lambda: all(allowed() for _ in range(4)))
                assert not session.lost
            ended = client.get_session(session.id)
            assert ended.end_cause is EndCause.ASKED
        finally:
            client.close()
            server.terminate()


def _answers(real: Client) -> bool:
    try:
        return len(real.list_keys()) == 1
    except errors.Unavailable:
        return False


@pytest.mark.skipif(shutil.which("openssl") is None, reason="makes its certificate with openssl, not here")
def test_tls_by_certificate_files() -> None:
    """Over TLS the server's certificate is checked by the files given, and a stranger's is not trusted."""
    with home_folder() as home:
        made = initialise(home)
        for name in ("server", "stranger"):
            _self_signed(home, name)
        config = from_dict(
            {
                "home": str(home),
                "tcp": {"address": "127.0.0.1:0", "certificate": "server.pem", "private_key": "server.key"},
            }
        )
        control = Control(config)
        control.start()
        target = f"127.0.0.1:{control.tcp_port}"
        try:
            trusted = Tls(authority=home / "server.pem", server_name="localhost")
            with Client(target, credential_file=made.credential_file, tls=trusted) as client:
                assert len(client.list_keys()) == 1
            wrong = Tls(authority=home / "stranger.pem", server_name="localhost")
            with (
                Client(target, credential_file=made.credential_file, tls=wrong, timeout_ms=800) as client,
                pytest.raises(errors.Unavailable),
            ):
                client.list_keys()
        finally:
            control.stop()


def _self_signed(folder: Path, name: str) -> None:
    made = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    named = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    out = ["-keyout", str(folder / f"{name}.key"), "-out", str(folder / f"{name}.pem")]
    subprocess.run(["openssl", *made, *named, *out], check=True, capture_output=True)
