"""Provers: which key they prove for, when they fetch keys, and what they do without."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from sessauth import AsyncProver, HolderKey, IssuerKey, Prover, Token, ToolCatalog, VerifierKey, VerifierKeys
from sessauth._fast import _check as kernel
from sessauth.clock import FixedClock
from sessauth.errors import MalformedToken, Unavailable, UnknownTool, UsageError
from sessauth.limits import PROOF_WINDOW_MS
from sessauth.reasons import Reason
from sessauth.scopes.call_arguments import encode
from sessauth.tokens.token import Issuer

NOW = 1_800_000_000_000
HOUR = 3_600_000
ISSUER = IssuerKey(bytes(range(32)))
FOREIGN = IssuerKey(bytes(range(1, 33)))
HOLDER = HolderKey.generate()
CATALOGUE = ToolCatalog.from_mcp("github", [{"name": "get", "annotations": {"readOnlyHint": True}}])


def _secret(number: int) -> bytes:
    return bytes([number]) * 32


def _host_key(number: int, now_ms: int = NOW, left_ms: int = HOUR) -> VerifierKey:
    public = kernel.x25519_public(_secret(number))
    return VerifierKey(b"v" * 16, public, now_ms - 1000, now_ms + left_ms, b"c" * 16)


def _keys(*numbers: int, now_ms: int = NOW, left_ms: int = HOUR) -> VerifierKeys:
    signed = [_host_key(number, now_ms, left_ms).signed_by(ISSUER) for number in numbers]
    return VerifierKeys(signed, [ISSUER.public_key], now_ms=now_ms)


def _token(to: HolderKey | None = HOLDER) -> Token:
    public = to.public if to is not None else None
    return Issuer(ISSUER).mint(b"s" * 16, ["read:**"], ["gw"], ttl_ms=60_000, to=public)


def _number(proof: bytes, *numbers: int) -> int:
    """Return the number of the host's key that a proof is for."""
    key_id = kernel.decode_message("Proof", proof)["key_id"]
    return next(number for number in numbers or (1, 2, 3) if _host_key(number).key_id == key_id)


class Source:
    """A source of keys that is counted; it returns or raises ``answer``."""

    def __init__(self, answer: VerifierKeys | Exception) -> None:
        """Answer so until it is changed."""
        self.answer = answer
        self.calls = 0

    def __call__(self) -> VerifierKeys:
        """Return or raise the answer."""
        self.calls += 1
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def awaited(self) -> VerifierKeys:
        """Do the same, after others had a turn."""
        await asyncio.sleep(0)
        return self()


Prove = Callable[[], bytes]
Make = Callable[[Source, FixedClock], tuple[Prove, Prover | AsyncProver]]


@pytest.fixture(params=["blocking", "awaited", "awaited, blocking source"])
def made(
    request: pytest.FixtureRequest,
) -> Callable[[Source, FixedClock], tuple[Prove, Prover | AsyncProver]]:
    """Make a prover of a form; returns a function that proves one call with it, and the prover."""

    def make(source: Source, clock: FixedClock) -> tuple[Prove, Prover | AsyncProver]:
        token = _token()
        if request.param == "blocking":
            prover = Prover(HOLDER, source, clock=clock)
            return lambda: prover.prove(token, "read", "files/a"), prover
        awaited = AsyncProver(HOLDER, source.awaited if request.param == "awaited" else source, clock=clock)
        return lambda: asyncio.run(awaited.prove(token, "read", "files/a")), awaited

    return make


def test_keys_are_fetched_at_half_their_life(made: Make) -> None:
    """Once at first, then not before half of what the newest key has left."""
    clock, source = FixedClock(NOW), Source(_keys(1))
    prove, _ = made(source, clock)
    assert source.calls == 0

    assert [_number(prove()) for _ in range(3)] == [1, 1, 1] and source.calls == 1
    clock.advance(HOUR // 2 - 1)
    assert _number(prove()) == 1 and source.calls == 1
    source.answer = _keys(2, 1, now_ms=NOW + HOUR // 2)
    clock.advance(1)
    assert _number(prove()) == 2 and source.calls == 2
    # A host that did not rotate yet is asked at half of what is left then.
    clock.advance(HOUR // 2)
    assert _number(prove()) == 2 and source.calls == 3
    clock.advance(HOUR // 4 - 1)
    assert _number(prove()) == 2 and source.calls == 3


def test_a_source_that_fails_is_called_later(made: Make) -> None:
    """While the older key counts it is proven for; without one the source's error is raised."""
    clock, source = FixedClock(NOW), Source(OSError("no answer"))
    prove, _ = made(source, clock)
    with pytest.raises(OSError, match="no answer"):
        prove()
    source.answer = _keys(1)
    assert _number(prove()) == 1
    source.answer = Unavailable("no answer")
    clock.advance(HOUR // 2)
    calls = source.calls
    assert [_number(prove()) for _ in range(5)] == [1] * 5
    assert source.calls == calls + 1
    clock.advance(HOUR // 2 - PROOF_WINDOW_MS)
    for _ in range(2):
        with pytest.raises(Unavailable, match="no answer"):
            prove()
    source.answer = _keys(1)
    with pytest.raises(Unavailable, match="end too soon"):
        prove()


def test_an_older_key_stays_if_the_fetched_ones_end_first(made: Make) -> None:
    """A host's answer with keys that are nearly over replaces nothing that counts longer."""
    clock, source = FixedClock(NOW), Source(_keys(1))
    prove, _ = made(source, clock)
    prove()
    clock.advance(HOUR // 2)
    source.answer = _keys(2, now_ms=NOW + HOUR // 2, left_ms=PROOF_WINDOW_MS)
    assert _number(prove()) == 1


@pytest.mark.parametrize("reason", list(Reason))
def test_rejected_keys_are_fetched_again(made: Make, reason: Reason) -> None:
    """A bad or stale proof alone has that effect; other denials say nothing about the keys."""
    source = Source(_keys(1))
    prove, prover = made(source, FixedClock(NOW))
    prove()
    source.answer = _keys(2)

    again = prover.drop_rejected_keys(reason)

    assert again == (reason in (Reason.BAD_PROOF, Reason.STALE_PROOF))
    assert _number(prove()) == (2 if again else 1)


def test_the_proof_is_that_of_the_call() -> None:
    """Kinds, values in each form, and a tool by its catalogue prove what the gateway judges."""
    clock = FixedClock(NOW)
    prover, token = Prover(HOLDER, _keys(1), clock=clock), _token()
    binding = token.binding
    assert binding is not None
    for arguments in (b'{"a":1}', '{"a":1}', {"a": 1}):
        made = kernel.decode_message("Proof", prover.prove_tool(token.text, CATALOGUE, "get", arguments))
        digest = kernel.request_digest(b"read", b"mcp/github/get", encode(arguments))
        covered = kernel.covered_bytes(
            *(made["kind"], binding.signature, made["verifier_id"], made["key_id"], digest),
            *(made["time_ms"], made["nonce"]),
        )
        agreed = kernel.mac_key_of_holder(
            HOLDER._proof_secret, _host_key(1).public_key, HOLDER.public.next_key, b"v" * 16
        )
        assert (made["kind"], made["tag"]) == (2, kernel.mac(agreed, covered))
        assert made["time_ms"] == NOW
    assert kernel.decode_message("Proof", prover.prove(token, "read", "x", kind="ed25519"))["kind"] == 1
    assert prover.prove(token, "read", "x") != prover.prove(token, "read", "x")
    with pytest.raises(UnknownTool):
        prover.prove_tool(token, CATALOGUE, "drop")


def test_tokens_that_need_no_proof_and_those_it_can_not_prove() -> None:
    """An unbound token gets an empty proof without keys; another's, and no token, raise."""
    source = Source(OSError("not asked"))
    prover = Prover(HOLDER, source)
    assert (
        prover.prove(_token(None), "read", "x")
        == b""
        == asyncio.run(AsyncProver(HOLDER, source).prove(_token(None), "read", "x"))
    )
    assert source.calls == 0
    source.answer = VerifierKeys(
        [_host_key(1, 1000, 1 << 47).signed_by(ISSUER)], [ISSUER.public_key], now_ms=0
    )
    with pytest.raises(UsageError, match="another holder"):
        prover.prove(_token(HolderKey.generate()), "read", "x")
    with pytest.raises(MalformedToken):
        prover.prove(b"none", "read", "x")


def test_keys_that_were_handed_over_end() -> None:
    """They are fetched from nobody, are not dropped, and past their end nothing is proven."""
    clock = FixedClock(NOW)
    prover, token = Prover(HOLDER, _keys(1), clock=clock), _token()
    clock.advance(HOUR - PROOF_WINDOW_MS - 1)
    assert not prover.drop_rejected_keys(Reason.BAD_PROOF)
    assert _number(prover.prove(token, "read", "x")) == 1
    clock.advance(1)
    with pytest.raises(Unavailable, match="end too soon"):
        prover.prove(token, "read", "x")


@pytest.mark.parametrize("kind", [Prover, AsyncProver])
def test_wrong_sources_are_named(kind: type[Prover]) -> None:
    """Neither keys nor a function: refused at once; a function with another result: when it is called."""
    with pytest.raises(TypeError, match="keys: "):
        kind(HOLDER, "keys.json")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="returned str"):
        Prover(HOLDER, lambda: "keys").prove(_token(), "read", "x")  # type: ignore[arg-type, return-value]


def test_one_thread_fetches_and_others_go_on() -> None:
    """While one is at the source, others prove for the older key; without one they wait."""
    clock = FixedClock(NOW)
    inside, leave = threading.Event(), threading.Event()
    answers, calls = [_keys(1), _keys(2, now_ms=NOW + HOUR // 2)], []

    def source() -> VerifierKeys:
        calls.append(threading.get_ident())
        inside.set()
        assert leave.wait(20)
        return answers.pop(0)

    prover, token = Prover(HOLDER, source, clock=clock), _token()
    numbers: list[int] = []

    def work() -> None:
        numbers.append(_number(prover.prove(token, "read", "x")))

    first = [threading.Thread(target=work) for _ in range(8)]
    for thread in first:
        thread.start()
    assert inside.wait(20)
    leave.set()
    for thread in first:
        thread.join()
    assert numbers == [1] * 8 and len(calls) == 1

    clock.advance(HOUR // 2)
    inside.clear()
    leave.clear()
    fetching = threading.Thread(target=work)
    fetching.start()
    assert inside.wait(20)
    assert [_number(prover.prove(token, "read", "x")) for _ in range(4)] == [1] * 4
    leave.set()
    fetching.join()
    assert numbers[-1] == 2 and len(calls) == 2


def test_tasks_share_a_fetch_and_outlive_a_cancelled_one() -> None:
    """One of ten tasks fetches; if it is cancelled another does, and an older key is used meanwhile."""
    clock = FixedClock(NOW)
    calls = 0

    async def main() -> None:
        gate = asyncio.Event()

        async def source() -> VerifierKeys:
            nonlocal calls
            calls += 1
            await gate.wait()
            return _keys(calls, now_ms=clock.now_ms())

        prover, token = AsyncProver(HOLDER, source, clock=clock), _token()
        tasks = [asyncio.ensure_future(prover.prove_tool(token, CATALOGUE, "get")) for _ in range(10)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        gate.set()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(done[0], asyncio.CancelledError) and calls == 2
        assert {_number(each) for each in done[1:]} == {2}  # type: ignore[arg-type]
        gate.clear()
        clock.advance(HOUR // 2)
        fetching = asyncio.ensure_future(prover.prove(token, "read", "x"))
        await asyncio.sleep(0)
        assert _number(await prover.prove(token, "read", "x")) == 2
        gate.set()
        assert _number(await fetching) == 3

    asyncio.run(main())


def test_keys_travel_as_json(tmp_path: Path) -> None:
    """Read again they are the same keys; only those that count are written, and no secret is."""
    signed = [_host_key(1), _host_key(2, NOW - 9000, 8000)]
    keys = VerifierKeys([each.signed_by(ISSUER) for each in signed], [ISSUER.public_key], now_ms=NOW)
    text = keys.to_json()
    jwks = json.dumps({"keys": [ISSUER.public_jwk()]})

    assert list(VerifierKeys.from_json(text, jwks, now_ms=NOW)) == [_host_key(1)] == list(keys)
    assert _secret(1).hex() not in text and text.count("payload") == 1
    lasting = VerifierKeys([_host_key(1, 1000, 1 << 47).signed_by(ISSUER)], jwks, now_ms=0)
    (tmp_path / "keys").write_text(lasting.to_json())
    assert list(VerifierKeys.load(tmp_path / "keys", jwks)) == list(lasting)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: "", "not verifier keys"),
        (lambda text: "[]", "not verifier keys"),
        (lambda text: "[" * 100_000, "not verifier keys"),
        (lambda text: text.replace('"payload"', '"other"'), "not verifier keys"),
        (lambda text: text.replace('"payload": "', '"payload": "zz'), "not verifier keys"),
        (lambda text: json.dumps({"format": 1, "verifier_keys": [1]}), "not verifier keys"),
        (lambda text: json.dumps({"format": 1, "verifier_keys": []}), "no verifier key counts"),
        (lambda text: text.replace('"format": 1', '"format": 2'), "format 2"),
        (lambda text: text.replace(_host_key(1).public_key.hex(), "00" * 32), "signature"),
        (lambda text: text.replace(ISSUER.key_id.hex(), FOREIGN.key_id.hex()), "none of those given"),
    ],
)
def test_other_json_is_refused(change: Callable[[str], str], message: str) -> None:
    """A text of another form, and keys that no trusted issuer key signed, raise UsageError."""
    with pytest.raises(UsageError, match=message):
        VerifierKeys.from_json(change(_keys(1).to_json()), [ISSUER.public_key], now_ms=NOW)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """A file that can't be read is named."""
    with pytest.raises(UsageError, match=str(tmp_path / "none")):
        VerifierKeys.load(tmp_path / "none", [ISSUER.public_key])
