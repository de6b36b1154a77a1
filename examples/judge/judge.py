"""A judge for ``sessauth conformance``: reads questions from standard input, writes decisions.

This one asks the kernel that it is compared with, so it agrees. A judge of another implementation does the
same with its own verifier; docs/conformance.md describes a question.
"""

import json
import sys

from sessauth.conformance.kernel import KernelJudge


def main() -> None:
    """Answer every question."""
    judge = KernelJudge()
    for line in sys.stdin:
        question = json.loads(line)
        decision = judge.answer(question)
        # Answer at once: the next question is sent after the answer.
        print(json.dumps({"id": question["id"], **decision}), flush=True)
    judge.close()


if __name__ == "__main__":
    main()
