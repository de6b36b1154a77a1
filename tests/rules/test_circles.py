"""No file of the package imports itself by way of others: lazy, type-only and C imports are counted too."""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter

from tests.support.tree import PACKAGE, import_graph


def _circle(graph: dict[str, set[str]]) -> list[str]:
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle: list[str] = error.args[1]
        return circle
    return []


def test_no_circle_between_files() -> None:
    """The files can be read one after the other, each behind all that it imports."""
    graph = import_graph(PACKAGE)

    assert len(graph) > 300
    assert _circle(graph) == []


def test_a_circle_is_found() -> None:
    """Three files that import each other are one, named in order."""
    assert _circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})


def test_all_kinds_of_imports_are_counted() -> None:
    """Imports within functions, for types only and in C are counted, and so are included files."""
    graph = import_graph(PACKAGE)

    assert "sessauth.state.lmdb.reader" in graph["sessauth.verifier.base"]
    assert "sessauth.audit.recording.process" in graph["sessauth.metrics"]
    assert "sessauth._fast._check" in graph["sessauth._fast.check.redecide"]
    assert "sessauth._fast.token.chain" in graph["sessauth._fast._check"]
