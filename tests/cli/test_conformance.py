"""``sessauth conformance``: judges that agree, that are wrong, and that give no answer."""

from __future__ import annotations

import gzip
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sessauth.conformance.generator import generate_questions
from sessauth.conformance.program import MAX_FAULTS_IN_A_ROW
from sessauth.conformance.questions import FILES, complete, default_folder, read_vectors
from sessauth.errors import UsageError
from tests.oracle.check import check
from tests.oracle.constants import Reason
from tests.support.tree import ROOT
from tests.support.vector_files import read_request, read_view, write_decision

from .conftest import Ran, Run

ORACLE = ROOT / "tests" / "support" / "oracle_judge.py"
VECTORS = ROOT / "tests" / "vectors"
# As many as tests/vectors has in these files.
ASKED = sum(1 for _ in read_vectors(VECTORS))

_JUDGE = """
import json, os, subprocess, sys, time
sys.path.insert(0, {root!r})
from sessauth.conformance.kernel import KernelJudge
judge = KernelJudge()
def say(text):
    sys.stdout.write(text)
    sys.stdout.flush()
for line in sys.stdin:
    question = json.loads(line)
    answer = {{"id": question["id"], **judge.answer(question)}}
    odd = question["request"].get("audience") == "gateway" and answer["reason"] == {reason!r}
    if odd:
        {deed}
    say(json.dumps(answer) + "\\n")
"""


def _judge(folder: Path, deed: str, reason: str) -> str:
    """Give the command of a judge that is right, but does a deed where the answer has this reason."""
    path = folder / "judge.py"
    path.write_text(_JUDGE.format(root=str(ROOT), deed=deed, reason=reason))
    return f"{sys.executable} {path}"


def _conformance(run: Run, command: str, *options: object) -> Ran:
    return run("conformance", "--run", command, "--json", *options)


@pytest.mark.slow
def test_the_oracle_agrees(run: Run) -> None:
    """The oracle, as a program of its own, gives every answer that vectors and kernel give."""
    ran = _conformance(run, f"{sys.executable} {ORACLE}", "--cases", 800)

    assert (ran.code, ran.err) == (0, "")
    assert ran.json["agreed"] is True
    assert ran.json["wrong"] == {}
    assert sum(ran.json["asked"].values()) == ASKED + 800
    assert set(ran.json["asked"]) == {*FILES, "generated"}


def test_generated_questions_are_of_all_sorts() -> None:
    """The same seed gives the same questions; oracle and kernel agree, and few reasons are missing."""
    questions = list(generate_questions(5, 1500))
    reasons = Counter(question.expected["reason"] for question in questions)

    assert [q.content for q in generate_questions(5, 50)] == [q.content for q in questions[:50]]
    assert [q.content for q in generate_questions(6, 50)] != [q.content for q in questions[:50]]
    for question in questions:
        asked = question.content
        view, token = read_view(asked["view"])[0], bytes.fromhex(asked["token_hex"])
        decision = check(token, read_request(asked["request"]), view, asked["now_ms"])
        assert complete(write_decision(decision)) == question.expected, question
    assert reasons["ALLOWED"] > 150
    assert reasons["CONDITION_FAILED"] > 150
    # Some of the others are rare; proofs and approvals are in the vectors.
    assert len(reasons) >= len(Reason) // 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("deed", "fault"),
    [
        ("os._exit(3)", "ended, with status 3"),
        ("os.kill(os.getpid(), 11)", "was ended by signal 11"),
        ("time.sleep(60)", "gave no answer in 4 s"),
        ("say('yes\\n')", "wrote what is no answer"),
        ("say('[' * 100000 + '\\n')", "bytes for one answer"),
        ("say('\\xff\\n')", "wrote what is no answer"),
        ("say('x' * 200000)", "bytes for one answer"),
        ("say(json.dumps({**answer, 'id': 0}) + '\\n')", "to another question"),
        ("say(json.dumps(answer) + '\\n')", "to another question"),
        ("answer['reason'] = ['ALLOWED']", "reason is no word"),
        ("answer['index'] = 'first'", "index is not a whole number"),
        ("answer['allowed'] = 1", "allowed is not true or false"),
        ("os.close(1); time.sleep(60)", "closed its output"),
        ("subprocess.Popen(['sleep', '60']); os._exit(0)", "gave no answer in 4 s"),
    ],
)
def test_a_judge_that_gives_no_answer_is_begun_anew(run: Run, tmp_path: Path, deed: str, fault: str) -> None:
    """Each question without an answer is one that is wrong; all others are answered as before."""
    # Four vectors, or one if each answer takes its full time.
    reason = "REVOKED" if deed.startswith("os._exit") else "WRONG_PEER"
    # Time to start on a busy machine, and no more.
    answer_ms = 4000 if "4 s" in fault else 60_000
    options = ("--only", "valid", "--cases", 0, "--answer-ms", answer_ms, "--show", 1)
    ran = _conformance(run, _judge(tmp_path, deed, reason), *options)

    expected = [q for q in read_vectors(VECTORS, ["valid"]) if q.expected["reason"] == reason]
    assert ran.code == 1
    assert len(expected) == (4 if reason == "REVOKED" else 1)
    assert ran.json["asked"] == {"valid": 286}
    # Whatever a judge says twice is found out with the question after it.
    assert ran.json["wrong"] == {"valid": len(expected)}
    assert ran.json["without_answer"] == len(expected)
    assert fault in ran.json["disagreements"][0]["fault"]


@pytest.mark.slow
def test_a_judge_that_never_answers_is_given_up(run: Run) -> None:
    """No more questions follow after so many in a row, and the result is no agreement."""
    ran = _conformance(run, "false", "--cases", 0)

    assert ran.code == 1
    assert ran.json["stopped"] is True
    assert ran.json["without_answer"] == sum(ran.json["asked"].values()) == MAX_FAULTS_IN_A_ROW


@pytest.mark.slow
@pytest.mark.parametrize(
    ("deed", "member"),
    [
        ("answer['argument'] = 'other'", "argument"),
        ("answer['clause'] = 7", "clause"),
        ("answer['allowed'] = True", "allowed"),
        ("answer.update(reason='OUT_OF_SCOPE')", "reason"),
        ("del answer['level']", "level"),
    ],
)
def test_each_member_of_an_answer_is_compared(run: Run, tmp_path: Path, deed: str, member: str) -> None:
    """A decision that is wrong in one part is wrong, is shown, and is written to the file of ``--out``."""
    out = tmp_path / "wrong.jsonl"
    command = _judge(tmp_path, deed, "CONDITION_FAILED")
    ran = run(
        "conformance", "--run", command, "--only", "conditions", "--cases", 0, "--out", out, "--show", 2
    )

    written: list[dict[str, Any]] = [json.loads(line) for line in out.read_text().splitlines()]
    assert ran.code == 1
    assert len(written) > 50
    for each in written:
        assert [name for name in each["expected"] if each["expected"][name] != each["answer"][name]] == [
            member
        ]
    assert f"{len(written):>8} wrong" in ran.out
    assert ran.out.count(f"    {member}: expected ") == 2
    assert f"{len(written) - 2} more disagreements are not shown" in ran.out


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--run", "/nowhere/judge"), "/nowhere/judge can't be run"),
        (("--run", ""), "names no program"),
        (("--run", "a 'b"), "--run: No closing quotation"),
        (("--run", "cat", "--only", "text_forms"), "no file of checks"),
        (("--run", "cat", "--vectors", "/nowhere"), "not a file of vectors"),
        (("--run", "cat", "--out", "/nowhere/x"), "can't be written"),
    ],
)
def test_what_can_not_be_run(run: Run, options: tuple[str, ...], expected: str) -> None:
    """A program, a folder or a file that is not there is the caller's mistake, named by its option."""
    ran = run("conformance", *options)

    assert ran.code == 2
    assert expected in ran.err


def test_the_package_has_its_vectors() -> None:
    """The default questions are those of tests/vectors."""
    assert [*read_vectors(default_folder())] == [*read_vectors(VECTORS)]


def test_vectors_are_read_compressed_too(tmp_path: Path) -> None:
    """A folder of compressed files asks the same; one that is cut is no file of vectors."""
    packed = gzip.compress((VECTORS / "valid.json").read_bytes())
    (tmp_path / "valid.json.gz").write_bytes(packed)
    assert [*read_vectors(tmp_path, ["valid"])] == [*read_vectors(VECTORS, ["valid"])]

    (tmp_path / "valid.json.gz").write_bytes(packed[:-100])
    with pytest.raises(UsageError, match="not a file of vectors"):
        [*read_vectors(tmp_path, ["valid"])]
