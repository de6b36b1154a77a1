"""Well-formed chains: ceilings, scopes, requests, unknown kinds, proof and needs."""

from __future__ import annotations

from collections.abc import Iterator

from tests.oracle.constants import Level, Reason
from tests.oracle.model import OracleDecision, OracleRequest
from tests.support.token_forger import Record, scope
from tests.vectors import cases_exceptions, cases_observe
from tests.vectors.world import (
    Case,
    allowed,
    ask,
    at_block,
    case,
    child,
    refused,
    root,
)

READ = "read:files/*"


def cases() -> Iterator[Case]:
    """The part of ``valid.json`` from stage ``scope`` on."""
    yield from _ceilings()
    yield from cases_observe.cases()
    yield from cases_exceptions.cases()
    yield from _scopes()
    yield from _unknown_kinds()
    yield from _proof_and_needs()


def _ceilings() -> Iterator[Case]:
    out, failed = Reason.OUT_OF_SCOPE, Reason.CONDITION_FAILED
    yield case("ceiling", "All layers match.", allowed(), root("*:**"), view="ceiling")
    yield case(
        "ceiling first layer",
        "The first layer refuses.",
        refused(out, Level.CEILING, 0),
        root("*:**"),
        request=ask("write"),
        view="ceiling",
    )
    yield case(
        "ceiling second layer",
        "The second layer refuses.",
        refused(out, Level.CEILING, 1),
        root("*:**"),
        request=ask(resource="files/a/b"),
        view="ceiling",
    )
    yield case(
        "ceiling before block",
        "Ceilings are asked first.",
        refused(out, Level.CEILING, 0),
        root("a:b"),
        request=ask("write"),
        view="ceiling",
    )
    yield case(
        "ceiling condition",
        "A condition of the ceiling fails.",
        refused(failed, Level.CEILING, 0, 0, 0, "tag"),
        root("*:**"),
        view="ceiling_condition",
    )
    yield case(
        "ceiling fact",
        "A ceiling sees facts that holders do not.",
        allowed(),
        root("*:**"),
        view="ceiling_facts",
    )
    yield case(
        "ceiling empty",
        "A layer without scopes permits nothing.",
        refused(out, Level.CEILING, 0),
        root("*:**"),
        view="ceiling_empty",
    )
    yield case(
        "ceiling of the parent",
        "Layers are counted on through the ancestors.",
        refused(out, Level.CEILING, 1),
        root("*:**"),
        request=ask("write"),
        view="parent_ceiling",
    )
    yield case(
        "parent ceiling reads parent facts",
        "A ceiling reads the facts of the session that it belongs to.",
        allowed(),
        root("*:**"),
        view="parent_has_facts",
    )
    yield case(
        "child facts do not meet parent ceiling",
        "Whoever sets the child's facts can't meet the parent's condition.",
        refused(Reason.CONDITION_FAILED, Level.CEILING, 1, 0, 0, "session.region"),
        root("*:**"),
        view="child_has_facts",
    )


def _scopes() -> Iterator[Case]:
    out, failed = Reason.OUT_OF_SCOPE, Reason.CONDITION_FAILED
    yield case("no scopes", "A root without scopes permits nothing.", at_block(out, 0), root())
    yield case("second scope", "One of several.", allowed(0, 1), root("write:**", READ))
    yield case("action out", "Another action.", at_block(out, 0), root("write:files/*"))
    yield case(
        "child out", "The child's scope refuses.", at_block(out, 1), root("*:**"), child("read:logs/*")
    )
    yield case(
        "child wider",
        "A child that says more gets no more.",
        at_block(out, 0),
        root(READ),
        child("*:**"),
        request=ask("write"),
    )
    for pattern, resource, good in [
        ("files/a.txt", "files/a.txt", True),
        ("files/*", "files", False),
        ("files/*", "files/a/b", False),
        ("files/**", "files", True),
        ("files/**", "files/a/b", True),
        ("data/**", "database", False),
        ("files/rep*", "files/report", True),
        ("files/rep*", "files/re", False),
        ("files/{a,b}", "files/b", True),
        ("files/{a,b}", "files/c", False),
        ("*/b", "a/b", True),
        ("files/A", "files/a", False),
        ("**", "a", True),
        ('"with space"/*', "with space/x:y@z+'", True),
        ("files/\u00e9", "files/e\u0301", False),
    ]:
        yield case(
            f"resource {pattern} {resource}",
            "Segments match one to one, byte for byte.",
            allowed() if good else at_block(out, 0),
            root(f"read:{pattern}"),
            request=ask(resource=resource),
        )
    yield case(
        "first matching scope is named",
        "Two scopes match action and resource; the first one is named.",
        at_block(failed, 0, 1, 1, "b"),
        root("write:**", "read:** where a == 1 and b == 2", "read:** where a == 2"),
        request=ask(arguments='{"a": 1}'),
    )
    yield case(
        "block where",
        "A condition on every call of the block.",
        at_block(failed, 1, -1, 0, "a"),
        root(READ),
        child(conditions="a == 1"),
        request=ask(arguments='{"a": 2}'),
    )
    yield case(
        "block where is open",
        "A block's where closes no world.",
        allowed(),
        root(READ),
        child(conditions="a == 1"),
        request=ask(arguments='{"a": 1, "b": 2}'),
    )
    for name, request in _bad_requests():
        part = name.split()[0]
        yield case(
            f"request {name}",
            "A request that breaks section 8.",
            refused(Reason.MALFORMED_REQUEST, argument=part),
            root("*:**"),
            request=request,
        )


def _bad_requests() -> Iterator[tuple[str, OracleRequest]]:
    for action in ("", "*", "a b", "a" * 65, "caf\u00e9", "a,b"):
        yield f"action {action!r}", ask(action)
    for resource in (
        "",
        "/a",
        "a/",
        "a//b",
        ".",
        "a/../b",
        "a*",
        "*",
        "a\\b",
        "a%2fb",
        "a\x00",
        "a\u0085",
        "{a}",
        "a" * 1025,
        "/".join("a" * 33),
        b"a/\xff",
        b"a/\xed\xa0\x80",
    ):
        yield f"resource {resource!r}"[:60], ask(resource=resource)
    for arguments in (
        "[]",
        "1",
        '{"a": 1',
        '{"a": 1} x',
        '{"a": 1, "a": 2}',
        '{"a": 1, "\\u0061": 2}',
        '{"a": NaN}',
        '{"a": 01}',
        '{"a": +1}',
        '{"a": 1.}',
        '{"a": .5}',
        '{"a": "\\ud800"}',
        '{"a": "\\udc00\\ud800"}',
        '{"a": "\t"}',
        "{'a': 1}",
        '{"a": 1,}',
        "\ufeff{}",
        " ",
        "nul",
        '{"a": tru}',
        '{"a": "\\x41"}',
        b'{"a": "\xff"}',
        '{"a": ' + "[" * 32 + "]" * 32 + "}",
        '{"a": [' + "1," * 9_998 + "1]}",
        "{} {}",
    ):
        yield f"arguments {arguments!r}"[:60], ask(arguments=arguments)
    yield "tool not an object", ask(tool=b"[]")


def _odd_segment() -> Record:
    return {"actions": ["read"], "resource": [{"kind": 77, "texts": ["a", "a", ""]}]}


def _odd_condition(**fields: int) -> Record:
    return {"path": {"source": 1, "segments": ["a"]}, "operator": 1, "values": [{"text": "x"}], **fields}


def _unknown_kinds() -> Iterator[Case]:
    unknown = Reason.UNKNOWN_KIND
    odd_path = {"source": 9, "segments": ["a", "b"]}
    kinds: list[tuple[str, Record, OracleDecision]] = [
        ("segment", root(_odd_segment()), at_block(unknown, 0, 0)),
        ("segment of an unused scope", root(READ, _odd_segment()), at_block(unknown, 0, 1)),
        (
            "operator",
            root({**scope(READ), "where": [_odd_condition(), _odd_condition(operator=99)]}),
            at_block(unknown, 0, 0, 1),
        ),
        (
            "accessor",
            root({**scope(READ), "where": [_odd_condition(accessor=5)]}),
            at_block(unknown, 0, 0, 0),
        ),
        (
            "source",
            root(READ, conditions=[{**_odd_condition(), "path": odd_path}]),
            at_block(unknown, 0, -1, 0),
        ),
        ("free path", root({**scope(READ), "free": [odd_path]}), at_block(unknown, 0, 0)),
        (
            "budget path",
            root(
                {
                    **scope(READ),
                    "needs": {"budget": {"name": "money", "limit": {"units": 1}, "amount": odd_path}},
                }
            ),
            at_block(unknown, 0, 0),
        ),
    ]
    for name, block, expected in kinds:
        yield case(f"unknown {name}", "Decodes, and is denied.", expected, block)
    odd = child({**scope(READ), "where": [_odd_condition(operator=99, accessor=1, each=1)]})
    yield case(
        "unknown in child",
        "Found in any block, before ceilings and scopes.",
        at_block(unknown, 1, 0, 0),
        root("write:**"),
        odd,
        view="ceiling",
    )
    yield case(
        "unknown after request",
        "A malformed request is said first.",
        refused(Reason.MALFORMED_REQUEST, argument="action"),
        root(_odd_segment()),
        request=ask("*"),
    )


def _proof_and_needs() -> Iterator[Case]:
    proof, server, approval = Reason.PROOF_REQUIRED, Reason.NEEDS_SERVER, Reason.APPROVAL_REQUIRED
    approve = f'{READ} needs approval(1, "{"A" * 43}")'
    yield case(
        "bound", "A bound chain needs a proof.", at_block(proof), root(READ, audience=None), last="bound"
    )
    yield case(
        "bound out of scope",
        "Scope goes before proof.",
        at_block(Reason.OUT_OF_SCOPE, 0),
        root("a:b"),
        last="bound",
    )
    yield case("bound with needs", "Proof goes before needs.", at_block(proof), root(approve), last="bound")
    yield case("needs approval", "An approval cannot be given yet.", at_block(approval, 0, 0), root(approve))
    yield case(
        "needs uses", "Uses are counted by the server.", at_block(server, 0, 0), root(f"{READ} needs uses(3)")
    )
    yield case(
        "needs budget",
        "So are budgets.",
        at_block(server, 0, 0),
        root(f'{READ} free n needs budget("money", 10.5, "EUR", n)'),
        request=ask(arguments='{"n": 1}'),
    )
    yield case(
        "needs approval and uses",
        "The approval is named.",
        at_block(approval, 0, 0),
        root(f'{READ} needs approval(1, "{"A" * 43}"), uses(1)'),
    )
    yield case(
        "free scope decides",
        "A scope without needs goes before one with.",
        allowed(0, 1),
        root(approve, READ),
    )
    yield case(
        "first with needs decides",
        "Of two with needs the first.",
        at_block(server, 0, 1),
        root("write:**", f"{READ} needs uses(1)", approve),
    )
    yield case(
        "needs in a child",
        "The child's deciding scope has needs.",
        at_block(approval, 1, 0),
        root(READ),
        child(approve),
    )
    yield case(
        "needs unmet condition",
        "A scope that does not match costs nothing.",
        allowed(0, 1),
        root("read:files/* where a == 1 needs uses(1)", READ),
    )
