"""The floors: subjects that do what can't be avoided, and nothing else."""

from __future__ import annotations

import importlib.util
import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.measure import Loop
from sessauth._fast.token.chain import Chain, signed_bytes

SOURCE: Final = Path(__file__).with_name("_floor.pyx")
# The size that the lookup floor is defined by, in bytes.
LOOKUP_BYTES: Final = 420


def build(folder: Path) -> Any:
    """Compile ``_floor.pyx`` in a folder and return the module. Raises RuntimeError with what went wrong."""
    shutil.copy(SOURCE, folder / "_floor.pyx")
    answer = subprocess.run(
        [sys.executable, "-m", "Cython.Build.Cythonize", "--inplace", "--quiet", "_floor.pyx"],
        cwd=folder,
        env={**os.environ, "CFLAGS": "-O2"},
        capture_output=True,
        text=True,
    )
    built = sorted(folder.glob("_floor.*.so"))
    if answer.returncode != 0 or not built:
        raise RuntimeError(f"the floors could not be compiled:\n{answer.stdout}{answer.stderr}")
    spec = importlib.util.spec_from_file_location("_floor", built[0])
    if spec is None or spec.loader is None:
        raise RuntimeError(f"{built[0]} is no module")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def fresh(data: bytes) -> bytes:
    """Return an equal object whose hash was never taken: a reused one hides what hashing costs."""
    return bytes(memoryview(data))


def lookup(module: Any, token: bytes) -> Loop:
    """Return the lookup floor over ``LOOKUP_BYTES`` bytes that begin as the token."""
    token = (token * (LOOKUP_BYTES // len(token) + 1))[:LOOKUP_BYTES]
    found = object()
    find = module.Lookup({token: found}).find
    if find(fresh(token)) is not found or find(token[:-1]) is not None:
        raise RuntimeError("the lookup floor does not find what it should")

    def run(tokens: Sequence[bytes]) -> None:
        for each in tokens:
            find(each)

    return Loop("floor/lookup", 2000, lambda count: [fresh(token) for _ in range(count)], run)


def signatures(
    module: Any, name: str, tokens: Sequence[bytes], issuer_key: bytes, *, last: int = 0, calls: int = 12
) -> Loop:
    """Return the floor of the bare signatures of whole chains; with ``last`` only of their last blocks."""
    chains = [_signed_messages(token, issuer_key)[-last:] for token in tokens]
    verify = module.verify
    for chain in chains:
        for signed, key in chain:
            if not verify(signed, key) or verify(signed[:-1] + bytes([signed[-1] ^ 1]), key):
                raise RuntimeError("the signature floor does not verify what it should")

    turns = itertools.count()

    def prepare(count: int) -> list[list[tuple[bytes, bytes]]]:
        # Other signatures in each block: a processor learns the branches of those that it sees again.
        chosen = [chains[next(turns) % len(chains)] for _ in range(count)]
        return [[(fresh(signed), key) for signed, key in chain] for chain in chosen]

    def run(items: Sequence[list[tuple[bytes, bytes]]]) -> None:
        for item in items:
            for signed, key in item:
                verify(signed, key)

    return Loop(name, calls, prepare, run)


def _signed_messages(token: bytes, issuer_key: bytes) -> list[tuple[bytes, bytes]]:
    """Return signature and message of each block in one piece, and the key that it stands under."""
    chain = Chain.parse(token)
    messages = []
    previous, key = b"", issuer_key
    for index, (signature, payload) in enumerate(zip(chain.signatures, chain.payloads, strict=True)):
        messages.append((signature + signed_bytes(index, previous, payload), key))
        previous = signature
        if index + 1 < chain.block_count:
            key = _next_key(token, chain, index)
    return messages


def _next_key(token: bytes, chain: Chain, index: int) -> bytes:
    """Return the key that a block names for the one behind it: that of its prefix as a token of its own."""
    return Chain.parse(token[: chain.prefix_ends[index]]).next_key
