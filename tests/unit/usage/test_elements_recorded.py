"""Elements of lists of objects in usage records: what is stored, within which bounds, readable by whom."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from sessauth.errors import UsageError
from sessauth.usage import SessionUsage, records
from sessauth.usage.argument_reader import read
from sessauth.usage.kinds.observed import Observed
from sessauth.usage.report import UsageReport
from tests.support.kinds import GRANT, Call, layer_of, learnt_from, observed, send
from tests.support.usage_example import OPENED_MS, session


def usage_of(*calls: Call) -> SessionUsage:
    """Return the record of a session."""
    return observed(layer_of(), calls).usage


def rows(usage: SessionUsage) -> dict[tuple[str, ...], dict[str, Any]]:
    """Return the summary of each path of the one call group, as written."""
    plain = json.loads(usage.to_json())
    ((_, bucket),) = plain["profiles"]["ceiling"]["groups"][0]["buckets"]
    return {tuple(path): row for path, row in bucket["paths"]}


def test_members_have_rows_and_an_empty_name_stands_for_elements() -> None:
    """Lists are counted at their elements, elements at their members."""
    found = rows(
        usage_of(
            send(f=[{"p": "a"}, {"p": "b", "t": ["x"]}]), send(f=[]), send(f=[{"p": "a"}]), send(t=["x", "y"])
        )
    )

    assert list(found) == [("f",), ("t",), ("f", ""), ("f", "", "p"), ("f", "", "t")]
    assert (found["f", ""]["found"], found["f", ""]["kinds"]) == (3, {"object": 3})
    assert found["f", ""]["values"] is None and not found["f", ""]["clean"]
    assert (found["f", "", "p"]["found"], found["f", "", "p"]["values"]) == (3, ["a", "b"])
    assert found["f", "", "t"]["elements"] == ["x"]


def test_lists_of_scalars_are_stored_as_before() -> None:
    """They have no rows of elements."""
    assert list(rows(usage_of(send(t=["a", 1, True])))) == [("t",)]


def test_rows_of_elements_take_no_room_from_others() -> None:
    """Beyond the bound those inside lists are dropped first; the deepest arguments only after them."""
    elements = [{f"m{n:02}": n for n in range(40)}]
    few = usage_of(send(f=elements, **{f"a{n:02}": n for n in range(9)}))
    full = usage_of(send(f=elements, **{f"a{n:02}": n for n in range(23)}))

    assert len(rows(few)) == len(rows(full)) == records.MAX_PATHS
    assert sum("" in path for path in rows(few)) == 14 and not any("" in path for path in rows(full))
    assert not few.truncated and not full.truncated
    assert few.to_json() == SessionUsage.from_json(few.to_json()).to_json()


def test_large_lists_are_not_entered() -> None:
    """The values that are read inside lists are bounded for each call, and a list is read whole or not."""
    small, large = [{"n": n} for n in range(40)], [{"n": n} for n in range(records.MAX_ELEMENT_VALUES)]
    nodes = read(json.dumps({"a": large, "b": small, "c": [small] * 30}).encode()).nodes

    assert {node.path for node in nodes} == {("a",), ("b",), ("b", ""), ("b", "", "n"), ("c",)}
    deep: Any = "x"
    for _ in range(30):
        deep = [{"d": deep}]
    assert max(len(node.path) for node in read(json.dumps({"d": deep}).encode()).nodes) == 8
    long = {"x" * 1024: [{"a": 1}], "f": [{"y" * 1024: 1}]}
    named = {node.path[0][:1]: node for node in read(json.dumps(long).encode()).nodes if len(node.path) == 2}
    assert set(named) == {"f"} and named["f"].opaque


def test_a_record_without_elements_leaves_the_list_open() -> None:
    """A verifier of an earlier version reports none: summed with others they are not known completely."""
    new = usage_of(send(f=[{"p": "a"}]))
    plain = json.loads(new.to_json())
    old = copy.deepcopy(plain)
    bucket = old["profiles"]["ceiling"]["groups"][0]["buckets"][0][1]
    bucket["paths"] = [row for row in bucket["paths"] if "" not in row[0]]
    earlier = SessionUsage.from_json(json.dumps(old))
    both = SessionUsage()
    both.merge(new)
    both.merge(earlier)

    assert set(old) == set(plain) and set(bucket) == set(
        plain["profiles"]["ceiling"]["groups"][0]["buckets"][0][1]
    )
    for usage, scope in ((new, 'f[].p == "a"'), (earlier, "f present"), (both, "f present")):
        (first, *_) = learnt_from(layer_of(), [Observed(usage)]).scopes
        assert str(first) == f"write:mcp/mail/send where {scope}"


@pytest.mark.parametrize("path", [[], [""], ["", "p"]])
def test_a_path_without_an_argument_is_refused(path: list[str]) -> None:
    """A report of it is no report."""
    plain = json.loads(usage_of(send(f=[{"p": "a"}])).to_json())
    plain["profiles"]["ceiling"]["groups"][0]["buckets"][0][1]["paths"][0][0] = path
    with pytest.raises(UsageError, match="begins with the name of an argument"):
        SessionUsage.from_json(json.dumps(plain))


def test_a_report_names_members_and_counts_elements_without_them() -> None:
    """Absent is a member that an element lacks."""
    usage = usage_of(send(f=[{"p": "a"}, {"p": "b", "m": None}]), send(f=[{"p": "c"}]))
    report = UsageReport.of([(session([GRANT]), usage)], now_ms=OPENED_MS)
    arguments = report.to_dict()["layers"][0]["scopes"][0]["kinds"][0]["arguments"]  # type: ignore[index]

    assert [(a["path"], a["present"], a["absent"]) for a in arguments] == [
        ("f", 2, 0),
        ("f[]", 2, 0),
        ("f[].m", 1, 2),
        ("f[].p", 3, 0),
    ]
