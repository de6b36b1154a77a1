"""The oracle as a judge for ``sessauth conformance``."""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.oracle.check import check
from tests.support.vector_files import read_request, read_view, write_decision


def main() -> None:
    """Answer each line."""
    shown, view = None, None
    for line in sys.stdin:
        question = json.loads(line)
        if view is None or question["view"] != shown:
            shown, view = question["view"], read_view(question["view"])[0]
        token, request = bytes.fromhex(question["token_hex"]), read_request(question["request"])
        decision = check(token, request, view, question["now_ms"])
        answer = {"id": question["id"], "allowed": decision.allowed, **write_decision(decision)}
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
