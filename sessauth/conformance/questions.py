"""Questions and answers as JSON, and the questions of the vector files."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ..errors import UsageError
from ..reasons import Level, Reason, Stage

# The files whose vectors are checks.
FILES: Final = (
    *("valid", "invalid", "conditions", "elements", "proofs", "stands", "ed25519"),
    "second_implementation",
)
_PACKAGE: Final = Path(__file__).parent / "vectors"
_CHECKOUT: Final = Path(__file__).parents[2] / "tests" / "vectors"
# Defaults of an answer's members.
_DEFAULTS: Final[Mapping[str, Any]] = {
    "level": Level.NONE.name,
    "index": -1,
    "scope": -1,
    "clause": -1,
    "argument": "",
    "matched_index": -1,
    "matched_scope": -1,
}
_ENUMS: Final = {"reason": Reason, "stage": Stage, "level": Level}


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its source and the right answer.

    ``source`` is a vector file's name without its ending, or ``generated``; ``name`` is unique in it.
    """

    source: str
    name: str
    content: Mapping[str, Any]
    expected: Mapping[str, Any]


def default_folder() -> Path:
    """Return the folder of the vectors that came with the package, or those of the source tree.

    Raises UsageError if there is neither.
    """
    for folder in (_PACKAGE, _CHECKOUT):
        if _file(folder, FILES[0]).is_file():
            return folder
    raise UsageError(
        "no vectors came with this package: give --vectors, the folder tests/vectors of the sources"
    )


def _file(folder: Path, name: str) -> Path:
    """Return the file of some vectors: as in the sources, or compressed as in the package."""
    plain, packed = folder / f"{name}.json", folder / f"{name}.json.gz"
    return packed if packed.is_file() and not plain.is_file() else plain


def read_vectors(folder: Path, names: Sequence[str] = FILES) -> Iterator[Question]:
    """Read the questions of vector files, in their order.

    Raises UsageError for a file that is missing or no vector file.
    """
    for name in names:
        path = _file(folder, name)
        try:
            data = path.read_bytes()
            content = json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)
            views = content["views"]
            for vector in content["vectors"]:
                question = {
                    "token_hex": vector["token_hex"],
                    "request": _expand_runs(vector["request"]),
                    "view": views[vector["view"]],
                    "now_ms": vector["now_ms"],
                }
                yield Question(name, vector["name"], question, complete(vector["expected"]))
        except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path}: not a file of vectors of checks ({type(error).__name__})") from None


def complete(answer: Any) -> dict[str, Any]:
    """Return an answer with all members that are compared, defaults included, and no others.

    Raises ValueError with the fault, for anything but an answer.
    """
    if not isinstance(answer, dict):
        raise ValueError("not a JSON object")
    out = {**_DEFAULTS, "reason": answer.get("reason"), "stage": answer.get("stage")}
    out.update((name, answer[name]) for name in _DEFAULTS if name in answer)
    for name, kind in _ENUMS.items():
        if not isinstance(out[name], str) or out[name] not in kind.__members__:
            raise ValueError(f"{name} is no word of the format")
    for name, default in _DEFAULTS.items():
        if type(out[name]) is not type(default):
            raise ValueError(f"{name} is not {'a text' if isinstance(default, str) else 'a whole number'}")
    out["allowed"] = answer.get("allowed", out["reason"] == Reason.ALLOWED.name)
    if not isinstance(out["allowed"], bool):
        raise ValueError("allowed is not true or false")
    return out


def _expand_runs(request: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request with its runs replaced by their text."""
    out = {name: value for name, value in request.items() if not name.endswith("_runs")}
    for name in request.keys() - out.keys():
        out[name.removesuffix("_runs")] = "".join(part * times for part, times in request[name])
    return out
