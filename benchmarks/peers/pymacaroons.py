"""Macaroons: tokens under one secret, whose caveats are texts, by pymacaroons in pure Python.

The permissions are one caveat, each condition is another, the expiry the last. As the documentation shows
it, a call makes a verifier that knows the call: equalities are satisfied exactly, the rest by a function.
Tokens have format 1, the library's default, which it parses in half the time of format 2. An attenuation
adds caveats and no signature.

Not equal: a macaroon is HMAC under a secret that every verifier has, so whoever can check one can also mint
one, and no public-key signature is verified: reading a text every time is listed against our cold check and
not judged by it. Keeping a macaroon saves parsing; its HMACs are made again on each call. Caveats hold for
the whole token, not for one of its permissions. The function that judges them is ours, and does less than a
policy language would. Kept, the peer gets its arguments parsed, and we parse JSON; it looks no session,
revocation or issuer up.
"""

from __future__ import annotations

import importlib
import json
import secrets
import time
from collections.abc import Iterator
from typing import Any, Final

from benchmarks.peers import work
from benchmarks.peers.work import Form

MODULE: Final = "pymacaroons"
PACKAGE: Final = "pymacaroons"

ALL_PERMISSIONS: Final = tuple(f"{work.ACTION}:{name}" for name in (*work.OTHER_RESOURCES, work.RESOURCE))
ASKED: Final = f"{work.ACTION}:{work.RESOURCE}"
KEY_ID: Final = "key-1"


def holds(predicate: str, arguments: dict[str, Any]) -> bool:
    """Judge a caveat that is not a plain equality; False for one that is not understood."""
    name, _, value = predicate.partition(" ")
    if name == "permits":
        return ASKED in value.split(",")
    if name == "state":
        return arguments["state"] in value.removeprefix("in ").split(",")
    if name in ("page", "per_page"):
        return bool(arguments[name] <= int(value.removeprefix("<= ")))
    return name == "expires" and time.time() < int(value)


def forms() -> Iterator[Form]:
    """Yield the forms; raises ImportError where the peer is not installed."""
    library: Any = importlib.import_module(MODULE)
    exceptions: Any = importlib.import_module(f"{MODULE}.exceptions")
    keys = {KEY_ID: secrets.token_bytes(32)}

    def verify(macaroon: Any, arguments: dict[str, Any]) -> bool:
        verifier = library.Verifier()
        verifier.satisfy_exact(f"owner = {arguments['owner']}")
        verifier.satisfy_exact(f"repo = {arguments['repo']}")
        verifier.satisfy_general(lambda predicate: holds(predicate, arguments))
        return bool(verifier.verify(macaroon, keys[macaroon.identifier]))

    def text(token: str, arguments: str) -> bool:
        return verify(library.Macaroon.deserialize(token), json.loads(arguments))

    def narrowed(parent: str) -> str:
        macaroon = library.Macaroon.deserialize(parent)
        for caveat in (f"permits {ASKED}", *_conditions()):
            macaroon.add_first_party_caveat(caveat)
        return str(macaroon.serialize())

    refusals = (exceptions.MacaroonException,)
    for blocks in work.DEPTHS:
        made = [_chain(library, keys[KEY_ID], blocks) for _ in range(work.POOL)]
        data = [macaroon.serialize() for macaroon in made]
        stranger = _chain(library, secrets.token_bytes(32), blocks)
        yield Form(
            name=f"text{work.suffix(blocks)}",
            blocks=blocks,
            signatures=0,
            token_bytes=len(data[0]),
            about_us=40 + 20 * blocks,
            tokens=data,
            call=text,
            refusals=refusals,
            request=work.as_text,
            fresh=work.fresh_text,
            stranger=stranger.serialize(),
        )
        yield Form(
            name=f"kept{work.suffix(blocks)}",
            blocks=blocks,
            signatures=0,
            token_bytes=len(data[0]),
            about_us=20 + 10 * blocks,
            tokens=[library.Macaroon.deserialize(each) for each in data],
            call=verify,
            refusals=refusals,
            stranger=stranger,
        )
    yield from work.making(
        mint=lambda: str(_chain(library, keys[KEY_ID], 1).serialize()),
        attenuate=narrowed,
        reads=lambda token, arguments: text(token, arguments.decode()),
        refusals=refusals,
    )


def _chain(library: Any, key: bytes, blocks: int) -> Any:
    macaroon = library.Macaroon(location="gateway-1", identifier=KEY_ID, key=key)
    caveats = [f"permits {','.join(ALL_PERMISSIONS)}", *_conditions()]
    caveats.append(f"expires {int(time.time()) + work.TTL_S}")
    caveats += [f"per_page <= {limit}" for limit in work.middle_limits(blocks)]
    if blocks > 1:
        caveats += [f"permits {ASKED}", *_conditions()]
    for caveat in caveats:
        macaroon.add_first_party_caveat(caveat)
    return macaroon


def _conditions() -> list[str]:
    return [
        f"owner = {work.OWNER}",
        f"repo = {work.REPO}",
        f"state in {','.join(work.STATES)}",
        f"page <= {work.MAX_PAGE}",
    ]
