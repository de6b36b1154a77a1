"""Direct answers of an event loop: only to requests that are known to be cheap before they are judged."""

from __future__ import annotations

import json
from typing import Any

import pytest

from benchmarks.state_setup import World
from benchmarks.tokens import AUDIENCE, mint
from sessauth._fast._codec import DirectCaller, DirectMethod
from sessauth.crypto.armor import presented_text
from sessauth.reasons import Stage
from sessauth.v1 import authorization_service_pb2 as pb

PLAIN = "read:files/**"
SMALL = {"p": "a" * 50}
LARGE = {"p": "a" * 20_000}


class _Gate:
    def may_fail(self, source: str) -> bool:
        """Let every source fail."""
        return True

    def failed(self, source: str) -> None:
        """Count nothing."""


class _Loop:
    """A caller of both methods, who presented every token before."""

    def __init__(self, world: World) -> None:
        self.explained: list[bytes | None] = []
        self._world = world
        self._checker = world.verifier()
        self._callers = {
            kind: DirectCaller(DirectMethod(kind, self._checker, self._explain), (AUDIENCE,), _Gate())
            for kind in ("check", "batch")
        }

    def _explain(self, decision: Any, token: bytes | None) -> str:
        self.explained.append(token)
        return "why"

    def token(self, *scopes: str) -> bytes:
        """Mint a token and present it once."""
        data = mint(self._world.issuer, self._world.session_id, scopes).data
        assert self._checker.check(data, "none", "none").stage == Stage.SCOPE
        return data

    def batch(self, items: list[pb.CheckItem], tokens: tuple[bytes, ...] = ()) -> Any:
        """Answer a batch; None if it needs a thread."""
        data = pb.CheckBatchRequest(items=items, tokens=tokens).SerializeToString()
        answer = self._callers["batch"].answer_bytes(data)
        return None if answer is None else pb.CheckBatchResponse.FromString(answer).decisions

    def check(self, call: pb.CheckItem) -> Any:
        """Answer a check; None if it needs a thread."""
        answer = self._callers["check"].answer_bytes(pb.CheckRequest(item=call).SerializeToString())
        return None if answer is None else pb.CheckResponse.FromString(answer).decision


@pytest.fixture
def loop(live_world: World) -> _Loop:
    """A caller on a cache of its own."""
    return _Loop(live_world)


def item(chain: bytes, arguments: object = None, action: bytes = b"read") -> pb.CheckItem:
    """Make a call on a file."""
    encoded = b"" if arguments is None else json.dumps(arguments).encode()
    return pb.CheckItem(token=chain, action=action, resource=b"files/a.txt", arguments=encoded)


def where(*conditions: str) -> str:
    """Write a scope with these conditions."""
    return f"read:files/** where {' and '.join(conditions)} free *"


PATTERNS = "p? glob [" + ", ".join(f'"*{number}x*"' for number in range(60)) + ', "*a"]'
NUMBERS = "each(p?) in [" + ", ".join(map(str, range(60))) + "]"


@pytest.mark.parametrize(
    ("scope", "arguments", "direct"),
    [
        (PLAIN, LARGE, True),
        (PLAIN, {"p": "a" * 50_000}, False),
        (where(PATTERNS), SMALL, True),
        (where(PATTERNS), LARGE, False),
        (where(NUMBERS), {"p": list(range(50))}, True),
        (where(NUMBERS), {"p": [1] * 5_000}, False),
        (where(*[f"n{number}? == 1" for number in range(14)]), LARGE, True),
        (where(*[f'p? != {{"a": {number}}}' for number in range(14)]), LARGE, False),
    ],
)
def test_arguments_and_conditions_make_a_check_costly(
    loop: _Loop, scope: str, arguments: object, direct: bool
) -> None:
    """Bytes of arguments count by what the token compares them with, before anything is judged."""
    chain = loop.token(scope)
    for form in (chain, presented_text(chain).encode(), presented_text(chain).encode()):
        decision = loop.check(item(form, arguments))
        assert (decision.allowed if decision else None) is (True if direct else None)
        assert (loop.batch([item(form, arguments)]) is not None) is direct


@pytest.mark.parametrize(("bytes_each", "direct"), [(70, True), (2_000, False)])
def test_items_add_up(loop: _Loop, bytes_each: int, direct: bool) -> None:
    """A batch of usual calls stays, also with tokens in its table; one of large ones goes to a thread."""
    chain = loop.token(PLAIN)
    items = [item(chain, {"p": "a" * bytes_each}) for _ in range(256)]
    assert (loop.batch(items) is not None) is direct
    for each in items:
        each.token_index = 1
        each.ClearField("token")
    assert (loop.batch(items, (chain,)) is not None) is direct


def test_an_item_without_a_token_is_denied(loop: _Loop) -> None:
    """It has no chain to look at, and costs nothing."""
    decisions = loop.batch([item(b""), item(loop.token(PLAIN))])
    assert [each.allowed for each in decisions] == [False, True]


def test_a_few_denials_are_explained_and_many_bytes_of_tokens_are_not(loop: _Loop) -> None:
    """Denials of more than 512 bytes of tokens are explained by a thread, and are not answered here."""
    chain = loop.token(PLAIN)
    allowed, denied = item(chain), item(chain, action=b"write")
    decisions = loop.batch([allowed, denied, denied])
    assert [each.explanation for each in decisions] == ["", "why", "why"]
    assert loop.explained == [chain] * 2

    assert loop.batch([denied] * 20) is None
    long = loop.token(*[f"read:files/{number}/**" for number in range(40)])
    assert len(long) > 512
    assert loop.check(item(long)) is None
    assert loop.explained == [chain] * 2


def test_the_ninth_denial_is_explained_without_its_token(loop: _Loop) -> None:
    """An answer names each reason, and reads eight tokens at most."""
    assert [each.explanation for each in loop.batch([item(b"")] * 10)] == ["why"] * 10
    assert loop.explained == [b""] * 8 + [None] * 2
