"""Surveys (section 9.12): which of many calls a token could make.

The verdicts are stated by hand. Those about given arguments follow from decisions, which the oracle gives.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tests.oracle.check import check
from tests.oracle.constants import Ending, Reason, Stage
from tests.oracle.decode import parse_chain
from tests.oracle.model import OracleRequest
from tests.support.token_forger import Record, scope
from tests.support.vector_files import describe_blocks, read_view, write_bytes, write_request
from tests.vectors.world import NOW, VIEWS, ask, child, link, root, token

YES, NO, MAYBE = "YES", "NO", "MAYBE"

# A call, its arguments (None: whatever they are), and the verdict.
Candidate = tuple[str, str, str | None, str]
_FILE = "files/a.txt"


def _read(verdict: str, arguments: str | None = None, resource: str = _FILE) -> Candidate:
    return ("read", resource, arguments, verdict)


_WORK = "each(a) in [1, 2, 3]"

# Name, comment, blocks, candidates; then the view and the last ending where they are not the plain ones.
_CASES: tuple[tuple[str, str, Sequence[Record], Sequence[Candidate], str, str], ...] = (
    (
        "plain",
        "Action and resource decide.",
        [root("read:files/*")],
        [_read(YES), ("write", _FILE, None, NO), _read(NO, resource="logs/a"), _read(YES, '{"x":1}')],
        "plain",
        "sealed",
    ),
    (
        "malformed candidates",
        "What is no request is no.",
        [root("*:**")],
        [("re ad", _FILE, None, NO), _read(NO, resource="a//b"), _read(NO, "{"), _read(YES, "{}")],
        "plain",
        "sealed",
    ),
    (
        "a condition of arguments",
        "It depends on them, unless they are given.",
        [root("read:files/* where n <= 5")],
        [_read(MAYBE), _read(YES, '{"n":5}'), _read(NO, '{"n":6}'), _read(NO, '{"n":5,"m":1}')],
        "plain",
        "sealed",
    ),
    (
        "conditions that no argument changes",
        "Facts are known.",
        [
            root(
                'read:files/* where session.case_id == "C-7" free *',
                'list:** where session.case_id == "C-8" free *',
            )
        ],
        [_read(YES), ("list", "a", None, NO)],
        "facts",
        "sealed",
    ),
    (
        "a closed scope",
        "An argument may be left over.",
        [root('read:files/* where session.case_id == "C-7"', "list:** free a")],
        [_read(MAYBE), ("list", "a", None, MAYBE), ("list", "a", "{}", YES), ("list", "a", '{"b":1}', NO)],
        "facts",
        "sealed",
    ),
    (
        "one scope of several is enough",
        "Maybe by one and yes by another is yes.",
        [root("read:files/* where n == 1", "read:files/a.txt")],
        [_read(YES), _read(MAYBE, resource="files/b.txt")],
        "plain",
        "sealed",
    ),
    (
        "each block counts",
        "The least of the blocks' verdicts.",
        [root("read,write:files/**"), child("read:files/* where n == 1 free *"), child("*:files/a.txt")],
        [_read(MAYBE), ("write", _FILE, None, NO), _read(NO, resource="files/b.txt"), _read(YES, '{"n":1}')],
        "plain",
        "sealed",
    ),
    (
        "a block's where",
        "A false fact is no, an argument maybe.",
        [root("*:**"), child(conditions="n == 1")],
        [_read(MAYBE), _read(YES, '{"n":1}'), _read(NO, "{}")],
        "plain",
        "sealed",
    ),
    (
        "needs",
        "What costs something is maybe, also with arguments.",
        [root("read:files/* needs uses(3)", "list:**")],
        [_read(MAYBE), _read(MAYBE, "{}"), ("list", "a", None, YES)],
        "plain",
        "sealed",
    ),
    (
        "needs, and a scope without",
        "A later scope that needs nothing decides.",
        [root("read:files/* needs uses(3)", "read:**")],
        [_read(YES), _read(YES, "{}")],
        "plain",
        "sealed",
    ),
    (
        "bound",
        "Each call needs a proof.",
        [root("read:files/*")],
        [_read(MAYBE), _read(MAYBE, "{}"), ("write", _FILE, None, NO)],
        "plain",
        "bound",
    ),
    (
        "a ceiling",
        "It counts like a block.",
        [root("*:**")],
        [_read(YES), ("write", _FILE, None, NO), _read(NO, resource="files/a/b")],
        "ceiling",
        "sealed",
    ),
    (
        "no scopes",
        "A root without scopes permits nothing.",
        [root()],
        [_read(NO), _read(NO, "{}")],
        "plain",
        "sealed",
    ),
    (
        "work below its bound",
        "Eight conditions of 5,000 + (3 + 4) × 10,000 each.",
        [root("*:**", conditions=" and ".join([_WORK] * 8))],
        [_read(MAYBE)],
        "plain",
        "sealed",
    ),
    (
        "work of scopes that match by nothing else",
        "7 closed scopes of 10,000 each could pass the bound before the one that is open.",
        [root(*['read:files/* where tool.none present and session.case_id == "C-7"'] * 7, "read:files/*")],
        [_read(MAYBE)],
        "facts",
        "sealed",
    ),
    (
        "work below its bound, and a scope that is open",
        "6 of them could not.",
        [root(*['read:files/* where tool.none absent and session.case_id == "C-8"'] * 6, "read:files/*")],
        [_read(YES)],
        "facts",
        "sealed",
    ),
    (
        "a scope that is looked at counts whole",
        "Its first condition is no, and its 9 of 75,000 each count.",
        [
            root(
                'read:files/* where session.case_id == "C-8" and ' + " and ".join([_WORK] * 9), "read:files/*"
            )
        ],
        [_read(MAYBE)],
        "facts",
        "sealed",
    ),
    (
        "a scope of another action is not looked at",
        "Its conditions do not count.",
        [
            root(
                'list:files/* where session.case_id == "C-8" and ' + " and ".join([_WORK] * 9), "read:files/*"
            )
        ],
        [_read(YES)],
        "facts",
        "sealed",
    ),
    (
        "an unknown kind",
        "The token is refused, and so is every call.",
        [root("read:**", {**scope("read:a"), "resource": [{"kind": 9, "texts": []}]})],
        [_read(NO), _read(NO, "{}")],
        "plain",
        "sealed",
    ),
    ("an ended session", "All are no.", [root("*:**")], [_read(NO), _read(NO, "{}")], "ended", "sealed"),
    ("an open token", "It is never presented.", [root("*:**")], [_read(NO)], "plain", "open"),
)

# Who is refused before any call is looked at.
_REFUSED = {
    "an unknown kind": ("UNKNOWN_KIND", "SCOPE"),
    "an ended session": ("SESSION_ENDED", "SESSION"),
    "an open token": ("OPEN_TOKEN", "DECODE"),
}


def _by_arguments(data: bytes, request: OracleRequest, view: str) -> str:
    """The verdict that the oracle's decision about a call comes to."""
    found = check(data, request, read_view(VIEWS[view])[0], NOW)
    if found.stage in (Stage.PROOF, Stage.NEEDS):
        return MAYBE
    if found.reason is not Reason.ALLOWED:
        return NO
    return MAYBE if parse_chain(data).blocks[-1].ending == Ending.BOUND else YES


def _candidate(data: bytes, candidate: Candidate, view: str) -> Record:
    action, resource, arguments, verdict = candidate
    request = replace(ask(action, resource, arguments or ""), audience="gateway")
    if arguments is not None and _by_arguments(data, request, view) != verdict:
        raise AssertionError(f"{candidate}: the oracle gives {_by_arguments(data, request, view)}")
    record: Record = {}
    write_bytes(record, "action", request.action)
    write_bytes(record, "resource", request.resource)
    if arguments is not None:
        record["arguments"] = arguments
    return record


def content() -> Record:
    """The content of ``survey.json``."""
    vectors = []
    for name, comment, blocks, candidates, view, last in _CASES:
        data = token(*blocks, last=last)
        reason, stage = _REFUSED.get(name, ("ALLOWED", "NONE"))
        vectors.append(
            {
                "name": name,
                "comment": comment,
                "blocks": describe_blocks(link(*blocks, last=last)),
                "token_hex": data.hex(),
                "request": write_request(OracleRequest(b"", b"", audience="gateway")),
                "candidates": [_candidate(data, each, view) for each in candidates],
                "view": view,
                "now_ms": NOW,
                "expected": {
                    "reason": reason,
                    "stage": stage,
                    "verdicts": [verdict for *_, verdict in candidates],
                },
            }
        )
    views = {name: VIEWS[name] for name in VIEWS if any(case[4] == name for case in _CASES)}
    return {
        "title": "Surveys: which calls a token could make",
        "format": "docs/token-format.md, version 1",
        "views": views,
        "vectors": vectors,
    }
