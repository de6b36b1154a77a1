"""Exceptions of ceilings (section 5.1): for each the calls that fall under it, and others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.oracle.constants import Level, Reason
from tests.vectors.exceptions import EXCEPTIONS
from tests.vectors.world import Case, allowed, ask, case, refused, root


def cases() -> Iterator[Case]:
    """The vectors of exceptions in ``valid.json``. The layer permits all else (its scope 0)."""
    for index, (text, under, outside) in enumerate(EXCEPTIONS, 1):
        action = text.split(":")[0].removeprefix("except ")
        for arguments in under:
            yield _one(f"{text}: {arguments or 'no arguments'}", action, arguments, index)
        for arguments in outside:
            yield _one(f"outside of {text}: {arguments or 'no arguments'}", action, arguments, 0)
    yield case(
        "exception by its pattern alone",
        "A prefix of a segment.",
        refused(Reason.OUT_OF_SCOPE, Level.CEILING, 0, 1),
        root("*:**"),
        request=ask("write", "files/secrets"),
        view="exceptions",
    )
    yield case(
        "exceptions alone",
        "A layer of exceptions permits all else.",
        allowed(),
        root("*:**"),
        request=ask("read", "any/thing", '{"a": 1}'),
        view="exceptions_alone",
    )
    yield case(
        "one of exceptions alone",
        "The second of two.",
        refused(Reason.OUT_OF_SCOPE, Level.CEILING, 0, 1),
        root("*:**"),
        request=ask("send", "any/thing"),
        view="exceptions_alone",
    )
    yield case(
        "exception after scopes",
        "A call that no scope permits is refused as without the exception.",
        refused(Reason.OUT_OF_SCOPE, Level.CEILING, 0),
        root("*:**"),
        request=ask("write", "files/a"),
        view="exceptions_of_reads",
    )
    yield case(
        "exception of an observed ceiling",
        "Observe mode: it denies nothing, and the position names it.",
        replace(allowed(), level=Level.CEILING, index=0, scope=1),
        root("*:**"),
        request=ask("read", "files/a", '{"a": 1}'),
        view="exceptions_observed",
    )


def _one(name: str, action: str, arguments: str, index: int) -> Case:
    expected = refused(Reason.OUT_OF_SCOPE, Level.CEILING, 0, index) if index else allowed()
    request = ask(action, "files/a", arguments)
    return case(
        name, "Outside only if known to be.", expected, root("*:**"), request=request, view="exceptions"
    )
