"""Ceilings of sessions in observe mode: what they would refuse is allowed, and named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tests.oracle.constants import Level, Reason
from tests.vectors.world import Case, allowed, ask, case, refused, root


def cases() -> Iterator[Case]:
    """The part of ``valid.json`` on observe mode."""
    out, ceiling = Reason.OUT_OF_SCOPE, Level.CEILING
    first = replace(allowed(), level=ceiling, index=0)
    outside = ask("write", "files/a")
    yield case(
        "observed inside",
        "In observe mode, a call inside the ceiling.",
        allowed(),
        root("*:**"),
        view="observed",
    )
    yield case(
        "observed first layer",
        "Of two layers that would refuse the first is named.",
        first,
        root("*:**"),
        request=outside,
        view="observed",
    )
    yield case(
        "observed second layer",
        "The layer that would refuse is the second.",
        replace(first, index=1),
        root("*:**"),
        request=ask(resource="files/a/b"),
        view="observed",
    )
    yield case(
        "observed condition",
        "A condition of the ceiling fails, and is named as in a denial.",
        replace(first, scope=0, clause=0, argument="session.region"),
        root("*:**"),
        view="observed_fact",
    )
    yield case(
        "observed and denied by the block",
        "The token's own scopes deny as ever, and name themselves.",
        refused(out, Level.BLOCK, 0),
        root("a:b"),
        request=outside,
        view="observed",
    )
    yield case(
        "observed child",
        "The child's ceiling refuses nothing; that of its parent, which is enforced, admits the call.",
        first,
        root("*:**"),
        request=outside,
        view="observed_child",
    )
    yield case(
        "observed child of an enforced parent",
        "A parent that is enforced denies.",
        refused(out, ceiling, 1),
        root("*:**"),
        request=ask("write", "logs/a"),
        view="observed_child",
    )
    yield case(
        "observed parent",
        "The parent's ceiling refuses nothing; its layers are counted behind the child's.",
        replace(first, index=1),
        root("*:**"),
        request=outside,
        view="observed_parent",
    )
    yield case(
        "enforced child of an observed parent",
        "The child's ceiling is enforced.",
        refused(out, ceiling, 0),
        root("*:**"),
        request=ask("write", "logs/a"),
        view="observed_parent",
    )
