"""Cedar: a policy language without tokens, by cedarpy over the Rust engine.

Eight permit policies for one principal, the last with four conditions on the request's context. Names are
given as objects and the context as JSON text, the fastest of the documented ways. Kept means that policies
and entities are handles which were parsed once.

Not equal: there is no token and no signature, so nothing says who asks; a deployment puts a token in front
and pays for it. Reading texts every time is listed against our cold check and not judged by it. Principals
and policies are the server's own: nothing can be attenuated, ended or revoked but by changing them. Context
and answer cross as JSON. Its policies express more than our conditions do.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any, Final

from benchmarks.peers import work
from benchmarks.peers.work import Form, Item

MODULE: Final = "cedarpy"
PACKAGE: Final = "cedarpy"

PRINCIPAL: Final = {"type": "Agent", "id": "agent-7"}
ENTITIES: Final = "[]"


def policies() -> str:
    """Return the eight policies as text."""
    head = f'permit(principal == Agent::"agent-7", action == Action::"{work.ACTION}", resource == Tool::'
    states = ", ".join(f'"{state}"' for state in work.STATES)
    where = (
        f'context.owner == "{work.OWNER}" && context.repo == "{work.REPO}"'
        f" && [{states}].contains(context.state) && context.page <= {work.MAX_PAGE}"
    )
    others = "".join(f'{head}"{resource}");\n' for resource in work.OTHER_RESOURCES)
    return f'{others}{head}"{work.RESOURCE}")\nwhen {{ {where} }};\n'


def _request(arguments: bytes, _: object) -> Item:
    request = {
        "principal": PRINCIPAL,
        "action": {"type": "Action", "id": work.ACTION},
        "resource": {"type": "Tool", "id": work.RESOURCE},
        "context": arguments.decode(),
    }
    return (request,)


def forms() -> Iterator[Form]:
    """Yield the forms; raises ImportError where the peer is not installed."""
    cedar: Any = importlib.import_module(MODULE)
    text = policies()

    def read(source: str, request: dict[str, Any]) -> bool:
        return bool(cedar.is_authorized(request, source, ENTITIES).allowed)

    def kept(handles: tuple[Any, Any], request: dict[str, Any]) -> bool:
        return bool(cedar.is_authorized(request, *handles).allowed)

    yield Form(
        name="text",
        blocks=1,
        signatures=0,
        token_bytes=0,
        about_us=150,
        tokens=[text],
        call=read,
        refusals=(),
        request=_request,
        fresh=work.fresh_text,
    )
    yield Form(
        name="kept",
        blocks=1,
        signatures=0,
        token_bytes=0,
        about_us=32,
        tokens=[(cedar.PolicySet.from_str(text), cedar.Entities.from_json_str(ENTITIES))],
        call=kept,
        refusals=(),
        request=_request,
    )
