"""A process that takes nonces from a replay table: ``python -m tests.support.procs.nonce_consumer``.

It reads lines of standard input and answers each with a line. ``race PATH SEED COUNT``: open the table, print
``ready``, wait for another line, take COUNT nonces of the seed, and print the reasons by number.
``fork PATH SEED COUNT``: take them in this process and in a child forked from it at once, and print the
reasons of both. ``again PATH SECONDS``: take one nonce again and again until that time or another line,
and print the count of each reason, after a line with the first.
"""

from __future__ import annotations

import json
import os
import random
import select
import sys
import time
from collections import Counter

from sessauth._fast._check import ReplayTable

NOW = 1_800_000_000_000
SIGNATURE = b"s" * 64


def write_line(text: str) -> None:
    """Write a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def nonces(seed: int, count: int) -> list[bytes]:
    """The nonces of a seed."""
    rng = random.Random(seed)
    return [rng.randbytes(16) for _ in range(count)]


def race(path: str, seed: int, count: int) -> None:
    """Take all nonces of a seed after a line of input."""
    table, wanted = ReplayTable.open(path), nonces(seed, count)
    holders = [bytes([number]) * 32 for number in range(256)]
    write_line("ready")
    sys.stdin.readline()
    write_line(json.dumps([table.insert(SIGNATURE, once, holders[once[0]], NOW, NOW) for once in wanted]))


def again(path: str, seconds: float) -> None:
    """Take one nonce, for ever."""
    table, until = ReplayTable.open(path), time.monotonic() + seconds
    found: Counter[int] = Counter()
    once, key = bytes(16), bytes(32)
    write_line(str(table.insert(SIGNATURE, once, key, NOW, NOW)))
    while time.monotonic() < until and not select.select([sys.stdin], [], [], 0)[0]:
        for _ in range(10_000):
            found[table.insert(SIGNATURE, once, key, NOW, NOW)] += 1
    write_line(json.dumps({str(reason): count for reason, count in found.items()}))


def fork(path: str, seed: int, count: int) -> None:
    """Take all nonces of a seed twice, through one opening of the table."""
    table, wanted = ReplayTable.open(path), nonces(seed, count)
    read, write = os.pipe()
    child = os.fork()
    found = bytes(table.insert(SIGNATURE, once, bytes([once[0]]) * 32, NOW, NOW) for once in wanted)
    if child == 0:
        os.write(write, found)
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        write_line(json.dumps([list(found), list(pipe.read())]))
    os.waitpid(child, 0)


if __name__ == "__main__":
    what, where, *numbers = sys.stdin.readline().split()
    if what == "race":
        race(where, int(numbers[0]), int(numbers[1]))
    elif what == "fork":
        fork(where, int(numbers[0]), int(numbers[1]))
    else:
        again(where, float(numbers[0]))
