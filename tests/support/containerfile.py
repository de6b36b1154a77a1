"""Reads a Containerfile: its stages and instructions, as its reference defines them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

KNOWN = {
    *("ARG", "FROM", "COPY", "RUN", "ENV", "VOLUME", "USER", "WORKDIR"),
    *("EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"),
}
_ESCAPED_END = re.compile(r"\\\n")


@dataclass(frozen=True)
class Stage:
    """One stage: its base, its name, and its instructions as pairs of a word and its operands."""

    base: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def all(self, word: str) -> list[str]:
        """Return the operands of each instruction of one kind."""
        return [operands for each, operands in self.instructions if each == word]

    def one(self, word: str) -> str:
        """Return the operands of the only instruction of its kind."""
        (operands,) = self.all(word)
        return operands

    def command(self, word: str) -> list[str]:
        """Return the words of a command in its exec form, which no shell reads. Raises ValueError."""
        words = json.loads(self.one(word).rpartition(" CMD ")[2] or self.one(word))
        if not (isinstance(words, list) and all(isinstance(each, str) for each in words)):
            raise ValueError(f"{word}: must be a list of strings")
        return words

    def environment(self) -> dict[str, str]:
        """Return the variables that the stage sets."""
        return dict(pair.split("=", 1) for operands in self.all("ENV") for pair in operands.split())


def read(path: Path) -> list[Stage]:
    """Return the stages. Raises ValueError for an instruction that is not known, or stands before a stage."""
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.lstrip().startswith("#")]
    arguments: dict[str, str] = {}
    stages: list[Stage] = []
    for line in _ESCAPED_END.sub(" ", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        word, _, operands = line.partition(" ")
        operands = operands.strip()
        if word not in KNOWN:
            raise ValueError(f"{word}: is no instruction that is known")
        if word == "FROM":
            base, _, name = operands.partition(" AS ")
            for argument, value in arguments.items():
                base = base.replace(f"${{{argument}}}", value)
            stages.append(Stage(base, name))
        elif word == "ARG" and not stages:
            arguments.update([operands.split("=", 1)])
        elif not stages:
            raise ValueError(f"{word}: stands before the first stage")
        else:
            stages[-1].instructions.append((word, operands))
    return stages
