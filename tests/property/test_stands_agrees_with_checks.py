"""Checks of the token alone and of a call agree on the token, whatever the call is."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

import pytest

from tests.oracle.constants import Reason, Stage
from tests.oracle.model import OracleDecision
from tests.property.generator import Case, batch
from tests.property.judges import Kernel
from tests.support.cases import CASES

BATCHES = max(60, CASES // 60)
STANDS = OracleDecision(Reason.ALLOWED)
# Nothing of a call is read before the end of these.
OF_THE_TOKEN = frozenset(range(Stage.DECODE, Stage.SCOPE))


def _alone(case: Case) -> Case:
    """The case without its call."""
    nothing = {"action": b"", "resource": b"", "arguments": b"", "tool": b"", "proof": b""}
    return replace(case, request=replace(case.request, token_only=True, **nothing))


@pytest.mark.timeout(1800)
def test_a_token_is_judged_alike_with_a_call_and_without() -> None:
    """A refusal of the token is the same one; what only the call is refused for leaves the token standing."""
    kernel, seen = Kernel(), Counter[str]()
    for number in range(BATCHES):
        made = batch(Random(f"stands {number}"))
        kernel.load(made)
        for case in made.cases:
            if case.request.token_only:
                continue
            of_call, alone = kernel(case), kernel(_alone(case))
            seen[of_call.stage.name] += 1
            if of_call.stage in OF_THE_TOKEN or of_call.reason is Reason.UNKNOWN_KIND:
                assert alone == of_call, case
            elif of_call.reason is Reason.MALFORMED_REQUEST:
                # The form of a call is looked at before unknown kinds are.
                assert alone == STANDS or alone.reason is Reason.UNKNOWN_KIND, case
            else:
                assert alone == STANDS, case

    assert {"NONE", "DECODE", "SESSION", "SIGNATURE", "AUDIENCE", "REVOCATION", "SCOPE"} <= set(seen)
