"""The load generator that is not Python: h2load, from Debian's nghttp2-client.

It repeats one request, and reads no answers: it counts their bytes. An answer that is an error has none,
and one that denies has more than one that allows, so the count shows whether all were as expected.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sysconfig
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from benchmarks.service.load_spec import CALL_SECONDS, DRIVE_SECONDS, Call, Drive, Load, LoadError, Target
from benchmarks.workloads import WrongDecision

SOURCE: Final = Path(__file__).with_name("h2load_preload.c")
NOT_INSTALLED: Final = "h2load is not installed (Debian: nghttp2-client)"
NO_COMPILER: Final = "no C compiler to let h2load read its credential from a file"
NO_PRELOAD: Final = "h2load can't be made to read its credential from a file here"
HEADERS: Final = ("content-type: application/grpc", "te: trailers", f"grpc-timeout: {CALL_SECONDS:.0f}S")
PREFIX_BYTES: Final = 5


class NotUsable(Exception):
    """h2load can't be used on this machine; the message says why, in the words of the report."""


def compiled(source: Path, program: Path, *options: str) -> Path:
    """Compile one C file. Raises NotUsable."""
    compiler = shlex.split(os.environ.get("CC") or str(sysconfig.get_config_var("CC") or "cc"))
    try:
        built = subprocess.run(
            [*compiler, "-O2", *options, "-o", str(program), str(source), "-ldl"], capture_output=True
        )
    except OSError:
        raise NotUsable(NO_COMPILER) from None
    if built.returncode != 0:
        raise NotUsable(NO_COMPILER)
    return program


def write_private(file: Path, content: bytes) -> Path:
    """Write a file that only this user can read, in place of one of that name."""
    file.unlink(missing_ok=True)
    with open(os.open(file, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as stream:
        stream.write(content)
    return file


def framed(message: bytes) -> bytes:
    """Return a message as gRPC sends it: not compressed, behind its length."""
    return b"\x00" + len(message).to_bytes(4, "big") + message


@dataclass(frozen=True)
class Summary:
    """Summary of a run of h2load: requests, answers, answers with 2xx, and bytes of bodies."""

    total: int
    succeeded: int
    answered: int
    body_bytes: int


def read_summary(text: str) -> Summary:
    """Read h2load's output. Raises LoadError if it is not the known one."""
    found = (
        re.search(r"^requests: (\d+) total, .*?(\d+) succeeded", text, re.MULTILINE),
        re.search(r"^status codes: (\d+) 2xx", text, re.MULTILINE),
        re.search(r"^traffic: .*\((\d+)\) data$", text, re.MULTILINE),
    )
    requests, codes, traffic = found
    if requests is None or codes is None or traffic is None:
        raise LoadError("h2load: its output is not the known one")
    return Summary(int(requests[1]), int(requests[2]), int(codes[1]), int(traffic[1]))


def read_log(text: str) -> list[tuple[int, int]]:
    """Return the start of each request in us since 1970, and how long it took in us.

    Raises LoadError for a line that is not one of h2load's log.
    """
    times = []
    for line in text.splitlines():
        try:
            start, _status, taken = line.split("\t")
            times.append((int(start), int(taken)))
        except ValueError:
            raise LoadError("h2load: a line of its log is not the known one") from None
    return times


class H2load:
    """Runs h2load; use :meth:`prepare`."""

    def __init__(self, program: str, library: Path, folder: Path) -> None:
        """Take the program, the library that is preloaded, and a folder that only this user can read."""
        self._program = program
        self._folder = folder
        self._environment = {**os.environ, "LD_PRELOAD": str(library), "LC_ALL": "C"}

    @classmethod
    def prepare(cls, folder: Path, program: str = "h2load") -> Self:
        """Find h2load and make it read headers from files. Raises NotUsable."""
        found = shutil.which(program)
        if found is None:
            raise NotUsable(NOT_INSTALLED)
        private = Path(tempfile.mkdtemp(prefix="h2load-", dir=folder))
        library = compiled(SOURCE, private / "preload.so", "-shared", "-fPIC")
        generator = cls(found, library, private)
        generator._require_headers_from_files()
        return generator

    def _require_headers_from_files(self) -> None:
        """Raise NotUsable unless a header of a file is taken: without it, '@FILE' is no header at all."""
        file = self._private("probe", b"x-probe: 1\n")
        answer = subprocess.run(
            [self._program, "-H", f"@{file}", "-n", "0"],
            env=self._environment,
            capture_output=True,
            text=True,
        )
        if "header" in answer.stderr or "preload" in answer.stderr:
            raise NotUsable(NO_PRELOAD)

    def drive(self, call: Call, load: Load, count: int) -> Drive:
        """Make about ``count`` calls, the same number on each target.

        Several targets share the connections.
        """
        shares = [max(count // len(call.targets), load.connections)] * len(call.targets)
        body = self._private("body", framed(call.requests[0]))
        headers = [*HEADERS]
        if call.credential:
            file = self._private("authorization", f"authorization: Bearer {call.credential}\n".encode())
            headers.append(f"@{file}")
        connections = max(1, load.connections // len(call.targets))
        cpu = call.server.cpu_us()
        logs = self._run(
            [
                self._command(call, target, headers, body, connections, load.streams, number)
                for target, number in zip(call.targets, shares, strict=True)
            ],
            shares,
            call.answer_bytes,
            _client_certificate(call.targets[0]),
        )
        cpu = call.server.cpu_us() - cpu
        times = [time for log in logs for time in read_log(log)]
        if len(times) != sum(shares):
            raise LoadError(f"h2load: {sum(shares)} requests, {len(times)} in its log")
        wall = max(start + taken for start, taken in times) - min(start for start, _ in times)
        return Drive(len(times), float(wall), cpu, [float(taken) for _, taken in times])

    def _command(
        self,
        call: Call,
        target: Target,
        headers: Sequence[str],
        body: Path,
        connections: int,
        streams: int,
        number: int,
    ) -> list[str]:
        scheme = "http" if target.certificate is None else "https"
        kind, _, _ = target.address.partition(":")
        base, host = (["-B", target.address], "localhost") if kind == "unix" else ([], target.address)
        options = [item for header in headers for item in ("-H", header)]
        amount = ["-n", str(number), "-c", str(connections), "-m", str(streams), "-t", "1"]
        return [self._program, *amount, "-d", str(body), *base, *options, f"{scheme}://{host}{call.method}"]

    def _run(
        self,
        commands: Sequence[list[str]],
        shares: Sequence[int],
        answer_bytes: int,
        client: dict[str, str],
    ) -> list[str]:
        """Run all at once; returns their logs. Raises WrongDecision for answers of another length.

        ``client`` names the files of the client's certificate.
        """
        logs = [self._private(f"times-{number}", b"") for number in range(len(commands))]
        processes = [
            subprocess.Popen(
                [command[0], "--log-file", str(log), *command[1:]],
                env=self._environment | client,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for command, log in zip(commands, logs, strict=True)
        ]
        try:
            outputs = [process.communicate(timeout=DRIVE_SECONDS) for process in processes]
        except subprocess.TimeoutExpired:
            raise LoadError(f"h2load: not done after {DRIVE_SECONDS:.0f} seconds") from None
        finally:
            for process in processes:
                if process.poll() is None:
                    process.kill()
                    process.wait()
        for process, (output, _), share in zip(processes, outputs, shares, strict=True):
            if process.returncode != 0:
                # Its own words may repeat a header, so they are not repeated here.
                raise LoadError(f"h2load: ended with status {process.returncode}")
            require_answers(read_summary(output), share, answer_bytes)
        return [log.read_text("ascii") for log in logs]

    def _private(self, name: str, content: bytes) -> Path:
        return write_private(self._folder / name, content)


def _client_certificate(target: Target) -> dict[str, str]:
    """Return the variables that the preloaded library reads."""
    if target.client is None:
        return {}
    return {
        "H2LOAD_CERTIFICATE": str(target.client.certificate),
        "H2LOAD_KEY": str(target.client.private_key),
    }


def require_answers(summary: Summary, count: int, answer_bytes: int) -> None:
    """Raise WrongDecision unless ``count`` requests were answered, each with so many bytes of message."""
    if not count == summary.total == summary.succeeded == summary.answered:
        raise WrongDecision(f"h2load: {count} calls, {summary.succeeded} succeeded")
    expected = count * (PREFIX_BYTES + answer_bytes)
    if summary.body_bytes != expected:
        raise WrongDecision(f"h2load: answers of {expected} bytes expected, {summary.body_bytes} came")
