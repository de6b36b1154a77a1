"""A judge that is another program: questions to its standard input, answers from its standard output."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Self

from ..errors import UsageError
from .questions import Question, complete

# An answer takes a few hundred bytes. More without a line's end is no answer.
_MAX_ANSWER_BYTES: Final = 65_536
_CHUNK: Final = 65_536
# The time that a program may take to end after its input or output.
_LEAVE_S: Final = 2.0


class JudgeFault(Exception):
    """The program gave no answer; the text is the cause."""


class Program:
    """Runs a judge, one question at a time. Its standard error is not read.

    A judge that gives no answer is killed with its children, and started again for the next question. It is
    a context manager.
    """

    def __init__(self, command: Sequence[str], *, answer_ms: int) -> None:
        """Run ``command``; an answer must be there ``answer_ms`` after its question."""
        self._command = list(command)
        self._answer_s = answer_ms / 1000
        self._process: subprocess.Popen[bytes] | None = None
        self._read = b""
        self._number = 0

    def __enter__(self) -> Self:
        """Return it; the program starts with the first question."""
        return self

    def __exit__(self, *_: object) -> None:
        """Let the program end with its input; kill it if it does not."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_LEAVE_S)
        self._end()

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Return the judge's answer to a question, complete.

        Raises JudgeFault without one: the program ended, wrote something else, or took too long; UsageError
        if it can't be started.
        """
        self._number += 1
        try:
            line = self._exchange(json.dumps({"id": self._number, **question}).encode() + b"\n")
            return self._parse_answer(line)
        except JudgeFault:
            # Its later output would not belong to the next question.
            self._end()
            raise

    def _parse_answer(self, line: bytes) -> dict[str, Any]:
        try:
            answer = json.loads(line)
            completed = complete(answer)
        except (ValueError, RecursionError) as error:
            raise JudgeFault(f"wrote what is no answer: {error}") from None
        if answer.get("id") != self._number:
            raise JudgeFault("wrote an answer to another question")
        return completed

    def _exchange(self, line: bytes) -> bytes:
        """Write a question and read a line, with neither waiting for the other."""
        process = self._start()
        stdin, stdout = process.stdin, process.stdout
        if stdin is None or stdout is None:
            raise JudgeFault("has no pipes")
        deadline = time.monotonic() + self._answer_s
        rest = memoryview(line)
        with selectors.DefaultSelector() as selector:
            selector.register(stdin, selectors.EVENT_WRITE)
            selector.register(stdout, selectors.EVENT_READ)
            while b"\n" not in self._read:
                ready = selector.select(max(0.0, deadline - time.monotonic()))
                if not ready:
                    raise JudgeFault(f"gave no answer in {self._answer_s:g} s")
                for key, _ in ready:
                    if key.fileobj is stdout:
                        self._receive(process, stdout.fileno())
                        continue
                    try:
                        rest = rest[os.write(stdin.fileno(), rest[:_CHUNK]) :]
                    except BlockingIOError:
                        continue
                    except BrokenPipeError:
                        selector.unregister(stdin)
                        continue
                    if not rest:
                        selector.unregister(stdin)
        answer, _, self._read = self._read.partition(b"\n")
        return answer

    def _receive(self, process: subprocess.Popen[bytes], file: int) -> None:
        data = os.read(file, _CHUNK)
        if not data:
            try:
                code = process.wait(_LEAVE_S)
            except subprocess.TimeoutExpired:
                raise JudgeFault("closed its output and went on") from None
            raise JudgeFault(f"ended, with status {code}" if code >= 0 else f"was ended by signal {-code}")
        self._read += data
        if len(self._read) > _MAX_ANSWER_BYTES:
            raise JudgeFault(f"wrote more than {_MAX_ANSWER_BYTES} bytes for one answer")

    def _start(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            self._read = b""
            try:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    bufsize=0,
                    start_new_session=True,
                )
            except OSError as error:
                raise UsageError(f"--run: {self._command[0]} can't be run: {error.strerror}") from None
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    os.set_blocking(pipe.fileno(), False)
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        # The group is the program's own. It may be gone, or have left children that hold the pipes.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


# A judge that never answers would have each question wait for its timeout.
MAX_FAULTS_IN_A_ROW: Final = 10


@dataclass(frozen=True, slots=True)
class Disagreement:
    """A question with a wrong answer, or with none; ``fault`` is the cause of a missing one."""

    question: Question
    answer: Mapping[str, Any] | None
    fault: str = ""

    def differences(self) -> dict[str, tuple[Any, Any]]:
        """Return the expected and the given value of each member that differs."""
        if self.answer is None:
            return {}
        expected = self.question.expected
        return {
            name: (expected[name], self.answer[name])
            for name in expected
            if self.answer[name] != expected[name]
        }


@dataclass(slots=True)
class Outcome:
    """Result of a run, counted by source; ``stopped``: the rest was not asked."""

    questions: Counter[str] = field(default_factory=Counter)
    wrong: Counter[str] = field(default_factory=Counter)
    faults: int = 0
    stopped: bool = False

    @property
    def agreed(self) -> bool:
        """True if every question was asked, and every answer right."""
        return self.questions.total() > 0 and not self.wrong and not self.stopped


def compare(
    questions: Iterable[Question], judge: Callable[[Mapping[str, Any]], dict[str, Any]], outcome: Outcome
) -> Iterator[Disagreement]:
    """Ask each question, count into ``outcome``, and yield each disagreement as it happens.

    After ``MAX_FAULTS_IN_A_ROW`` questions without an answer nothing more is asked.
    """
    in_a_row = 0
    for question in questions:
        outcome.questions[question.source] += 1
        try:
            answer = judge(question.content)
        except JudgeFault as fault:
            outcome.wrong[question.source] += 1
            outcome.faults += 1
            in_a_row += 1
            yield Disagreement(question, None, str(fault))
            if in_a_row == MAX_FAULTS_IN_A_ROW:
                outcome.stopped = True
                return
            continue
        in_a_row = 0
        if answer != question.expected:
            outcome.wrong[question.source] += 1
            yield Disagreement(question, answer)
