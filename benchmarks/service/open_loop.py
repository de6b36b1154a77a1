"""Calls at moments that are drawn beforehand, whether or not earlier ones were answered.

A closed loop waits for a slow server and so calls it less: a stall of 100 ms costs it one slow call. Here
each call has its moment, and its latency counts from that moment. So it includes the wait of calls behind a
stall, and the lateness of the generator itself. The generator is ``open_loop.c``, with a core for itself.
"""

from __future__ import annotations

import os
import random
import struct
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from benchmarks.service.h2load import HEADERS, PREFIX_BYTES, compiled, framed, write_private
from benchmarks.service.load_spec import DRIVE_SECONDS, Call, Drive, LoadError

SOURCE: Final = Path(__file__).with_name("open_loop.c")
# Entries 1 to 61 of HPACK's table are the standard's; ours follow, the newest first.
FIRST_OWN_ENTRY: Final = 62
MAX_ANSWER: Final = 512
RESULT: Final = struct.Struct(f"=ddI{MAX_ANSWER}s")


def schedule(count: int, per_second: float, seed: int) -> list[float]:
    """Return ``count`` moments in seconds from the beginning: callers that know nothing of each other.

    The pauses are drawn from an exponential distribution. The same seed gives the same moments.
    """
    source = random.Random(seed)
    moments, at = [], 0.0
    for _ in range(count):
        at += source.expovariate(per_second)
        moments.append(at)
    return moments


def whole_number(value: int, bits: int, first: int) -> bytes:
    """Return a number as HPACK writes it: in the low ``bits`` of a byte that holds ``first``, and on."""
    limit = (1 << bits) - 1
    if value < limit:
        return bytes((first | value,))
    out = bytearray((first | limit,))
    value -= limit
    while value >= 128:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def header_blocks(headers: Sequence[tuple[str, str]]) -> tuple[bytes, bytes]:
    """Return the header block of the first call of a connection, and that of every later one.

    The first puts its headers into the connection's table, where the later ones refer to them.
    """
    first = bytearray()
    for name, value in headers:
        first.append(0x40)
        for text in (name.encode(), value.encode()):
            first += whole_number(len(text), 7, 0) + text
    newest = FIRST_OWN_ENTRY + len(headers) - 1
    later = b"".join(whole_number(newest - position, 7, 0x80) for position in range(len(headers)))
    return bytes(first), later


@dataclass(frozen=True)
class Planned:
    """Calls of one drive: when each is due, in seconds from the beginning, and which request it sends."""

    moments: Sequence[float]
    requests: Sequence[bytes]
    # The position of each call's request.
    chosen: Sequence[int]


class OpenLoop:
    """Drives calls of one kind by a plan. Use :meth:`prepare`."""

    def __init__(self, program: Path, folder: Path) -> None:
        """Run ``program``, with its plan in a folder that only this user can read."""
        self._program = program
        self._plan = folder / "plan"

    @classmethod
    def prepare(cls, folder: Path) -> Self:
        """Compile the generator below ``folder``. Raises NotUsable."""
        return cls(compiled(SOURCE, folder / "open_loop"), folder)

    def drive(self, call: Call, connections: int, planned: Planned) -> Drive:
        """Make the calls in turn over new connections and hold every answer.

        Raises WrongDecision and LoadError.
        What the server refused because it was too busy has no latency, and is counted. The first target must
        be a Unix socket.
        """
        write_private(self._plan, _plan(call, connections, planned))
        cpu = call.server.cpu_us()
        try:
            done = subprocess.run([self._program, self._plan], capture_output=True, timeout=DRIVE_SECONDS)
        except subprocess.TimeoutExpired:
            raise LoadError(f"calls on a schedule: not done after {DRIVE_SECONDS:.0f} seconds") from None
        finally:
            os.unlink(self._plan)
        cpu = call.server.cpu_us() - cpu
        if done.returncode != 0:
            raise LoadError(f"calls on a schedule: {done.stderr.decode('utf-8', 'replace').strip()}")
        results = list(RESULT.iter_unpack(done.stdout))
        if len(results) != len(planned.moments):
            raise LoadError(f"{len(planned.moments)} calls on a schedule, {len(results)} results")
        answered = [each for each in results if each[2]]
        call.require([answer[PREFIX_BYTES:size] for _, _, size, answer in answered])
        ends = [moment * 1e6 + each[0] for moment, each in zip(planned.moments, results, strict=True)]
        return Drive(
            calls=len(answered),
            wall_us=max(ends) - planned.moments[0] * 1e6,
            cpu_us=cpu,
            latencies_us=[latency for latency, *_ in answered],
            refused=len(results) - len(answered),
            late_us=tuple(late for _, late, *_ in results),
        )


def _plan(call: Call, connections: int, planned: Planned) -> bytes:
    """Return a plan as ``open_loop.c`` reads it. Raises LoadError for a target that is no Unix socket."""
    kind, _, path = call.targets[0].address.partition(":")
    if kind != "unix":
        raise LoadError(f"{call.targets[0].address}: calls on a schedule go to a Unix socket")
    headers = [(":method", "POST"), (":scheme", "http"), (":path", call.method), (":authority", "localhost")]
    for header in HEADERS:
        name, _, value = header.partition(": ")
        headers.append((name, value))
    if call.credential:
        headers.append(("authorization", f"Bearer {call.credential}"))
    first, later = header_blocks(headers)
    socket = os.fsencode(path)
    counts = (connections, len(planned.moments), len(planned.requests), len(socket), len(first), len(later))
    parts = [struct.pack("=6I", *counts), socket, first, later]
    for message in map(framed, planned.requests):
        parts += [struct.pack("=I", len(message)), message]
    parts += [struct.pack("=dI", *each) for each in zip(planned.moments, planned.chosen, strict=True)]
    return b"".join(parts)
