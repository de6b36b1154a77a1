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

from benchmarks.host_info import ROOT
from benchmarks.measure import Loop
from sessauth._fast._check import Chain, signed_bytes

SOURCE: Final = Path(__file__).with_name("_floor.pyx")
# The size that the lookup floor is defined by, in bytes.
LOOKUP_BYTES: Final = 420


def build(folder: Path) -> Any:
    """Compile ``_floor.pyx`` in a folder and return the module. Raises RuntimeError with what went wrong."""
    compiled(SOURCE, folder)
    return load(folder, SOURCE)


def compiled(source: Path, folder: Path) -> None:
    """Compile a Cython module in a folder. Raises RuntimeError with what went wrong."""
    shutil.copy(source, folder / source.name)
    answer = subprocess.run(
        [sys.executable, "-m", "Cython.Build.Cythonize", "--inplace", "--quiet", source.name],
        cwd=folder,
        env={**os.environ, "CFLAGS": "-O2", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    if answer.returncode != 0 or not sorted(folder.glob(f"{source.stem}.*.so")):
        raise RuntimeError(f"{source.name} could not be compiled:\n{answer.stdout}{answer.stderr}")


def load(folder: Path, source: Path) -> Any:
    """Return a module that was compiled in a folder. Raises RuntimeError."""
    built = sorted(folder.glob(f"{source.stem}.*.so"))
    spec = importlib.util.spec_from_file_location(source.stem, built[0]) if built else None
    if spec is None or spec.loader is None:
        raise RuntimeError(f"{folder} has no module {source.stem}")
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
