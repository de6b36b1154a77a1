"""Biscuit: public-key tokens whose authority is Datalog, by biscuit-python over the Rust library.

The authority block has seven facts for seven permissions, and for the eighth a rule that gives it where the
four conditions hold. A call brings its arguments as one fact and asks for its permission in a policy, both
through parameters; of the ways that the documentation shows, this is the fastest that we found. The limit
on evaluation time is raised from 1 ms to 1 s: what is timed must not be cut off.

Not equal: a Biscuit can't be sealed from Python, so besides its signatures the library derives the public
key of the secret that a token carries, and anybody who sees it can extend it; ours is presented sealed. Kept,
the peer gets its arguments parsed, and we parse JSON. It knows no session, revocation or issuer status; we
look all three up in every check. Its Datalog expresses more than our conditions do.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from benchmarks.peers import work
from benchmarks.peers.work import Form

MODULE: Final = "biscuit_auth"
PACKAGE: Final = "biscuit-python"

CONDITIONS: Final = (
    "args({owner}, {repo}, $state, $page, $per_page), {states}.contains($state), $page <= {max_page}"
)
ROOT: Final = (
    "".join(f'right("{work.ACTION}", "{resource}");\n' for resource in work.OTHER_RESOURCES)
    + f'right("{work.ACTION}", "{work.RESOURCE}") <- {CONDITIONS};\n'
    + "check if time($now), $now < {expires};"
)
MIDDLE: Final = "check if args($owner, $repo, $state, $page, $per_page), $per_page <= {limit};"
LAST: Final = f"check if {CONDITIONS};"
CALL: Final = "args({owner}, {repo}, {state}, {page}, {per_page}); allow if right({action}, {resource});"
VALUES: Final = {
    "owner": work.OWNER,
    "repo": work.REPO,
    "states": list(work.STATES),
    "max_page": work.MAX_PAGE,
}


def forms() -> Iterator[Form]:
    """Yield the forms; raises ImportError where the peer is not installed."""
    biscuit: Any = importlib.import_module(MODULE)
    root, other = biscuit.KeyPair(), biscuit.KeyPair()
    limits = biscuit.AuthorizerBuilder().limits()
    limits.max_time = timedelta(seconds=1)

    def authorize(token: Any, arguments: dict[str, Any]) -> bool:
        builder = biscuit.AuthorizerBuilder(
            CALL, {"action": work.ACTION, "resource": work.RESOURCE, **arguments}
        )
        builder.set_time()
        builder.set_limits(limits)
        return bool(builder.build(token).authorize() == 0)

    def text(token: str, arguments: str) -> bool:
        return authorize(biscuit.Biscuit.from_base64(token, root.public_key), json.loads(arguments))

    def narrowed(parent: str) -> str:
        token = biscuit.Biscuit.from_base64(parent, root.public_key)
        return str(token.append(biscuit.BlockBuilder(LAST, VALUES)).to_base64())

    refusals = (biscuit.AuthorizationError, biscuit.BiscuitValidationError)
    for blocks in work.DEPTHS:
        tokens = [_chain(biscuit, root, blocks) for _ in range(work.POOL)]
        texts = [str(token.to_base64()) for token in tokens]
        token_bytes = len(tokens[0].to_bytes())
        yield Form(
            name=f"text{work.suffix(blocks)}",
            blocks=blocks,
            signatures=blocks,
            token_bytes=token_bytes,
            about_us=50 + 40 * blocks,
            tokens=texts,
            call=text,
            refusals=refusals,
            request=work.as_text,
            fresh=work.fresh_text,
            stranger=str(_chain(biscuit, other, blocks).to_base64()),
        )
        yield Form(
            name=f"kept{work.suffix(blocks)}",
            blocks=blocks,
            signatures=0,
            token_bytes=token_bytes,
            about_us=25 + 5 * blocks,
            tokens=tokens,
            call=authorize,
            refusals=refusals,
        )
    yield from work.making(
        mint=lambda: str(_chain(biscuit, root, 1).to_base64()),
        attenuate=narrowed,
        reads=lambda token, arguments: text(token, arguments.decode()),
        refusals=refusals,
    )


def _chain(biscuit: Any, root: Any, blocks: int) -> Any:
    expires = datetime.now(tz=UTC) + timedelta(seconds=work.TTL_S)
    token = biscuit.BiscuitBuilder(ROOT, {**VALUES, "expires": expires}).build(root.private_key)
    for limit in work.middle_limits(blocks):
        token = token.append(biscuit.BlockBuilder(MIDDLE, {"limit": limit}))
    return token.append(biscuit.BlockBuilder(LAST, VALUES)) if blocks > 1 else token
