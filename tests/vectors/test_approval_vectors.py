"""Oracle and package give each approval vector's outcome, and each request its digest."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from sessauth._fast import _check as kernel
from tests.oracle import approvals as oracle
from tests.oracle.approvals import Held, Verdict, Wanted
from tests.oracle.proofs import request_digest
from tests.support.approvals_judged import judged
from tests.support.vector_files import load

FILE = "approvals.json"


def read(kind: type[Any], record: dict[str, Any]) -> Any:
    """A value whose bytes stand as hex under a name with ``_hex``."""
    given: dict[str, Any] = {}
    for name, part in record.items():
        if not name.endswith("_hex"):
            given[name] = part
        elif isinstance(part, list):
            given[name.removesuffix("_hex")] = tuple(map(bytes.fromhex, part))
        else:
            given[name.removesuffix("_hex")] = bytes.fromhex(part)
    return kind(**given)


@pytest.mark.parametrize("judge", [oracle.judge, judged], ids=["oracle", "package"])
def test_each_vector_has_its_outcome(judge: Callable[..., tuple[Verdict, bytes]]) -> None:
    """The bytes in the file give the verdict, and the id that an allow uses up."""
    wrong = []
    for vector in load(FILE)["vectors"]:
        found, used_up = judge(
            list(map(bytes.fromhex, vector["given_hex"])),
            read(Held, vector["held"]) if "held" in vector else None,
            set(map(bytes.fromhex, vector.get("used_hex", ()))),
            read(Wanted, vector["wanted"]),
            vector["now_ms"],
        )
        expected = vector["expected"]
        if (found.value, used_up.hex()) != (expected["verdict"], expected.get("uses_up_hex", "")):
            wrong.append((vector["name"], found))

    assert wrong == []


@pytest.mark.parametrize("digest", [request_digest, kernel.request_digest], ids=["oracle", "kernel"])
def test_each_request_has_its_digest(digest: Callable[[bytes, bytes, bytes], bytes]) -> None:
    """Empty arguments count as two braces; a byte that moves to the next part makes another digest."""
    found = []
    for request in load(FILE)["digests"]:
        parts = [request[name].encode() for name in ("action", "resource", "arguments")]
        assert digest(parts[0], parts[1], parts[2]).hex() == request["digest_hex"]
        found.append(request["digest_hex"])

    assert len(set(found)) == 3
    assert found[1] == found[2]


def test_every_verdict_has_vectors() -> None:
    """Each outcome several times, the refusals most."""
    found = Counter(vector["expected"]["verdict"] for vector in load(FILE)["vectors"])

    assert set(found) == {verdict.value for verdict in Verdict}
    assert found["BAD_APPROVAL"] >= 30
    assert found["ALLOWED"] >= 10
