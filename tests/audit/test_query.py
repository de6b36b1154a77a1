from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from sessauth.audit.layout import ArgumentsKey
from sessauth.audit.read.query import FolderReader, Query, argument_digests, find
from sessauth.errors import KeyFolderError, StateUnusable
from sessauth.scopes.call_arguments import encode
from tests.support.audit_log import SESSION, START_MS, write_small

from .conftest import ARGUMENTS, PARENT, SampleLog


def _found(sample: SampleLog, **stated: Any) -> list[str]:
    """Return the last digits of the decisions' ids, the ids of changes, the kinds of the rest."""
    entries = find(FolderReader(sample.folder), Query(**stated))
    names = {"decision": lambda record: str(int(record["id"], 16)), "change": lambda record: record["id"]}
    return sorted(names.get(entry.kind, lambda record: record["kind"])(entry.record) for entry in entries)


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        ({"session": SESSION.hex()}, "30 5 6 7 8 end narrow open revoke suspend"),
        ({"session": PARENT.hex()}, "parent"),
        ({"allowed": True}, "5"),
        ({"allowed": False}, "30 6 7 8"),
        ({"observed": True}, ""),
        ({"reason": "OUT_OF_SCOPE"}, "7"),
        ({"stage": "SCOPE"}, "6 7"),
        ({"action": "read"}, "30 5 6 8"),
        ({"action": "w*"}, "7"),
        ({"resource": "mcp/github/issues"}, "5 6"),
        ({"resource": "mcp/github/*"}, "30 5 6 7 8"),
        ({"resource": "mcp/github"}, ""),
        ({"decision": f"{7:032x}"}, "7"),
        ({"change": "END_SESSION"}, "end"),
        ({"change": "open_session"}, "open parent"),
        ({"actor": "ops"}, "revoke suspend"),
        ({"since_ms": START_MS + 20}, "30 end lost"),
        ({"since_ms": START_MS + 6, "until_ms": START_MS + 8}, "6 7"),
        ({"session": SESSION.hex(), "allowed": False, "stage": "SIGNATURE"}, "8"),
        ({"change": "END_SESSION", "allowed": True}, ""),
    ],
    ids=str,
)
def test_filters(sample: SampleLog, stated: dict[str, Any], expected: str) -> None:
    """Records that match each filter, and some together, of both processes."""
    assert _found(sample, **stated) == expected.split()


def test_a_block_is_found_with_all_that_used_it(sample: SampleLog) -> None:
    """A block's id finds the calls of every token with it, and nothing else."""
    assert _found(sample, block=sample.blocks[0]) == ["30", "5", "6", "7"]
    assert _found(sample, block="00" * 32) == []


@pytest.mark.parametrize(
    "form", [ARGUMENTS, b'{"repo":"web"}', b'{ "repo" : "web" }\n', ARGUMENTS + b"\n"], ids=repr
)
def test_an_operator_can_ask_whether_it_was_these_arguments(sample: SampleLog, form: bytes) -> None:
    """The calls with the same arguments, however the JSON is laid out; other arguments find none."""
    assert _found(sample, arguments=argument_digests(sample.folder, form)) == ["30", "5", "6"]
    assert _found(sample, arguments=argument_digests(sample.folder, b'{"repo":"api"}')) == []
    assert all(form.strip().decode() not in path.read_text() for path in sample.folder.glob("*.jsonl"))


def test_a_call_that_was_given_as_values_is_found_by_any_json_of_them(sample: SampleLog) -> None:
    """The log has the digest of the canonical form then: members sorted, numbers as they were written."""
    digest = ArgumentsKey.load(sample.folder / "arguments.key").digest(
        encode({"repo": "w\u00e9b", "n": Decimal("1.50")})
    )

    assert digest in argument_digests(sample.folder, b'{ "repo": "w\\u00e9b", "n": 1.50 }')


def test_arguments_need_the_secret_key(tmp_path: Path) -> None:
    """A reader of the log without the arguments key can't search by arguments."""
    write_small(tmp_path)
    (tmp_path / "arguments.key").chmod(0o644)
    with pytest.raises(KeyFolderError):
        argument_digests(tmp_path, b"{}")


def test_reading_passes_over_what_is_no_record(tmp_path: Path) -> None:
    """A torn last line and a line that is no JSON are counted; the rest is read in order."""
    log = write_small(tmp_path, close=False)
    data = log.read_bytes()
    lines = data.splitlines(keepends=True)
    log.write_bytes(b"".join([*lines[:4], b"what else\n", *lines[4:]])[:-10])
    reading = FolderReader(tmp_path)

    entries = list(reading.entries())

    assert reading.passed_over == 2
    assert [entry.record["n"] for entry in entries] == list(range(len(lines) - 1))
    assert [entry.line for entry in entries][3:6] == [4, 6, 7]
    with pytest.raises(StateUnusable):
        list(FolderReader(tmp_path / "nothing").entries())


def test_streams_come_in_the_order_in_which_they_began(sample: SampleLog, tmp_path: Path) -> None:
    """All records of a stream, then those of the next; one stream alone can be read."""
    reading = FolderReader(sample.folder)
    order = [entry.stream for entry in reading.entries()]

    assert [stream for i, stream in enumerate(order) if i == 0 or order[i - 1] != stream] == list(
        reading.streams()
    )
    only = list(reading.streams())[1]
    assert {entry.stream for entry in reading.entries(stream=only)} == {only}
