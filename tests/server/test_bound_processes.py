"""Proofs across the processes of a host: one memory of used proofs, keys that follow a rotation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from sessauth.client import Client
from sessauth.clock import SystemClock
from sessauth.crypto.keys import VerifierKey
from sessauth.reasons import Reason
from sessauth.server.process.init import Initialised, initialise
from sessauth.state.host.proof_keys import HostProofKeys, keys_path
from sessauth.tokens.prover import HolderKey
from sessauth.tokens.token import Token
from sessauth.verifier.verifier import Verifier
from tests.support.service import Caller, ServerProcess, home_folder, serves, wait_until

SETTINGS = {"SESSAUTH_SERVER_WORKERS": "1"}


@pytest.fixture
def made() -> Iterator[Initialised]:
    """An initialised home folder."""
    with home_folder() as home:
        yield initialise(home)


def start(made: Initialised) -> ServerProcess:
    """Serve with one worker, and wait until both processes serve."""
    process = ServerProcess.start(made.home, **SETTINGS)
    callers = [
        Caller(f"unix:{path}", made.credential_file.read_text().strip())
        for path in (made.socket, made.home / "run" / "check-0.sock")
    ]
    assert wait_until(lambda: all(serves(caller) for caller in callers)), process.log
    for caller in callers:
        caller.close()
    return process


class Host:
    """A client of the control process, one of the worker, and an embedded verifier in this process."""

    def __init__(self, made: Initialised) -> None:
        """Open all three."""
        socket, worker = str(made.socket), str(made.home / "run" / "check-0.sock")
        self.control = Client(socket, timeout_ms=10_000)
        self.worker = Client(socket, timeout_ms=10_000, check_target=worker)
        self.embedded = Verifier.embedded(made.state_dir, audience="gw")

    def reasons(self, token: Token, proof: bytes) -> list[Reason]:
        """The reasons of the three for one proof, in this order: worker, embedded, control."""
        return [
            self.worker.check(token, "read", "files/a", audience="gw", proof=proof).reason,
            self.embedded.check(token, "read", "files/a", proof=proof).reason,
            self.control.check(token, "read", "files/a", audience="gw", proof=proof).reason,
        ]

    def current(self) -> VerifierKey:
        """The key to prove for, as the server lists it."""
        key = self.control.verifier_keys().current(SystemClock().now_ms())
        assert key is not None
        return key

    def close(self) -> None:
        """Close all three."""
        self.embedded.close()
        self.worker.close()
        self.control.close()


def test_a_proof_counts_once_on_the_whole_host(made: Initialised) -> None:
    """Whichever process sees it first allows it; all others call it a replay."""
    process = start(made)
    host = Host(made)
    holder = HolderKey.generate()
    try:
        session = host.control.open_session(subject="agent", ceiling=["read:files/**"])
        token = host.control.mint(session.id, ["read:files/**"], ["gw"], to=holder.public)
        key = host.current()
        for kind in ("mac", "ed25519"):
            proof = holder.prove(token, "read", "files/a", b"", key, kind=kind)
            assert host.reasons(token, proof) == [Reason.ALLOWED, Reason.REPLAYED, Reason.REPLAYED]
        proof = holder.prove(token, "read", "files/a", b"", key)
        assert host.embedded.check(token, "read", "files/a", proof=proof)
        assert host.reasons(token, proof) == [Reason.REPLAYED] * 3
    finally:
        host.close()
        process.kill()


def test_every_process_follows_a_rotation_and_a_restart(made: Initialised) -> None:
    """Verifiers that were open before know the new key, and a used proof stays used over a restart."""
    process = start(made)
    host = Host(made)
    holder = HolderKey.generate()
    try:
        session = host.control.open_session(subject="agent", ceiling=["read:files/**"])
        token = host.control.mint(session.id, ["read:files/**"], ["gw"], to=holder.public)
        old = host.current()
        used, fresh = (holder.prove(token, "read", "files/a", b"", old) for _ in range(2))
        assert host.embedded.check(token, "read", "files/a", proof=used)
        process.terminate()
        _make_rotation_due(made)
        process = start(made)

        assert wait_until(lambda: host.current().key_id != old.key_id)
        new = host.current()
        assert new.verifier_id == old.verifier_id
        # The first that the embedded verifier is asked since: it has slept over the rotation.
        proof = holder.prove(token, "read", "files/a", b"", new)
        assert host.embedded.check(token, "read", "files/a", proof=proof).reason is Reason.ALLOWED
        assert host.reasons(token, proof) == [Reason.REPLAYED] * 3
        assert host.reasons(token, used) == [Reason.REPLAYED] * 3
        assert host.reasons(token, fresh) == [Reason.ALLOWED, Reason.REPLAYED, Reason.REPLAYED]
    finally:
        host.close()
        process.kill()


def _make_rotation_due(made: Initialised) -> None:
    """Make the newest proof key a bit older than half its life."""
    host = HostProofKeys.read(made.state_dir)
    aged = tuple(
        replace(key, not_before_ms=key.not_before_ms - 1_800_001, expires_at_ms=key.expires_at_ms - 1_800_001)
        for key in host.keys
    )
    replace(host, keys=aged).write(made.state_dir)


def test_an_embedded_verifier_without_keys_judges_all_else(made: Initialised) -> None:
    """A state whose server never made proof keys is opened; only bound tokens are denied."""
    process = start(made)
    client = Client(str(made.socket), timeout_ms=10_000)
    holder = HolderKey.generate()
    session = client.open_session(subject="agent", ceiling=["read:files/**"])
    bound = client.mint(session.id, ["read:files/**"], ["gw"], to=holder.public)
    sealed = client.mint(session.id, ["read:files/**"], ["gw"])
    key = client.verifier_keys().current(SystemClock().now_ms())
    assert key is not None
    proof = holder.prove(bound, "read", "files/a", b"", key)
    client.close()
    process.terminate()
    keys_path(made.state_dir).unlink()

    with Verifier.embedded(made.state_dir, audience="gw") as verifier:
        assert verifier.check(sealed, "read", "files/a")
        reason = verifier.check(bound, "read", "files/a", proof=proof).reason
    assert reason is Reason.PROOF_UNAVAILABLE
