"""Usage records of a session's decisions, and refusals of malformed ones."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from sessauth.errors import UsageError
from sessauth.reasons import Reason
from sessauth.scopes.scope import Scope
from sessauth.usage import SessionUsage
from sessauth.usage.profile import CEILING, MINTED, GrantLayer
from tests.support.usage_example import used_session


def observed(*arguments: Any, grant: str = "*:**") -> SessionUsage:
    """A session that made a call with each of these arguments."""
    usage, layer = SessionUsage(), GrantLayer(CEILING, [Scope.parse(grant)])
    for at_ms, each in enumerate(arguments, start=1):
        data = json.dumps(each).encode()
        usage.observe("a", "r", data, at_ms=at_ms, matched=layer.matching_positions("a", "r", data))
    return usage


def slots(usage: SessionUsage) -> dict[str, dict[str, Any]]:
    """Return the summary of each path of the one call group."""
    ((_, bucket),) = usage.to_dict()["profiles"]["ceiling"]["groups"][0]["buckets"]  # type: ignore[index]
    return {".".join(path): slot for path, slot in bucket["paths"]}


def test_a_path_has_its_types_values_range_and_beginning() -> None:
    """Scalars, nested objects and lists are seen where they stand."""
    seen = slots(
        observed(
            {"n": 2, "t": "ab/c", "o": {"x": True}, "l": [1, "a"]},
            {"n": 1.5, "t": "ab/d", "o": {}, "l": []},
            {"t": None, "u": "https://Acme.example:8/x"},
        )
    )

    assert (seen["n"]["found"], seen["n"]["values"]) == (2, [{"number": "1.5"}, {"number": "2"}])
    assert (seen["n"]["low"], seen["n"]["high"]) == ("1.5", "2")
    assert seen["t"]["kinds"] == {"text": 2, "null": 1} and seen["t"]["prefix"] == "ab/"
    assert seen["t"]["clean"] and not seen["u"]["clean"]
    assert seen["u"]["hosts"] == ["acme.example"] and seen["t"]["hosts"] is None
    assert (seen["o"]["kinds"], seen["o.x"]["found"]) == ({"object": 2}, 1)
    assert seen["l"]["elements"] == [{"number": "1"}, "a"] and seen["l"]["longest"] == 2


def test_too_many_values_leave_a_range_and_a_beginning() -> None:
    """Beyond the bound no value is kept."""
    seen = slots(observed(*({"n": n, "t": f"item-{n}"} for n in range(40))))

    assert seen["n"]["values"] is None and (seen["n"]["low"], seen["n"]["high"]) == ("0", "39")
    assert seen["t"]["values"] is None and seen["t"]["prefix"] == "item-"


def test_a_long_text_is_not_kept() -> None:
    """A document that an agent writes does not lie in memory for a report."""
    usage = observed({"body": "secret " * 500})

    (value,) = slots(usage)["body"]["values"]
    assert value["json"].startswith("digest(")
    assert len(usage.to_json()) < 2500


def test_no_value_of_a_denied_call_is_kept() -> None:
    """Arguments are looked at only where the call was allowed; a hostile action is no row."""
    usage = SessionUsage()
    usage.observe("pay", "x", b'{"card": "4000"}', at_ms=5, reason=Reason.CONDITION_FAILED)
    usage.observe("\x1b[2J", "\ud800", b"", at_ms=6, reason=Reason.OUT_OF_SCOPE)
    usage.observe("pay", "x", b"", at_ms=7, reason=4711)

    assert b"4000" not in usage.to_json()
    assert [key for key, _ in usage.denied] == [("CONDITION_FAILED",), ("OUT_OF_SCOPE",), ("REASON_4711",)]
    assert [key for key, _ in usage.denied_calls] == [("CONDITION_FAILED", "pay", "x")]
    assert SessionUsage.from_json(usage.to_json()) == usage


@pytest.mark.parametrize(
    "arguments", [b"{", b"[]", b"\xff", b'{"a":' * 5000, b'{"\\ud800": 1}', b'{"n": 1e99999999999999999999}']
)
def test_arguments_that_cannot_be_read_are_no_error(arguments: bytes) -> None:
    """The kernel allows no such call; if told of one, nothing is concluded from it."""
    usage, layer = SessionUsage(), GrantLayer(CEILING, [Scope.parse("*:**")])
    usage.observe("a", "r", arguments, at_ms=1, matched=layer.matching_positions("a", "r"))

    assert usage.allowed.calls == 1
    assert SessionUsage.from_json(usage.to_json()) == usage


def test_a_layer_names_what_may_have_admitted_a_call() -> None:
    """The first that surely matches ends the search; one that reads facts, the tool or needs does not."""
    layer = GrantLayer(
        CEILING,
        [
            Scope.parse("write:**"),
            Scope.parse("read:a where who == session.who"),
            Scope.parse("read:a where session.level == 3 and tool.kind == 1 free *"),
            Scope.parse("read:a free * needs uses(1)"),
            Scope.parse("read:a free *"),
            Scope.parse("read:**"),
        ],
    )

    assert [index for _, index in layer.matching_positions("read", "a", b'{"who": 1}')] == [1, 2, 3, 4]
    assert [index for _, index in layer.matching_positions("read", "a", b'{"x": 1}')] == [2, 3, 4]
    assert layer.matching_positions("read", "a", b"", decided=3) == ((layer.id, 3),)
    assert layer.matching_positions("pay", "a") == ((layer.id, -1),)
    assert GrantLayer.from_dict(layer.to_dict()).id == layer.id != GrantLayer(MINTED, layer.scopes).id


def spoilt(usage: SessionUsage) -> list[tuple[str, Any]]:
    """Records that no verifier of ours reports."""
    good: Any = usage.to_dict()
    found = [("no dict", []), ("empty", {}), ("format", good | {"format": 2}), ("more", good | {"x": 1})]
    for name, at, value in (
        ("negative", ("allowed", 0), -1),
        ("true for a count", ("allowed", 0), True),
        ("too large", ("allowed", 1), 2**60),
        ("rows", ("calls", "rows"), [["a", "r", 1, 1, 1]] * 2000),
        ("a long resource", ("calls", "rows"), [["a", "r" * 2000, 1, 1, 1]]),
        ("a surrogate", ("calls", "rows"), [["a", "\ud800", 1, 1, 1]]),
        ("a scope", ("minted",), {"minted:x": {"kind": "minted", "scopes": ["AAAA"]}}),
        ("no base64", ("minted",), {"minted:x": {"kind": "minted", "scopes": ["é"]}}),
        ("a kind", ("minted",), {"x": {"kind": "other", "scopes": []}}),
        ("level", ("profiles", "ceiling", "level"), 7),
        ("groups", ("profiles", "ceiling", "groups"), [{}]),
        ("truth", ("minted_cut",), 1),
    ):
        bad = copy.deepcopy(good)
        inner = bad
        for key in at[:-1]:
            inner = inner[key]
        inner[at[-1]] = value
        found.append((name, bad))
    return found


@pytest.mark.parametrize(("name", "record"), spoilt(used_session()[1]), ids=lambda part: str(part)[:20])
def test_what_is_not_as_expected_is_refused(name: str, record: Any) -> None:
    """A malformed record is refused as a whole, with the expected form."""
    with pytest.raises(UsageError, match="usage record"):
        SessionUsage.from_dict(record)


def test_told_values_are_held_to_the_bounds() -> None:
    """Reported values beyond the limits are cut."""
    usage = observed({"t": "a"})
    record: Any = json.loads(usage.to_json())
    slot = record["profiles"]["ceiling"]["groups"][0]["buckets"][0][1]["paths"][0][1]
    slot["values"] = [f"{n}{'x' * 100}" for n in range(30)]

    assert slots(SessionUsage.from_dict(record))["t"]["values"] is None


@pytest.mark.parametrize("data", [b"", b"{", b"null", b"[" * 100_000])
def test_bytes_that_are_no_json_are_refused(data: bytes) -> None:
    """Other bytes of a verifier end in one typed error."""
    with pytest.raises(UsageError):
        SessionUsage.from_json(data)


def test_detail_can_be_given_up() -> None:
    """Two steps drop all details; the counts stay."""
    usage = used_session()[1]
    before, calls = len(usage.to_json()), usage.allowed.calls
    usage.coarsen()
    middle = len(usage.to_json())
    usage.coarsen()
    usage.coarsen()

    assert before > middle > len(usage.to_json())
    assert usage.allowed.calls == calls and len(usage.truncated) == 1
