"""The awaited verifier: free calls are judged here at once, and no call with costs stops the event loop."""

from __future__ import annotations

import asyncio
import inspect
import os
import secrets
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from sessauth import AsyncVerifier, HolderKey, Reason, Stage, SurveyVerdict, Token, ToolCatalog, Verifier
from sessauth.audit.verify.verify import verify
from sessauth.audit.write.stream import AuditOptions
from sessauth.clock import SystemClock
from sessauth.errors import Rejected, SessauthError, UsageError
from sessauth.model.receipt import VerifierState
from sessauth.verifier.verifier import ServerBackedVerifier
from tests.support.recorded import records
from tests.support.server_fixture import AUDIENCE, ServerFixture
from tests.support.service import wait_until

CATALOGUE = ToolCatalog.from_mcp(
    "docs", [{"name": "put"}, {"name": "get", "annotations": {"readOnlyHint": True}}]
)
CALLS = 40


@pytest.fixture(scope="module")
def running() -> Iterator[ServerFixture]:
    """One server for the tests that leave it as it is."""
    with ServerFixture() as made:
        yield made


def _open(server: ServerFixture, **options: Any) -> AsyncVerifier:
    given = {"audience": AUDIENCE, "server": server.made.socket, "timeout_ms": 10_000}
    given["credential_file"] = server.home / "gateway.credential"
    return AsyncVerifier.embedded(server.made.state_dir, **{**given, **options})


def _token(server: ServerFixture, *scopes: str, to: HolderKey | None = None) -> Token:
    session = server.operator.open_session(subject="agent", ceiling=["read:**", "write:**"])
    return server.operator.mint(session.id, scopes, [AUDIENCE], to=to.public if to else None)


@asynccontextmanager
async def _heartbeat() -> AsyncIterator[list[int]]:
    """Count the turns of the event loop in the list's one element."""
    turns = [0]

    async def beat() -> None:
        while True:
            turns[0] += 1
            await asyncio.sleep(0)

    task = asyncio.ensure_future(beat())
    await asyncio.sleep(0)
    try:
        yield turns
    finally:
        task.cancel()


async def _longest(turns: list[int], calls: list[Coroutine[Any, Any, Any]]) -> tuple[int, list[Any]]:
    """Run calls at once; return the most that were answered in one turn of the loop, and the answers."""
    answered: Counter[int] = Counter()

    async def counted(call: Coroutine[Any, Any, Any]) -> Any:
        answer = await call
        answered[turns[0]] += 1
        return answer

    answers = await asyncio.gather(*map(counted, calls))
    return max(answered.values()), answers


def _at_once(call: Coroutine[Any, Any, Any]) -> Any:
    """Return the answer of a call that waits for nothing."""
    with pytest.raises(StopIteration) as stopped:
        call.send(None)
    return stopped.value.value


def test_costs_do_not_stop_the_loop(running: ServerFixture) -> None:
    """While 40 calls are charged the loop turns on; the blocking form answers all of them in one turn."""
    token = _token(running, "read:doc/** needs uses(1000)")

    async def blocking() -> Any:
        return running.verifier.check(token, "read", "doc/1")

    async def compare() -> None:
        async with _open(running) as verifier, _heartbeat() as turns:
            stopped, decisions = await _longest(turns, [blocking() for _ in range(CALLS)])
            assert all(decisions) and stopped == CALLS
            began = turns[0]
            calls = [verifier.check(token, "read", "doc/1") for _ in range(CALLS)]
            turned, decisions = await _longest(turns, calls)
            assert all(decisions) and turned < CALLS
            assert turns[0] - began > 10

    asyncio.run(compare())


def test_free_calls_wait_for_nothing(running: ServerFixture) -> None:
    """Without a running loop even: allowed, denied, prepared, batched, listed, by tool and unknown tool."""
    token = _token(running, "read:free/**", "read:mcp/docs/get", "read:doc/** needs uses(1)")
    verifier = _open(running)
    handle = verifier.prepare(token)

    assert _at_once(verifier.check(token, "read", "free/1"))
    assert _at_once(verifier.check(handle, "read", "free/1", retry_id=b"once"))
    assert _at_once(verifier.check(token, "read", "other")).reason is Reason.OUT_OF_SCOPE
    assert _at_once(verifier.check_batch([(token, "read", "free/1"), (handle, "read", "free/2")])).all_allowed
    assert _at_once(verifier.check_tool(token, CATALOGUE, "get", {"a": 1}))
    assert _at_once(verifier.check_tool(token, CATALOGUE, "drop")).reason is Reason.UNKNOWN_TOOL
    assert _at_once(verifier.check_tool(token, CATALOGUE, "", method="initialize"))
    assert _at_once(verifier.check_tool(token, CATALOGUE, "", method="tools/list"))
    assert _at_once(verifier.check_tool(token, CATALOGUE, "", method="prompts/list")).reason is (
        Reason.OUT_OF_SCOPE
    )
    assert _at_once(verifier.stands(token)) and _at_once(verifier.stands(handle, session=token.session_id))
    assert _at_once(verifier.stands(token, audience="other")).reason is Reason.WRONG_AUDIENCE
    verdicts = _at_once(verifier.list_allowed(token, [("read", "free/1"), ("read", "doc/1"), ("read", "x")]))
    assert list(verdicts) == [SurveyVerdict.YES, SurveyVerdict.MAYBE, SurveyVerdict.NO]
    tools = [{"name": "put"}, {"name": "get"}, {"name": "drop"}]
    assert _at_once(verifier.list_tools(token, CATALOGUE, tools)) == [{"name": "get"}]
    asyncio.run(verifier.close())
    assert _at_once(verifier.check(token, "read", "free/1")).reason is Reason.INTERNAL_ERROR


def test_what_costs_is_charged_by_the_server(running: ServerFixture) -> None:
    """Uses, permits, retry ids and a batch, also from a second event loop."""
    token = _token(running, "read:doc/** needs uses(5)", "write:mcp/docs/put needs uses(1)", "read:free/**")
    verifier = _open(running)

    async def first() -> None:
        name = secrets.token_bytes(16)
        assert all([await verifier.check(token, "read", "doc/1", retry_id=name) for _ in range(3)])
        held = await verifier.check(token, "read", "doc/1", permit_ms=60_000)
        assert held and await verifier.release(held.permit) > 0  # type: ignore[attr-defined]
        held = await verifier.check(verifier.prepare(token), "read", "doc/1", {"a": 1}, permit_ms=60_000)
        committed = await verifier.commit(held.permit, token, "read", "doc/1", '{"a":1}')  # type: ignore[attr-defined]
        assert committed
        free = await verifier.check(token, "read", "free/1", permit_ms=60_000)
        assert len(free.permit) == 32  # type: ignore[attr-defined]
        with pytest.raises(UsageError, match="retry_id"):
            await verifier.check(token, "read", "doc/1", retry_id=bytes(65))

    async def second() -> None:
        assert await verifier.check_tool(token, CATALOGUE, "put", retry_id=b"put")
        spent = await verifier.check_tool(token, CATALOGUE, "put")
        assert spent.reason is Reason.USES_EXHAUSTED
        calls = [(token, "read", name) for name in ("doc/1", "free/1", "doc/2", "doc/3")]
        yes, no = Reason.ALLOWED, Reason.USES_EXHAUSTED
        assert [each.reason for each in await verifier.check_batch(calls)] == [yes, yes, yes, no]
        await verifier.close()
        with pytest.raises(SessauthError):
            await verifier.release(bytes(32))

    asyncio.run(first())
    asyncio.run(second())


def test_proofs_are_used_up_once(running: ServerFixture) -> None:
    """A proof pays one of ten calls at once; a stolen token pays none; a free call uses its proof here."""
    holder = HolderKey.generate()
    token = _token(running, "read:doc/** needs uses(9)", "read:free/**", to=holder)
    host = running.operator.verifier_keys().current(SystemClock().now_ms())
    assert host is not None

    async def calls() -> None:
        async with _open(running) as verifier:
            proof = holder.prove(token, "read", "doc/1", b"", host)
            asked = [verifier.check(token, "read", "doc/1", proof=proof) for _ in range(10)]
            reasons = Counter(each.reason for each in await asyncio.gather(*asked))
            assert reasons == {Reason.ALLOWED: 1, Reason.REPLAYED: 9}
            assert (await verifier.check(token, "read", "doc/1")).reason is Reason.PROOF_REQUIRED
            proof = holder.prove(token, "read", "free/1", b"", host)
            assert _at_once(verifier.check(token, "read", "free/1", proof=proof))
            assert _at_once(verifier.check(token, "read", "free/1", proof=proof)).reason is Reason.REPLAYED
            # Another verifier of this process shares the host's replay table.
            assert running.verifier.check(token, "read", "free/1", proof=proof).reason is Reason.REPLAYED

    asyncio.run(calls())


def test_cancelled_calls_and_a_stopped_server(running: ServerFixture) -> None:
    """A stopped server stops neither the loop nor free calls; cancelled calls leave the verifier whole."""
    token = _token(running, "read:doc/** needs uses(1000)", "read:free/**")

    async def calls() -> None:
        async with _open(running, timeout_ms=1_500) as verifier, _heartbeat() as turns:
            assert await verifier.check(token, "read", "doc/1")
            os.kill(running.process.process.pid, signal.SIGSTOP)
            try:
                began = turns[0]
                tasks = [asyncio.ensure_future(verifier.check(token, "read", "doc/1")) for _ in range(8)]
                await asyncio.sleep(0.05)
                assert turns[0] - began > 10 and not any(task.done() for task in tasks)
                for task in tasks[:4]:
                    task.cancel()
                assert await verifier.check(token, "read", "free/1")
                ended = await asyncio.gather(*tasks, return_exceptions=True)
                assert all(isinstance(each, asyncio.CancelledError) for each in ended[:4])
                for each in ended[4:]:
                    assert (each.reason, each.stage) == (Reason.NEEDS_SERVER, Stage.NEEDS)
            finally:
                os.kill(running.process.process.pid, signal.SIGCONT)
            with pytest.raises(asyncio.TimeoutError):
                async with asyncio.timeout(0):
                    await verifier.check(token, "read", "doc/1")
            for _ in range(50):
                if await verifier.check(token, "read", "doc/1"):
                    return
            raise AssertionError("the server never answered again")

    asyncio.run(calls())


def test_a_dead_server_and_none_deny_what_costs(own_server: ServerFixture, tmp_path: Path) -> None:
    """Free calls are allowed without it, and a denial that nobody else records is in the audit stream."""
    token = _token(own_server, "read:doc/** needs uses(9)", "read:free/**")

    async def calls(verifier: AsyncVerifier) -> None:
        async with verifier:
            assert await verifier.check(token, "read", "free/1")
            assert (await verifier.check(token, "read", "doc/1")).reason is Reason.NEEDS_SERVER
            batch = await verifier.check_batch([(token, "read", "doc/1"), (token, "read", "free/1")])
            assert [each.reason for each in batch] == [Reason.NEEDS_SERVER, Reason.ALLOWED]
            denied = await verifier.check(token, "read", "free/1", permit_ms=100)
            assert denied.reason is Reason.NEEDS_SERVER
            with pytest.raises(SessauthError):
                await verifier.commit(bytes(32), token, "read", "free/1")

    alone = AsyncVerifier.embedded(
        own_server.made.state_dir, audience=AUDIENCE, audit=AuditOptions(tmp_path / "a")
    )
    asyncio.run(calls(alone))
    own_server.process.kill()
    asyncio.run(calls(_open(own_server, audit=AuditOptions(tmp_path / "b"))))
    for name in "ab":
        assert not verify(tmp_path / name).findings
        assert len(records(tmp_path / name, "decision")) == 5


def test_it_registers_and_reports(running: ServerFixture) -> None:
    """The server lists it while it is open and knows of the calls that it judged."""
    token = _token(running, "read:free/**")

    def state() -> VerifierState:
        return next(each.state for each in running.operator.list_verifiers() if each.name == "awaited")

    async def calls() -> None:
        async with _open(running, register_as="awaited", report_usage=True) as verifier:
            assert verifier.registered and state() is not VerifierState.LEFT
            with pytest.raises(Rejected) as refused:
                await asyncio.to_thread(_open, running, register_as="awaited")
            assert refused.value.word == "NAME_TAKEN"
            assert await verifier.check(token, "read", "free/1")
        assert not verifier.registered

    asyncio.run(calls())
    assert state() is VerifierState.LEFT
    assert wait_until(lambda: bool(running.operator.get_census(token.session_id).blocks))


# A process of its own: the test's has channels of gRPC open, whose threads no child has.
FORKS = """
import asyncio, os, sys
from pathlib import Path
from sessauth import AsyncVerifier, Reason
from sessauth.errors import StateError

state, server, credential, token = *sys.argv[1:], sys.stdin.readline().strip()
verifier = AsyncVerifier.embedded(
    state, audience="gateway", server=server, credential_file=Path(credential), timeout_ms=10_000
)

async def child():
    assert verifier.inherited
    assert (await verifier.check(token, "read", "free/1")).reason is Reason.INTERNAL_ERROR
    assert not await verifier.check(token, "read", "doc/1", permit_ms=100)
    for call in (verifier.release(bytes(32)), verifier.commit(bytes(32), token, "read", "doc/1")):
        try:
            await call
        except StateError as error:
            assert "forked" in str(error)
        else:
            raise AssertionError
    await verifier.close()
    async with AsyncVerifier.embedded(state, audience="gateway") as own:
        assert await own.check(token, "read", "free/1")
        assert not await own.check(token, "read", "doc/1")

async def parent():
    assert not verifier.inherited
    assert await verifier.check(token, "read", "doc/1")
    await verifier.close()

pid = os.fork()
if pid == 0:
    status = 1
    try:
        asyncio.run(child())
        status = 0
    finally:
        os._exit(status)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
asyncio.run(parent())
"""


def test_a_forked_child_denies_and_opens_its_own(running: ServerFixture) -> None:
    """The inherited verifier asks nobody; the parent's works on behind it."""
    token = _token(running, "read:doc/** needs uses(9)", "read:free/**")
    paths = (running.made.state_dir, running.made.socket, running.home / "gateway.credential")
    command = [sys.executable, "-c", FORKS, *map(str, paths)]
    ran = subprocess.run(command, input=token.text, capture_output=True, text=True, timeout=60)

    assert ran.returncode == 0, ran.stderr


async def _awaited(call: Awaitable[Any]) -> Any:
    return await call


def test_wrong_options_are_named_at_the_opening(running: ServerFixture, tmp_path: Path) -> None:
    """A missing credential, a server that is needed, a file that is not there: as by the blocking form."""
    with pytest.raises(UsageError, match="credential"):
        AsyncVerifier.embedded(running.made.state_dir, audience=AUDIENCE, server=running.made.socket)
    for option in ({"report_usage": True}, {"register_as": "gw"}):
        with pytest.raises(UsageError, match=next(iter(option))):
            AsyncVerifier.embedded(running.made.state_dir, audience=AUDIENCE, **option)
    with pytest.raises(SessauthError, match="credential"):
        _open(running, credential_file=tmp_path / "none")
    _open(running).local.close()


def test_the_awaited_form_lacks_no_method() -> None:
    """Each public method of the blocking form is there, and is awaited unless it only prepares a token."""
    # Parts of the kernel and of the opening; numbers are of ``local``.
    own = {"record_decision", "record_batch_item", "refuse", "judge", "attach_client", "register_as"}
    own |= {"require_client", "server_options", "batch_options", "prepare", "embedded"}
    public = {name for name in dir(ServerBackedVerifier) if not name.startswith("_")}
    methods = {name for name in public if callable(getattr(ServerBackedVerifier, name))} - own

    assert {"check", "check_tool", "stands", "list_tools", "close"} <= methods
    for name in methods:
        assert inspect.iscoroutinefunction(getattr(AsyncVerifier, name)), name


@pytest.mark.parametrize("name", ["check", "commit", "release", "check_batch", "embedded"])
def test_both_forms_take_the_same(name: str) -> None:
    """Parameters, their kinds and their defaults."""
    sync = getattr(Verifier if name == "embedded" else ServerBackedVerifier, name)

    ours, theirs = inspect.signature(getattr(AsyncVerifier, name)), inspect.signature(sync)
    assert [(p.name, p.kind, p.default) for p in ours.parameters.values()] == [
        (p.name, p.kind, p.default) for p in theirs.parameters.values()
    ]
