"""A fresh process that checks tokens and says what they weigh: ``python -m benchmarks.growth.rss_process``.

It reads one line of JSON from standard input: the state folder, what the cache may hold, and either a
file of tokens, which are presented once each, or how many one-off tokens it is to mint and present. It
answers with a line of JSON. Memory is what the process has for itself (RssAnon), and what it shares with the
file that it maps (RssFile), in bytes.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from benchmarks.floors import fresh
from benchmarks.growth.bulk_tokens import Mint
from benchmarks.growth.growing_state import ISSUER_SEED, session_id
from benchmarks.host_info import ROOT
from benchmarks.tokens import ARGUMENTS, AUDIENCE, RESOURCE, eight_scopes
from benchmarks.workloads import WrongDecision
from sessauth.verifier.verifier import Verifier

# Tokens that are presented before the first look, so that what is made once is not weighed.
WARM_UP: Final = 20
LOOK_EVERY: Final = 1000
MOST_SECONDS: Final = 900
LENGTH_BYTES: Final = 4


def ask(order: dict[str, Any]) -> dict[str, int]:
    """Run it with an order; returns its answer. Raises RuntimeError with what went wrong."""
    answer = subprocess.run(
        [sys.executable, "-m", "benchmarks.growth.rss_process"],
        cwd=ROOT,
        input=json.dumps(order) + "\n",
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS,
    )
    if answer.returncode != 0:
        raise RuntimeError(f"weighing failed: {answer.stderr.strip().rpartition(chr(10))[2]}")
    found: dict[str, int] = json.loads(answer.stdout)
    return found


def write_tokens(file: Path, tokens: Iterable[bytes]) -> None:
    """Write tokens to a new file that its owner alone may read."""
    file.touch(mode=0o600, exist_ok=False)
    with file.open("wb") as out:
        for token in tokens:
            out.write(len(token).to_bytes(LENGTH_BYTES, "big") + token)


def read_tokens(file: Path) -> Iterator[bytes]:
    """Yield the tokens of a file."""
    data = memoryview(file.read_bytes())
    at = 0
    while at < len(data):
        end = at + LENGTH_BYTES + int.from_bytes(data[at : at + LENGTH_BYTES], "big")
        yield bytes(data[at + LENGTH_BYTES : end])
        at = end


def memory() -> dict[str, int]:
    """Return RssAnon and RssFile of this process in bytes."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    return {name: int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile")}


def main() -> int:
    """Do as the line on standard input says."""
    order: dict[str, Any] = json.loads(sys.stdin.readline())
    with Verifier.embedded(
        order["state_dir"], audience=AUDIENCE, cache_bytes=order["cache_bytes"]
    ) as verifier:
        if "tokens" in order:
            answer = _present(verifier, list(read_tokens(Path(order["tokens"]))))
        else:
            answer = _flood(verifier, order["one_off"], order["sessions"])
    print(json.dumps(answer))
    return 0


def _check(verifier: Verifier, token: bytes) -> None:
    if not verifier.check(token, "read", RESOURCE, ARGUMENTS):
        raise WrongDecision("a token was denied")


def _present(verifier: Verifier, tokens: list[bytes]) -> dict[str, int]:
    """Present each token once; the first few are not weighed."""
    for token in tokens[:WARM_UP]:
        _check(verifier, fresh(token))
    gc.collect()
    before, chains = memory(), verifier.cached_chains
    for token in tokens[WARM_UP:]:
        _check(verifier, fresh(token))
    gc.collect()
    after = memory()
    return {
        "anon": after["RssAnon"] - before["RssAnon"],
        "anon_in_all": after["RssAnon"],
        "file": after["RssFile"],
        "chains": verifier.cached_chains - chains,
        "cached_bytes": verifier.cached_bytes,
    }


def _flood(verifier: Verifier, count: int, sessions: int) -> dict[str, int]:
    """Present one-off tokens of the first sessions in turn, and note the most that was ever resident."""
    mint = Mint(ISSUER_SEED, [session_id(number) for number in range(sessions)], eight_scopes(), salt=1)
    for token in mint.take(WARM_UP):
        _check(verifier, token)
    gc.collect()
    before = memory()["RssAnon"]
    peak = quarter = 0
    for number, token in enumerate(mint.take(count), start=1):
        _check(verifier, token)
        if number % LOOK_EVERY == 0:
            peak = max(peak, memory()["RssAnon"] - before)
        if number == count // 4:
            quarter = memory()["RssAnon"] - before
    return {
        "peak": max(peak, memory()["RssAnon"] - before),
        "quarter": quarter,
        "chains": verifier.cached_chains,
        "cached_bytes": verifier.cached_bytes,
    }


if __name__ == "__main__":
    sys.exit(main())
