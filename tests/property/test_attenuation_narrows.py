"""Blocks only ever narrow: what a chain allows, every chain that it was made from allows too."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from tests.oracle.constants import Reason, Stage
from tests.oracle.model import OracleDecision
from tests.oracle.wire import encode
from tests.property.generator import Batch, Case, batch
from tests.property.judges import Kernel
from tests.property.mutations import edit_record
from tests.property.random_chains import Draft, random_scope
from tests.property.random_values import random_condition
from tests.support.cases import CASES
from tests.support.token_forger import Key, Record, assemble, ending, key, sign

FAMILIES = min(CASES // 40, 3000)

# What a block that is added can bring to light before a scope is asked.
_BEFORE = frozenset(
    (
        Reason.MALFORMED_TOKEN,
        Reason.CHAIN_TOO_LONG,
        Reason.EXPIRED,
        Reason.NOT_YET_VALID,
        Reason.WRONG_AUDIENCE,
        Reason.WRONG_SOURCE,
        Reason.WRONG_PEER,
        Reason.UNKNOWN_KIND,
    )
)


def _child(rng: Random) -> Record:
    """Any attenuation block: wide, narrow, or odd in one place."""
    roll = rng.random()
    if roll < 0.35:
        return {"scopes": [{"actions": ["*"], "resource": [{"kind": 5}]}]}
    if roll < 0.5:
        return {}
    if roll < 0.6:
        return {"where": [random_condition(rng)]}
    block: Record = {"scopes": [random_scope(rng) for _ in range(rng.randint(1, 2))]}
    if roll > 0.9:
        edit_record(rng, "Block", block)
    return block


def _family(rng: Random, draft: Draft) -> list[bytes]:
    """Sealed copies of a growing chain: the root alone, then with one more block each time."""
    payloads: list[bytes] = []
    signers: list[Key] = [draft.signers[0]]
    tokens = []
    blocks = [dict(block) for block in draft.blocks] + [_child(rng) for _ in range(rng.randint(0, 3))]
    for index, block in enumerate(blocks):
        opened = key(f"family {index}")
        block.update(ending("open", opened), proof_key=b"", may_seal=False)
        payloads.append(encode("Block", block))
        signers.append(opened)
        copy = [*payloads, encode("Block", ending("sealed"))]
        tokens.append(assemble(copy, sign(copy, signers)))
    return tokens


def _decisions(kernel: Kernel, made: Batch, tokens: list[bytes]) -> list[list[OracleDecision]]:
    """Return for each request of the batch the decision on each token of a family."""
    requests = {case.request: case for case in made.cases}
    return [
        [kernel(Case(token, request, case.now_ms)) for token in tokens] for request, case in requests.items()
    ]


@pytest.mark.timeout(1800)
def test_a_child_never_allows_what_its_parent_denies() -> None:
    """Along each growing chain, once a copy is denied no longer one is allowed."""
    kernel, seen = Kernel(), Counter[str]()
    for number in range(FAMILIES):
        rng = Random(f"families {number}")
        made = batch(rng)
        kernel.load(made)
        for decisions in _decisions(kernel, made, _family(rng, rng.choice(made.drafts))):
            allowed = [decision.allowed for decision in decisions]
            denied_at = allowed.index(False) if False in allowed else len(allowed)

            assert not any(allowed[denied_at:]), f"family {number}: {decisions}"
            seen["kept" if all(allowed) else "narrowed" if allowed[0] else "denied"] += 1

    # Each of the three ways a chain can go, or the property says nothing.
    assert min(seen["kept"], seen["narrowed"], seen["denied"]) >= FAMILIES // 10, seen


@pytest.mark.timeout(1800)
def test_a_denial_at_scope_stays_where_it_is() -> None:
    """Blocks below do not move a refusal at stage scope: it stays, or an earlier refusal hides it."""
    kernel, compared = Kernel(), 0
    for number in range(FAMILIES // 2):
        rng = Random(f"scopes {number}")
        made = batch(rng)
        kernel.load(made)
        for decisions in _decisions(kernel, made, _family(rng, rng.choice(made.drafts))):
            for parent, child in pairwise(decisions):
                if parent.stage is not Stage.SCOPE:
                    continue
                compared += 1
                # An unknown kind below is said before scopes are matched; both are refusals.
                assert child == parent or (not child.allowed and child.reason in _BEFORE), (
                    parent,
                    child,
                )

    assert compared >= FAMILIES // 4
