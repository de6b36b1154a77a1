"""``sessauth conformance``: hold another implementation against the vectors and the kernel."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ....errors import UsageError
from ...context import Settings, with_settings
from ...output import printable
from ...params import PATH, examples

if TYPE_CHECKING:
    from ....conformance.program import Disagreement, Outcome
    from ....conformance.questions import Question


@click.command(
    epilog=examples(
        "conformance --run ./judge", "conformance --run ./judge --cases 100000 --out differences.jsonl"
    )
)
@click.option(
    "--run", "command", required=True, metavar="COMMAND", help="The judge: a program and its arguments."
)
@click.option(
    "--vectors", "folder", type=PATH, help="Folder with the vector files. Default: those of this package."
)
@click.option(
    "--only", "names", multiple=True, metavar="FILE", help="Of the vector files only this one. Repeatable."
)
@click.option(
    "--cases",
    type=click.IntRange(0),
    default=2000,
    show_default=True,
    help="Generated questions after the vectors.",
)
@click.option(
    "--seed", type=click.IntRange(0), default=1, show_default=True, help="Of the generated questions."
)
@click.option(
    "--answer-ms",
    type=click.IntRange(1, 3_600_000),
    default=10_000,
    show_default=True,
    help="How long the judge may take for an answer.",
)
@click.option("--show", type=click.IntRange(0), default=10, show_default=True, help="Disagreements to print.")
@click.option("--out", type=PATH, help="Write each disagreement to this file, one JSON document a line.")
@with_settings
def conformance(
    settings: Settings,
    /,
    command: str,
    folder: Path | None,
    names: Sequence[str],
    cases: int,
    seed: int,
    answer_ms: int,
    show: int,
    out: Path | None,
) -> None:
    """Ask a judge every vector and generated questions. Exits with 1 if an answer is wrong or missing.

    A judge reads one question a line, as JSON, and writes one decision a line: docs/conformance.md.
    """
    from ....conformance.program import Outcome, Program, compare

    words = _words(command)
    outcome = Outcome()
    shown: list[Disagreement] = []
    with Program(words, answer_ms=answer_ms) as judge, _writer(out) as written:
        for found in compare(_questions(folder, names, cases, seed), judge.answer, outcome):
            if len(shown) < show:
                shown.append(found)
            if written is not None:
                written.write(json.dumps(_record(found)) + "\n")
    document = {
        "agreed": outcome.agreed,
        "asked": dict(outcome.questions),
        "wrong": dict(outcome.wrong),
        "without_answer": outcome.faults,
        "stopped": outcome.stopped,
        "disagreements": [_record(found) for found in shown],
    }
    settings.show(document, _lines(outcome, shown), ok=outcome.agreed)


def _words(command: str) -> list[str]:
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise UsageError(f"--run: {error}") from None
    if not words:
        raise UsageError("--run names no program")
    return words


def _questions(folder: Path | None, names: Sequence[str], cases: int, seed: int) -> Iterator[Question]:
    from ....conformance.generator import generate_questions
    from ....conformance.questions import FILES, default_folder, read_vectors

    chosen = [name.removesuffix(".json") for name in names] or list(FILES)
    unknown = [name for name in chosen if name not in FILES]
    if unknown:
        raise UsageError(f"--only: {unknown[0]} is no file of checks; there are {', '.join(FILES)}")
    return chain(read_vectors(folder or default_folder(), chosen), generate_questions(seed, cases))


def _writer(out: Path | None) -> Any:
    """Return the open file as a context manager, or a context of None if ``out`` is None."""
    from contextlib import nullcontext

    if out is None:
        return nullcontext()
    try:
        return out.open("w", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--out: {out} can't be written: {error.strerror}") from None


def _record(found: Disagreement) -> dict[str, Any]:
    question = found.question
    return {
        "source": question.source,
        "name": question.name,
        "asked": question.content,
        "expected": question.expected,
        "answer": found.answer,
        "fault": found.fault,
    }


def _lines(outcome: Outcome, shown: Sequence[Disagreement]) -> list[str]:
    lines = [
        f"{source:<24}{asked:>8} asked{outcome.wrong[source]:>8} wrong"
        for source, asked in outcome.questions.items()
    ]
    for found in shown:
        lines.append(f"{found.question.source}: {printable(found.question.name)}")
        if found.fault:
            lines.append(f"    the judge {printable(found.fault)}")
        for name, (expected, answer) in found.differences().items():
            lines.append(f"    {name}: expected {printable(str(expected))}, got {printable(str(answer))}")
    more = outcome.wrong.total() - len(shown)
    if more > 0 and shown:
        lines.append(f"{more} more disagreements are not shown (--show, --out)")
    if outcome.stopped:
        lines.append("stopped: the judge gave no answer to many questions in a row")
    lines.append(
        "agreed"
        if outcome.agreed
        else f"{outcome.wrong.total()} of {outcome.questions.total()} answers are wrong"
    )
    return lines
