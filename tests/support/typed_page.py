"""A page of the documents, typed block by block: commands into one shell, programs into one interpreter.

A block's language says how it is typed: ``sh`` commands, ``console`` commands behind ``$`` with what each
shows, ``python`` a program. A ``text`` block right behind is what was shown. In what is shown, ids, moments
and lengths of time may differ, and ``…`` stands for anything.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from itertools import groupby
from pathlib import Path

from tests.support.markdown import Fence

TYPED = ("sh", "console", "python")
WAIT_S = 100.0
# A command that stays, and so goes on while the next ones are typed.
SERVES = re.compile(r"(?:^|\s)(?:make serve|sessauth(?: --\S+)* (?:serve|follow))\b")
_SERVING = re.compile(r'"event": "(?:serving|fresh)"')
_END = "-- end of the block --"
_ID = re.compile(r"\b[0-9a-f]{6,64}\b")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_SPAN = re.compile(r"\b\d+(?:ms|s|m|h|d)(?: \d+(?:ms|s|m|h))?\b")
# gRPC's own log, of a connection that its other end closed first: a race of two processes that end.
_GRPC_LOG = re.compile(r"I\d{4} [\d:.]+ +\d+ chttp2_transport\.cc:\d+\] .*Got goaway")
_EXIT = re.compile(r"exit (\d+)")

# Reads a block's file name, runs it where the blocks before left off, and says that it ended.
_INTERPRETER = f"""
import sys, traceback
page = {{"__name__": "__main__"}}
for name in sys.stdin:
    try:
        exec(compile(open(name.strip()).read(), name.strip(), "exec"), page)
    except BaseException:
        traceback.print_exc(file=sys.stdout)
        sys.exit(1)
    print({_END!r}, 0, flush=True)
"""


class TypedPage:
    """A reader's shell, with the interpreter and the server that were started from it."""

    def __init__(self, env: Mapping[str, str], cwd: Path, scratch: Path) -> None:
        """Open a shell in ``cwd``; ``scratch`` takes what is typed and what the server says."""
        self._env, self._cwd, self._scratch = dict(env), cwd, scratch
        self._shell = self._start("bash", "--norc")
        self._python: subprocess.Popen[str] | None = None
        self._served: tuple[int, Path] | None = None
        self._count = 0
        # Job control: what goes on in the background can be interrupted, as in a terminal of its own.
        self._shell_block("set -m\n", 0)

    def type(self, fence: Fence) -> str:
        """Type one block; return what was shown. Fails where a command or a program fails."""
        if fence.language == "python":
            return self._program(fence.body)
        expected = _EXIT.match(fence.mark)
        exchanges = list(_exchanges(fence))
        shown = ""
        for number, (commands, answer) in enumerate(exchanges, start=1):
            last = number == len(exchanges)
            got = self._commands(commands, int(expected[1]) if expected and last else 0)
            if answer is not None:
                assert_shown(answer, got)
            shown += got
        return shown

    def save(self, name: str, text: str) -> str:
        """Write a file in the folder that the shell is in; nothing is shown."""
        folder = self._shell_block("pwd\n", 0).rstrip("\n")
        Path(folder, name).write_text(text, encoding="utf-8")
        return ""

    def signal_server(self, number: int) -> None:
        """Send a signal to what serves and to its children."""
        assert self._served is not None
        os.killpg(self._served[0], number)
        if number == signal.SIGKILL:
            self._served = None

    def stop_server(self) -> None:
        """Stop what serves, as Ctrl-C does. Does nothing where nothing serves."""
        if self._served is None:
            return
        pid, log = self._served
        self._served = None
        with suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGINT)
            # One that was paused takes the other signal now.
            os.killpg(pid, signal.SIGCONT)
        if self._shell.poll() is not None:
            return
        _, status = self._source(f"wait {pid}\n")
        # make ends by the signal, whatever the server returned.
        assert status in (0, 130) and "Traceback" not in log.read_text(), f"{status}:\n{log.read_text()}"

    def close(self) -> None:
        """Stop the server as Ctrl-C does, then leave the interpreter and the shell."""
        try:
            self.stop_server()
        finally:
            for process in (self._python, self._shell):
                if process is not None:
                    process.kill()
                    process.communicate()

    def _start(self, *command: str, cwd: Path | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            env=self._env,
            cwd=cwd or self._cwd,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _commands(self, body: str, status: int) -> str:
        """Type lines into the shell. One that serves goes on, and is ready before the next is typed."""
        shown = ""
        for serves, lines in groupby(_logical_lines(body), key=lambda line: bool(SERVES.search(line))):
            for line in lines if serves else ["\n".join(lines)]:
                if serves:
                    self._serve(line)
                else:
                    shown += self._shell_block(line, status)
        return shown

    def _shell_block(self, text: str, status: int) -> str:
        # Each line must do what it is for; only the block's last one may be meant to fail.
        shown, ended = self._source(text, "" if status else "set -e")
        assert ended == status, f"ended with {ended}, not {status}:\n{text}\n{shown}"
        return shown

    def _source(self, text: str, first: str = "") -> tuple[str, int]:
        typed = f"{first}\n. {self._file(text, 'sh')} </dev/null; echo '{_END}' $?; set +e\n"
        return self._answer(self._shell, typed, text)

    def _program(self, text: str) -> str:
        if self._python is None or self._python.poll() is not None:
            found = self._shell_block("export -p; pwd; command -v python\n", 0)
            exported = dict(re.findall(r'^declare -x (\w+)="(.*)"$', found, re.M))
            self._env |= exported
            *_, folder, python = found.splitlines()
            self._python = self._start(python, "-u", "-c", _INTERPRETER, cwd=Path(folder))
        return self._answer(self._python, f"{self._file(text, 'py')}\n", text)[0]

    def _serve(self, line: str) -> None:
        self.stop_server()
        log = self._scratch / f"server-{self._count}.log"
        log.touch()
        command = line.split("#")[0].strip()
        pid = int(self._shell_block(f"{command} >{log} 2>&1 &\necho $!\n", 0).splitlines()[-1])
        self._served = pid, log
        deadline = time.monotonic() + WAIT_S
        while not _SERVING.search(log.read_text()):
            assert _is_running(pid) and time.monotonic() < deadline, f"{command}:\n{log.read_text()}"
            time.sleep(0.02)

    def _file(self, text: str, suffix: str) -> Path:
        self._count += 1
        file = self._scratch / f"block-{self._count}.{suffix}"
        file.write_text(text, encoding="utf-8")
        return file

    def _answer(self, process: subprocess.Popen[str], line: str, text: str) -> tuple[str, int]:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(line)
        process.stdin.flush()
        shown: list[str] = []
        for said in process.stdout:
            if said.startswith(_END):
                return "".join(shown), int(said.rpartition(" ")[2])
            if not _GRPC_LOG.match(said):
                shown.append(said)
        raise AssertionError(f"failed:\n{text}\nafter:\n{''.join(shown)}")


@contextmanager
def typed_page(env: Mapping[str, str], cwd: Path, scratch: Path) -> Iterator[TypedPage]:
    """Open a shell to type a page into, and stop all that was started from it afterwards."""
    page = TypedPage(env, cwd, scratch)
    try:
        yield page
    finally:
        page.close()


def assert_shown(expected: str, shown: str) -> None:
    """Assert that ``shown`` is what the page shows."""
    pattern = re.escape(_alike(expected)).replace("…", ".*")
    assert re.fullmatch(pattern, _alike(shown), re.S), f"the page shows\n{expected}\nand it was\n{shown}"


def _alike(text: str) -> str:
    """Return ``text`` with the same words for ids, moments and lengths of time, and runs of spaces as one."""
    text = re.sub(r"[0-9a-f]+…", "ID", text)
    for pattern, word in ((_MOMENT, "MOMENT"), (_ID, "ID"), (_SPAN, "SPAN")):
        text = pattern.sub(word, text)
    return "\n".join(re.sub(r" +", " ", line).rstrip() for line in text.strip().splitlines())


def _exchanges(fence: Fence) -> Iterator[tuple[str, str | None]]:
    """Return commands with what the page shows for them, None where it shows nothing by itself."""
    if fence.language == "sh":
        yield fence.body, None
        return
    for part in re.split(r"^\$ ", fence.body, flags=re.M)[1:]:
        lines = _logical_lines(part)
        yield lines[0], "\n".join(lines[1:])


def _logical_lines(text: str) -> list[str]:
    """Return lines, those that end in a backslash joined with the next."""
    return re.findall(r"(?:.*\\\n)*.+", text)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False
