"""The guard itself: permits, retry ids, children, observation, failures."""

from __future__ import annotations

import asyncio
import pickle
import threading
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessauth import HolderKey, ToolCatalog, UsageError, WidensAuthority
from sessauth.client import AsyncClient
from sessauth.clock import SystemClock
from sessauth.errors import NotExtendable, Unavailable
from sessauth.guard import Guard, ToolDenied
from sessauth.verifier.base import BaseVerifier
from tests.guard.world import TOOLS, Broken, World, allowed
from tests.support.cases import examples
from tests.support.view_source import MemorySource

PAY = "write:mcp/tools/pay where amount <= 100"
TWICE = f"{PAY} needs uses(2)"
CATALOGUE = ToolCatalog.from_mcp("tools", TOOLS)


def test_a_permit_that_is_not_used_is_given_back(world: World) -> None:
    """Leaving the block without a commit frees what the call would have cost."""
    budget = 'write:mcp/tools/pay free amount needs budget("travel", 9, "EUR", amount)'
    guard = world.guard(token=world.token(budget), permit_ms=5_000)

    for _ in range(3):
        with guard.hold("pay", {"amount": 5}), pytest.raises(ToolDenied, match="not allowed"):
            guard.hold("pay", {"amount": 5})
    with guard.hold("pay", {"amount": 5}) as held:
        held.commit({"amount": 5})
    with pytest.raises(ToolDenied):
        guard.hold("pay", {"amount": 5})

    assert {each.reason for each in world.denied} == {"BUDGET_EXHAUSTED"}


def test_a_permit_is_committed_before_the_tool_runs(world: World) -> None:
    """A session that ends between the check and the commit stops the call."""
    token = world.token(TWICE)
    guard = world.guard(token=token, permit_ms=5_000)

    with guard.hold("pay", {"amount": 5}) as held:
        world.end(token)
        with pytest.raises(ToolDenied, match="no valid token"):
            held.commit()


def test_other_arguments_than_those_judged_do_not_run(world: World) -> None:
    """Something between check and call may have changed them."""
    guard = world.guard(token=world.token())
    arguments = {"amount": 50}

    with guard.hold("pay", arguments) as held:
        arguments["amount"] = 5_000
        with pytest.raises(ToolDenied, match="not allowed") as caught:
            held.commit(arguments)

    assert caught.value.reason == "CHANGED"


def test_a_repeated_attempt_is_charged_once(world: World) -> None:
    """Under one call id a call is charged once; another call under it is another one."""
    guard = world.guard(token=world.token(TWICE))

    for _ in range(4):
        assert guard.check("pay", {"amount": 5}, call_id="call_1")
    assert guard.check("pay", {"amount": 6}, call_id="call_1")
    with pytest.raises(ToolDenied):
        guard.check("pay", {"amount": 5}, call_id="call_2")


def test_the_same_through_a_client(world: World) -> None:
    """A guard in front of a server's answers, with permits and costs."""
    guard = world.guard(token=world.token(TWICE), verifier=world.server.control, permit_ms=5_000)

    for _ in range(2):
        assert guard.run("pay", {"amount": 5}, lambda: world.run("pay")) == "pay done"
    with pytest.raises(ToolDenied, match="not allowed"):
        guard.run("pay", {"amount": 5}, lambda: world.run("pay"))

    assert len(world.ran) == 2


@pytest.mark.parametrize("verifier", ["embedded", "client"])
def test_awaited_calls_do_not_stop_the_loop(world: World, verifier: str) -> None:
    """Calls that wait for a server run beside the loop, which goes on meanwhile."""
    token = world.token(f"{PAY} needs uses(20)")

    async def main() -> tuple[list[str], set[str]]:
        guard = world.guard(token=token, verifier=None if verifier == "embedded" else world.server.control)
        threads = set()
        check = guard._judge.verifier.check

        class Seen:
            def __getattr__(self, name: str) -> Any:
                return getattr(world.server.verifier, name)

            def check(self, *args: Any, **options: Any) -> Any:
                threads.add(threading.current_thread().name)
                return check(*args, **options)

        guard._judge.verifier = Seen()

        async def pay() -> str:
            return world.run("pay")

        return await asyncio.gather(*(guard.arun("pay", {"amount": 5}, pay) for _ in range(20))), threads

    results, threads = asyncio.run(main())

    assert results == ["pay done"] * 20
    assert "MainThread" not in threads


def test_an_asyncio_client_is_awaited(world: World) -> None:
    """The same guard over an AsyncClient, whose blocking methods refuse."""
    token = world.token()

    async def main() -> None:
        target = str(world.server.made.socket)
        async with AsyncClient(target, credential_file=world.credential_file()) as client:
            guard = world.guard(token=token, verifier=client)
            assert await guard.acheck("pay", {"amount": 5})
            assert await guard.avisible([each["name"] for each in TOOLS]) == ["get_weather", "pay"]
            with pytest.raises(ToolDenied):
                await guard.acheck("pay", {"amount": 500})
            with pytest.raises(UsageError, match="acheck"):
                guard.check("pay", {"amount": 5})

    asyncio.run(main())


def test_a_child_is_narrower(world: World) -> None:
    """A sub-agent's guard permits what both permit, and its own children no more."""
    parent = world.guard(token=world.token())
    child = parent.child("read:mcp/tools/get_weather", label="scout")
    grandchild = child.child('read:mcp/tools/get_weather where city == "Bern"')

    assert child.visible(["get_weather", "pay"]) == ["get_weather"]
    assert grandchild.check("get_weather", {"city": "Bern"})
    for guard, arguments in ((grandchild, {"city": "Rome"}), (child, {"amount": 5})):
        with pytest.raises(ToolDenied):
            guard.check("pay" if "amount" in arguments else "get_weather", arguments)
    assert parent.check("pay", {"amount": 5})
    with pytest.raises(WidensAuthority):
        child.child("write:mcp/tools/pay")


def test_a_misspelt_term_is_no_call_by_the_guards_own_token(world: World) -> None:
    """It is an error of the program."""
    guard: Any = world.guard(token=world.token())
    with pytest.raises(TypeError, match="tokn"):
        guard.check("pay", {"amount": 5}, tokn="")
    with pytest.raises(TypeError, match="tokn"):
        guard.check_method("resources/list", tokn="")


def test_a_child_needs_an_open_token(world: World) -> None:
    """The error names what to change."""
    with pytest.raises(UsageError, match="open token"):
        world.guard().child("read:mcp/tools/get_weather")
    with pytest.raises(NotExtendable):
        world.guard(token=world.token(ending="sealed")).child("read:mcp/tools/get_weather")


def test_a_bound_token_is_proven_by_the_prover(world: World) -> None:
    """Each call has a proof of its own; without the key a stolen token is worth nothing."""
    holder = HolderKey.generate()
    token = world.token(ending="bound", to=holder.public)

    class Prover:
        def prove(self, *request: Any) -> bytes:
            key = world.server.control.verifier_keys().current(SystemClock().now_ms())
            assert key is not None
            return holder.prove(*request, key)

    proven = world.guard(token=token, prover=Prover())
    assert proven.check("get_weather", {"city": "Bern"})
    assert proven.check("get_weather", {"city": "Bern"})
    with pytest.raises(ToolDenied) as caught:
        world.guard(token=token).check("get_weather", {"city": "Bern"})
    assert caught.value.reason == "PROOF_REQUIRED"


def test_an_observing_guard_lets_all_pass_and_says_so(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """Calls that would be denied are made, logged and told; no answer at all is one of them."""
    guard = world.guard(token=world.token(), mode="observe")
    broken = world.guard(token=world.token(), mode="observe", verifier=Broken())

    for each in (guard, broken):
        assert each.run("pay", {"amount": 500}, lambda: world.run("pay")) == "pay done"
    assert guard.visible(["pay", "delete_repo"]) == ["pay", "delete_repo"]

    assert [(each.reason, each.observed) for each in world.denied] == [
        ("CONDITION_FAILED", True),
        ("NO_ANSWER", True),
    ]
    assert "would be denied" in caplog.text


def test_the_operator_is_told_and_the_agent_is_not(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """The log has the reason and the id; the text has neither; neither has the token."""
    token = world.token()

    with pytest.raises(ToolDenied) as caught:
        world.guard(token=token).check("pay\n", {"amount": 500})
    with pytest.raises(ToolDenied) as other:
        world.guard(token=token).check("pay", {"amount": 500})

    assert str(caught.value) == str(other.value) == "not allowed"
    assert other.value.decision_id.hex() in caplog.text
    assert "CONDITION_FAILED" in caplog.text
    assert "pay\n," not in caplog.text
    assert token.present().text[:40] not in caplog.text + repr(caught.value)


def test_a_name_fills_no_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """An agent that calls a tool of a megabyte is named with the beginning of it."""
    with pytest.raises(ToolDenied):
        world.guard(token=world.token()).check("x" * 1_000_000)

    assert len(caplog.text) < 2_000


def test_a_callback_of_the_operator_that_fails_changes_nothing(world: World) -> None:
    """The refusal stands."""

    def fails(_denied: ToolDenied) -> None:
        raise RuntimeError

    guard = Guard(world.server.verifier, world.catalogue, token=world.token(), on_denied=fails)

    with pytest.raises(ToolDenied):
        guard.check("pay", {"amount": 500})


def test_a_refusal_is_pickled_and_copied(world: World) -> None:
    """Frameworks send errors between processes."""
    with pytest.raises(ToolDenied) as caught:
        world.guard(token=world.token()).check("pay", {"amount": 500})

    copied = pickle.loads(pickle.dumps(caught.value))

    assert (copied.tool, copied.reason, str(copied)) == ("pay", "CONDITION_FAILED", "not allowed")
    assert copied.decision_id == caught.value.decision_id


@pytest.mark.parametrize(
    ("options", "word"),
    [({"mode": "off"}, "mode"), ({"permit_ms": -1}, "permit_ms"), ({"permit_ms": 10**12}, "permit_ms")],
)
def test_wrong_settings_are_named(world: World, options: dict[str, Any], word: str) -> None:
    """The parameter to change stands in the error."""
    with pytest.raises(UsageError, match=word):
        world.guard(**options)


_failures = st.sampled_from(
    [RuntimeError, ValueError, KeyError, Unavailable, TypeError, StopIteration, OSError]
)
_odd = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.just(object()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=examples(150), deadline=None)
@given(
    failure=_failures,
    where=st.sampled_from(["check", "prove", "commit", "list_allowed"]),
    awaited=st.booleans(),
)
def test_whatever_fails_nothing_runs(failure: type[Exception], where: str, awaited: bool) -> None:
    """Any exception at any step, blocking or awaited, is a refusal without an answer."""
    ran = []

    class Fails:
        def __getattr__(self, name: str) -> Any:
            def method(*_: object, **__: object) -> Any:
                if name == where:
                    raise failure("what the agent must not see")
                return allowed()

            return method

    async def tool() -> None:
        # Long enough for the watch to fail first.
        await asyncio.sleep(30)
        ran.append(1)

    watched = where == "list_allowed"
    guard = Guard(Fails(), CATALOGUE, token=b"t", prover=Fails(), permit_ms=1, watch=watched)

    def call() -> None:
        if awaited or watched:
            asyncio.run(guard.arun("get_weather", {}, tool))
        guard.run("get_weather", {}, lambda: ran.append(1))

    with pytest.raises(ToolDenied) as caught:
        call()

    assert ran == []
    assert "must not see" not in str(caught.value)


@settings(max_examples=examples(300), deadline=None)
@given(tool=_odd, arguments=_odd, token=_odd)
def test_odd_calls_are_refused(tool: Any, arguments: Any, token: Any) -> None:
    """Names, arguments and tokens of any type raise nothing but a refusal."""
    guard = Guard(BaseVerifier(MemorySource()), CATALOGUE)
    with pytest.raises(ToolDenied):
        guard.run(tool, arguments, lambda: pytest.fail("it ran"), token=token)


@pytest.mark.parametrize("permit_ms", [0, 5_000])
def test_a_hold_is_for_one_call(world: World, permit_ms: int) -> None:
    """It can't be committed twice, nor after its release or a commit that was refused."""
    token = world.token(TWICE)
    guard = world.guard(token=token, permit_ms=permit_ms)

    with guard.hold("pay", {"amount": 5}) as held:
        held.commit()
        with pytest.raises(ToolDenied):
            held.commit()
    with guard.hold("pay", {"amount": 5}) as held:
        pass
    with pytest.raises(ToolDenied):
        held.commit()
    assert [each.reason for each in world.denied] == ["USED"] * 2


def test_a_refused_commit_stays_refused(world: World) -> None:
    """The permit is used up, and a second attempt does not pass without one."""
    token = world.token(TWICE)
    with world.guard(token=token, permit_ms=5_000).hold("pay", {"amount": 5}) as held:
        world.end(token)
        for _ in range(2):
            with pytest.raises(ToolDenied):
                held.commit()
    assert [each.reason for each in world.denied] == ["SESSION_ENDED", "USED"]


@pytest.mark.parametrize("watch", [False, True])
def test_arguments_that_change_during_the_commit_do_not_run(world: World, watch: bool) -> None:
    """Other tasks run while the server commits, and before a watched task begins."""
    guard = world.guard(token=world.token(), permit_ms=0 if watch else 5_000, watch=watch)
    arguments = {"amount": 50}

    async def pay() -> str:
        return world.run("pay", **arguments)

    async def change() -> None:
        arguments["amount"] = 5_000

    async def main() -> None:
        held = await guard.ahold("pay", arguments)
        changing = asyncio.create_task(change())
        async with held:
            await guard.arun_held(held, arguments, pay)
        await changing

    with pytest.raises(ToolDenied) as caught:
        asyncio.run(main())
    assert caught.value.reason == "CHANGED"
    assert world.ran == []
