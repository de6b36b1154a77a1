"""Tenuo: public-key warrants with constraints for each tool, bound to a holder who signs each call.

A root warrant has eight tools as capabilities, the last with a constraint for each argument; children are
attenuated by their holders. The holder's proof is made before the clock starts: it is the caller's work.
``Authorizer.authorize_one`` and ``check_chain`` are the documented entry points; the constraints alone,
``Warrant.check_constraints``, are documented as diagnostic and authorize nothing.

Not equal: each call verifies a proof of possession, one signature more than the chain has, and keeping a
warrant parsed saves parsing only: its signatures are verified again. We compare by depth, and again with
our chain of as many signatures. Our tokens here are bearer tokens, but for the row by proof. Kept, the peer
gets its arguments parsed, and we parse JSON. It looks no session or issuer status up and no revocation list
is installed; we look all three up in every check. It verifies with ed25519-dalek, we with libsodium.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Iterator
from typing import Any, Final

from benchmarks.peers import work
from benchmarks.peers.work import Form, Item

MODULE: Final = "tenuo"
PACKAGE: Final = "tenuo"


class _Chains:
    """Makes chains of warrants, and remembers who holds each leaf."""

    def __init__(self, library: Any) -> None:
        self._library = library
        self.root = library.SigningKey.generate()
        self._holders: dict[str, Any] = {}

    def make(self, blocks: int, root: Any = None) -> list[Any]:
        """Return a chain of so many warrants, root first."""
        library = self._library
        holder = library.SigningKey.generate()
        capabilities: dict[str, Any] = {resource: {} for resource in work.OTHER_RESOURCES}
        chain = [
            library.Warrant.issue(
                root or self.root,
                capabilities=capabilities | {work.RESOURCE: self._constraints()},
                ttl_seconds=work.TTL_S,
                holder=holder.public_key,
                session_id="session-1",
            )
        ]
        self._holders[chain[-1].id] = holder
        limits = work.middle_limits(blocks)
        for number in range(1, blocks):
            chain = self.narrowed(chain, limits[:number], last=number == blocks - 1)
        return chain

    def narrowed(self, chain: list[Any], limits: list[int] | None = None, *, last: bool) -> list[Any]:
        """Return the chain with one warrant more, which the holder of its leaf signs."""
        leaf, new = chain[-1], self._library.SigningKey.generate()
        others: dict[str, Any] = {} if last else {resource: {} for resource in work.OTHER_RESOURCES}
        child = leaf.attenuate(
            others | {work.RESOURCE: self._constraints(limits)},
            self._holders[leaf.id],
            ttl_seconds=work.TTL_S - len(chain),
            holder=new.public_key,
        )
        self._holders[child.id] = new
        return [*chain, child]

    def _constraints(self, limits: list[int] | None = None) -> dict[str, Any]:
        library = self._library
        return {
            "owner": library.Exact(work.OWNER),
            "repo": library.Exact(work.REPO),
            "state": library.OneOf(list(work.STATES)),
            "page": library.Range(max=work.MAX_PAGE),
            "per_page": library.Range(max=limits[-1]) if limits else library.Wildcard(),
        }

    def request(self, arguments: bytes, chain: list[Any]) -> Item:
        """Return arguments and the holder's proof for them, which is good for two minutes."""
        parsed = json.loads(arguments)
        leaf = chain[-1]
        proof = leaf.sign(self._holders[leaf.id], work.RESOURCE, parsed, int(time.time()))
        return parsed, bytes(proof)


def forms() -> Iterator[Form]:
    """Yield the forms; raises ImportError where the peer is not installed."""
    library: Any = importlib.import_module(MODULE)
    chains = _Chains(library)
    authorizer = library.Authorizer(trusted_roots=[chains.root.public_key])
    refusals = (library.TenuoError,)

    def authorize(chain: list[Any], arguments: dict[str, Any], proof: bytes) -> bool:
        if len(chain) == 1:
            return authorizer.authorize_one(chain[0], work.RESOURCE, arguments, proof) is not None
        return authorizer.check_chain(chain, work.RESOURCE, arguments, proof) is not None

    def unpacked(token: str, blocks: int) -> list[Any]:
        if blocks == 1:
            return [library.Warrant.from_base64(token)]
        return list(library.decode_warrant_stack_base64(token))

    def packed(chain: list[Any]) -> tuple[str, list[Any]]:
        text = chain[0].to_base64() if len(chain) == 1 else library.encode_warrant_stack(chain)
        return str(text), chain

    def text(token: tuple[str, list[Any]], arguments: str, proof: bytes) -> bool:
        return authorize(unpacked(token[0], len(token[1])), json.loads(arguments), proof)

    def request(arguments: bytes, token: tuple[str, list[Any]]) -> Item:
        return arguments.decode(), chains.request(arguments, token[1])[1]

    def reads(token: str, arguments: bytes) -> bool:
        # Only a stack of two or more has a length before each warrant.
        try:
            chain = unpacked(token, 1)
        except refusals:
            chain = unpacked(token, 2)
        return authorize(chain, *chains.request(arguments, chain))

    for blocks in work.DEPTHS:
        made = [chains.make(blocks) for _ in range(work.POOL)]
        tokens = [packed(chain) for chain in made]
        stranger = chains.make(blocks, library.SigningKey.generate())
        yield Form(
            name=f"text{work.suffix(blocks)}",
            blocks=blocks,
            signatures=blocks + 1,
            token_bytes=len(tokens[0][0]),
            about_us=80 + 60 * blocks,
            tokens=tokens,
            call=text,
            refusals=refusals,
            request=request,
            fresh=_fresh,
            stranger=packed(stranger),
        )
        yield Form(
            name=f"kept{work.suffix(blocks)}",
            blocks=blocks,
            signatures=blocks + 1,
            token_bytes=len(tokens[0][0]),
            about_us=60 + 20 * blocks,
            tokens=made,
            call=authorize,
            refusals=refusals,
            request=chains.request,
            stranger=stranger,
        )
    yield from work.making(
        mint=lambda: packed(chains.make(1))[0],
        attenuate=lambda parent: packed(chains.narrowed([library.Warrant.from_base64(parent)], last=True))[0],
        reads=reads,
        refusals=refusals,
    )


def _fresh(token: tuple[str, list[Any]]) -> tuple[str, list[Any]]:
    """Return the text as a new object, with the chain that only the holder's side looks at."""
    return work.fresh_text(token[0]), token[1]
