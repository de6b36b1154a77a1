"""The load on a server: what h2load is given and says, which rows are read, and what stands in for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.service.h2load import (
    H2load,
    NotUsable,
    Summary,
    read_log,
    read_summary,
    require_answers,
)
from benchmarks.service.load_spec import Call, Load, LoadError, Target
from benchmarks.service.processes import Server
from benchmarks.workloads import WrongDecision

CREDENTIAL = "sessauth_key_bench_not-a-real-one"
OUTPUT = """\
starting benchmark...
spawning thread #0: 8 total client(s). 6000 total requests
Application protocol: h2c
progress: 100% done

finished in 1.10s, 5460.26 req/s, 826.25KB/s
requests: 6000 total, 6000 started, 6000 done, 5998 succeeded, 2 failed, 0 errored, 0 timeout
status codes: 5998 2xx, 0 3xx, 0 4xx, 2 5xx
traffic: 907.93KB (929716) total, 112.02KB (114712) headers (space savings 81.79%), 585.94KB (600000) data
                     min         max         mean         sd        +/- sd
time for request:     1.74ms     27.24ms     11.63ms      2.65ms    81.08%
"""
# A stand-in for h2load that writes down what it was given, and answers as many calls as it was asked for.
STAND_IN = """\
import os, sys
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
folder = os.environ["STAND_IN_FOLDER"]
with open(os.path.join(folder, "seen"), "a") as seen:
    seen.write("\\0".join([*sys.argv, *os.environ.values()]))
count = int(options["-n"])
if "--log-file" in options:
    with open(options["--log-file"], "w") as log:
        log.writelines(f"{1000 * number}\\t200\\t400\\n" for number in range(count))
print(f"requests: {count} total, {count} started, {count} done, {count} succeeded, 0 failed")
print(f"status codes: {count} 2xx, 0 3xx, 0 4xx, 0 5xx")
print(f"traffic: 1B (1) total, 1B (1) headers (space savings 1.00%), 1B ({count * 105}) data")
"""


def nothing(_: Sequence[bytes]) -> None:
    """Accept every answer."""


def test_what_h2load_says_is_read() -> None:
    """Requests, answers, answers with 2xx and the bytes of their bodies stand in its output."""
    assert read_summary(OUTPUT) == Summary(total=6000, succeeded=5998, answered=5998, body_bytes=600_000)
    assert read_log("1795574805544578\t200\t1590\n1795574805546201\t-1\t365\n") == [
        (1795574805544578, 1590),
        (1795574805546201, 365),
    ]


@pytest.mark.parametrize(
    "text", ["", OUTPUT.replace("data", "payload"), OUTPUT.replace("requests:", "calls:")]
)
def test_another_output_is_no_measurement(text: str) -> None:
    """A version of h2load that says it in other words stops the run instead of being misread."""
    with pytest.raises(LoadError):
        read_summary(text)
    with pytest.raises(LoadError):
        read_log("12\t200\n")


@pytest.mark.parametrize(
    "summary",
    [
        Summary(total=100, succeeded=99, answered=99, body_bytes=10_500),
        Summary(total=100, succeeded=100, answered=98, body_bytes=10_500),
        Summary(total=100, succeeded=100, answered=100, body_bytes=10_395),
        Summary(total=100, succeeded=100, answered=100, body_bytes=10_600),
        Summary(total=90, succeeded=90, answered=90, body_bytes=9450),
    ],
)
def test_one_answer_that_is_another_stops_the_run(summary: Summary) -> None:
    """An error has no message and a denial a longer one: the bytes of all bodies show a single one."""
    require_answers(Summary(100, 100, 100, 10_500), 100, 100)
    with pytest.raises(WrongDecision):
        require_answers(summary, 100, 100)


def test_a_credential_is_given_to_h2load_by_a_file_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the arguments nor the environment of the generator hold it; the file is this user's alone."""
    program = tmp_path / "h2load"
    program.write_text(f"#!{sys.executable}\n{STAND_IN}")
    program.chmod(0o755)
    monkeypatch.setenv("STAND_IN_FOLDER", str(tmp_path))
    try:
        generator = H2load.prepare(tmp_path, program=str(program))
    except NotUsable as why:
        pytest.skip(str(why))
    server = Server("unix:/nowhere", (os.getpid(),))
    targets = (Target("unix:/nowhere"), Target("127.0.0.1:1", certificate=tmp_path / "server.pem"))
    call = Call(server, targets, "/a.B/C", (b"x",), nothing, CREDENTIAL, answer_bytes=100)

    drive = generator.drive(call, Load(8, 8), 200)

    seen = (tmp_path / "seen").read_text()
    assert CREDENTIAL not in seen and "unix:/nowhere" in seen and "https://127.0.0.1:1/a.B/C" in seen
    (file,) = tmp_path.glob("h2load-*/authorization")
    assert file.read_text() == f"authorization: Bearer {CREDENTIAL}\n"
    assert file.stat().st_mode & 0o777 == 0o600 and file.parent.stat().st_mode & 0o777 == 0o700
    assert (drive.calls, drive.wall_us, len(drive.latencies_us)) == (200, 99 * 1000 + 400, 200)
