"""The chain of audit lines, against its definition."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from threading import Event, Thread

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sessauth._fast import _codec as codec
from sessauth.audit import layout

_LABEL = b"sessauth/audit-chain/v1\x00"
_texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


def _model(bodies: list[bytes], first_n: int, previous: bytes) -> tuple[bytes, bytes]:
    """Seal as docs/audit.md says."""
    lines = b""
    for n, body in enumerate(bodies, start=first_n):
        content = b'{"n":%d,' % n + body[1:-2]
        previous = hashlib.blake2b(_LABEL + previous + content, digest_size=32).digest()
        lines += content + b',"chain":"' + previous.hex().encode() + b'"}\n'
    return lines, previous


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.builds(lambda kind, text: layout.body(kind, {"text": text}), _texts, _texts), max_size=8),
    st.integers(0, 2**53 - 10),
    st.binary(min_size=32, max_size=32),
)
def test_seal_and_walk_agree_with_the_definition(bodies: list[bytes], first_n: int, previous: bytes) -> None:
    """Lines are as the definition says, and a walk takes them all and comes to the same head."""
    lines, head, count = codec.seal(b"".join(bodies), first_n, previous)

    assert (lines, head) == _model(bodies, first_n, previous)
    assert count == len(bodies)
    walked = codec.walk(lines, 0, first_n, previous, 0, 0)
    assert walked[:3] == (count, len(lines), head)
    for line in lines.splitlines():
        previous = codec.link(line[:-76], previous)
    assert previous == head


def _bodies(count: int) -> bytes:
    return b"".join(layout.body("decision", {"at_ms": i, "text": "x" * (i % 50)}) for i in range(count))


def test_a_walk_tells_what_must_be_read() -> None:
    """Lines of kinds other than decision, change and chain come with number and place; late ones too."""
    kinds = ["begin", "decision", "change", "chain", "decisions", "checkpoint", "x"]
    bodies = b"".join(layout.body(kind, {"at_ms": 100 - 30 * (i == 4)}) for i, kind in enumerate(kinds))
    lines, _, _ = codec.seal(bodies, 0, bytes(32))

    _, _, _, read, back, latest = codec.walk(lines, 0, 0, bytes(32), 0, 29)

    assert [n for n, _, _ in read] == [0, 4, 5, 6]
    assert [n for n, _, _ in back] == [4]
    assert latest == 100
    for n, start, end in [*read, *back]:
        assert lines[start:end] == lines.splitlines(keepends=True)[n]
    assert codec.walk(lines, 0, 0, bytes(32), 0, 30)[4] == []


@pytest.mark.parametrize(
    "bodies", [b"\n", b"{}\n", b'{"kind":"a"}', b'{"kind":"\n', b'{"kind":"a"} \n', b'x{"kind":"a"}\n']
)
def test_other_bodies_are_refused(bodies: bytes) -> None:
    """Only objects that begin with their kind and end in a line feed; the message says which is none."""
    good = b'{"kind":"a"}\n'
    with pytest.raises(ValueError, match="body 1"):
        codec.seal(good + bodies, 0, bytes(32))


def test_numbers_and_chains_out_of_range_are_refused() -> None:
    """A negative number, one beyond 2**53, a chain of another length."""
    for first_n, previous in ((-1, bytes(32)), (2**53 - 1, bytes(32)), (0, bytes(31)), (0, bytes(33))):
        with pytest.raises(ValueError):
            codec.seal(b'{"kind":"a"}\n', first_n, previous)
    with pytest.raises(ValueError):
        codec.walk(b"", -1, 0, bytes(32), 0, 0)
    with pytest.raises(ValueError):
        codec.walk(b"", 0, 0, b"", 0, 0)
    with pytest.raises(ValueError):
        codec.link(b"", b"")
    assert codec.seal(b"", 3, b"\2" * 32) == (b"", b"\2" * 32, 0)
    assert codec.walk(b"", 5, 0, bytes(32), 0, 0)[:2] == (0, 5)


def test_other_threads_run_meanwhile() -> None:
    """Neither sealing nor walking holds the interpreter lock: others run before such a call is over."""
    bodies = _bodies(20_000)
    lines, _, _ = codec.seal(bodies, 0, bytes(32))
    interval = sys.getswitchinterval()
    # From now on a thread that holds the lock keeps it until it gives it up.
    sys.setswitchinterval(1_000)
    try:
        for call in (
            lambda: codec.walk(lines, 0, 0, bytes(32), 0, 0),
            lambda: codec.seal(bodies, 0, bytes(32)),
        ):
            assert any(_others_run(call) for _ in range(200))
        assert not _others_run(lambda: sum(range(200_000)))
    finally:
        sys.setswitchinterval(interval)


def _others_run(call: Callable[[], object]) -> bool:
    """Return whether this thread ran while another was in a call."""
    over: list[bool] = []
    begun = Event()

    def work() -> None:
        begun.set()
        call()
        over.append(True)

    thread = Thread(target=work)
    thread.start()
    begun.wait()
    meanwhile = not over
    thread.join()
    return meanwhile
