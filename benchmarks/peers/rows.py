"""The peers, their rows, and the paragraph on what is not equal in each."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from importlib import metadata
from typing import Final

from benchmarks.measure import Row, Subject
from benchmarks.peers import ours
from benchmarks.peers.work import Form

NOTE_BEGINS: Final = "Not equal: "


@dataclass(frozen=True)
class Peer:
    """A library that is compared; ``module`` says how, and is importable where the library is not."""

    name: str
    module: str
    forms: str = "forms"

    @property
    def package(self) -> str:
        """The name of its distribution."""
        return str(importlib.import_module(self.module).PACKAGE)

    @property
    def version(self) -> str:
        """The installed version, or nothing."""
        try:
            return metadata.version(self.package)
        except metadata.PackageNotFoundError:
            return ""

    @property
    def note(self) -> str:
        """The paragraph on what is not equal, in one line; ValueError if its module has none."""
        text = inspect.getdoc(importlib.import_module(self.module)) or ""
        for paragraph in text.split("\n\n"):
            if paragraph.startswith(NOTE_BEGINS):
                return " ".join(paragraph.split())
        raise ValueError(f"{self.module} does not say what is not equal")

    def load(self) -> list[Form]:
        """Return its forms; raises ImportError where the library is not installed."""
        make: Callable[[], Iterable[Form]] = getattr(importlib.import_module(self.module), self.forms)
        return list(make())


PEERS: Final = (
    Peer("biscuit", "benchmarks.peers.biscuit"),
    Peer("tenuo", "benchmarks.peers.tenuo"),
    Peer("pymacaroons", "benchmarks.peers.pymacaroons"),
    Peer("pyjwt-eddsa", "benchmarks.peers.pyjwt", "eddsa"),
    Peer("pyjwt-hs256", "benchmarks.peers.pyjwt", "hs256"),
    Peer("cedarpy", "benchmarks.peers.cedar"),
)


def floors_of(form: Form) -> Iterator[tuple[str, str]]:
    """Yield for each row of a form what its name ends in and our row that it is compared with.

    A kept token is compared with our warm check, one that is read from its text every time with our cold
    check of a text of as many blocks; where it verifies more signatures than that, also with our chain of as
    many signatures, or kept, with our check of a bound token and its proof.
    """
    if form.reads is not None:
        yield "", f"ours/{form.name}"
        return
    if form.name.startswith("kept"):
        yield "", f"ours/warm-{form.blocks}"
        if form.signatures > form.blocks == 1:
            yield "-by-proof", ours.PROOF_NAME
        return
    yield "", f"ours/text-{form.blocks}"
    if form.signatures > form.blocks:
        yield "-by-signatures", f"ours/text-{form.signatures}"


def rows(peer: Peer, forms: Iterable[Form], floor: Callable[[str], Subject]) -> Iterator[Row]:
    """Yield the rows of a peer, with ``floor`` giving our rows by name; raises WrongDecision."""
    for form in forms:
        subject = form.subject(peer.name)
        for ending, name in floors_of(form):
            row = replace(subject, name=f"{subject.name}{ending}")
            yield Row(row, floor(name), partial(_figures, form))


def _figures(form: Form) -> dict[str, float]:
    """Return what a form works on, for the results."""
    return {"blocks": form.blocks, "signatures": form.signatures, "token bytes": form.token_bytes}


def versions() -> dict[str, str]:
    """Return the installed version of each library, or nothing for one that is not."""
    return {peer.package: peer.version for peer in PEERS}


def notes() -> dict[str, str]:
    """Return for each library what is not equal."""
    return {peer.package: peer.note[len(NOTE_BEGINS) :] for peer in PEERS}
