"""The load on a server: what h2load is given and says, which rows are read, and what stands in for it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.service import (
    certificate,
    h2load,
    rows,
    rows_table,
    server_home,
)
from benchmarks.service.driver import StreamDriver, answer
from benchmarks.service.grpcio_echo import stream, unary
from benchmarks.service.h2load import (
    H2load,
    NotUsable,
    Summary,
    framed,
    read_log,
    read_summary,
    require_answers,
)
from benchmarks.service.load_spec import Call, Drive, Load, LoadError, Target
from benchmarks.service.processes import PYTHON, Server, running
from benchmarks.workloads import WrongDecision
from sessauth.v1 import authorization_service_pb2 as pb
from tests.support.service import home_folder

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


@pytest.fixture(scope="module")
def echo() -> Iterator[Server]:
    """A running echo of grpcio."""
    with home_folder() as folder:
        path = folder / "echo.sock"
        command = [*PYTHON, "-m", "benchmarks.service.grpcio_echo", "--socket", str(path)]
        with running(command, f"unix:{path}", folder / "echo.log") as server:
            yield server


def echo_of(echo: Server, method: str, answer_bytes: int) -> Call:
    """A call of the echo that wants answers of so many bytes."""

    def require(answers: Sequence[bytes]) -> None:
        if any(len(answer) != answer_bytes for answer in answers):
            raise WrongDecision("another length")

    return Call(echo, (Target(echo.target),), method, (bytes(200),), require, answer_bytes=answer_bytes)


def test_a_message_goes_out_behind_its_length_and_not_compressed() -> None:
    """GRPC's frame of a message: a zero byte, its length in four bytes, the message."""
    assert framed(b"abc") == b"\x00\x00\x00\x00\x03abc"
    assert framed(bytes(70_000))[:5] == b"\x00\x00\x01\x11\x70"


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


def test_a_machine_without_h2load_or_compiler_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The missing program is named, with the package that has it."""
    with pytest.raises(NotUsable, match="nghttp2-client"):
        H2load.prepare(tmp_path, program="no-such-program")
    monkeypatch.setenv("CC", "no-such-compiler -O2")
    with pytest.raises(NotUsable, match="no C compiler"):
        H2load.prepare(tmp_path, program=sys.executable)


@pytest.mark.skipif(shutil.which("h2load") is None, reason=h2load.NOT_INSTALLED)
def test_h2load_drives_a_server_and_counts_its_answers(echo: Server, tmp_path: Path) -> None:
    """Each call has a latency; answers that are a byte longer than expected stop the run."""
    try:
        generator = H2load.prepare(tmp_path)
    except NotUsable as why:
        pytest.skip(str(why))

    drive = generator.drive(echo_of(echo, unary(100), 100), Load(4, 4), 400)

    assert drive.calls == len(drive.latencies_us) == 400
    assert 0 < min(drive.latencies_us) <= max(drive.latencies_us) <= drive.wall_us
    with pytest.raises(WrongDecision):
        generator.drive(echo_of(echo, unary(101), 100), Load(4, 4), 400)
    with pytest.raises(WrongDecision):
        generator.drive(echo_of(echo, "/sessauth.bench.Echo/Unknown", 100), Load(4, 4), 400)


@pytest.mark.parametrize(("streaming", "method"), [(False, unary), (True, stream)])
def test_a_single_answer_is_held(echo: Server, streaming: bool, method: Any) -> None:
    """One call, or one message of a stream, returns its answer; another answer raises WrongDecision."""
    assert len(answer(echo_of(echo, method(64), 64), streaming=streaming)) == 64
    with pytest.raises(WrongDecision):
        answer(echo_of(echo, method(65), 64), streaming=streaming)


def test_streams_carry_as_many_messages_and_each_answer_is_held(echo: Server) -> None:
    """Every message of a stream is answered and timed; another answer raises WrongDecision."""
    with StreamDriver() as driver:
        drive = driver.drive(echo_of(echo, stream(64), 64), Load(2, 5), 300)

        assert drive.calls == len(drive.latencies_us) == 300 and drive.cpu_us > 0
        with pytest.raises(WrongDecision):
            driver.drive(echo_of(echo, stream(65), 64), Load(1, 1), 10)


def test_batches_of_few_tokens_have_them_in_a_table() -> None:
    """Requests are as the client's: eight tokens for 256 calls that all differ, or one in each item."""
    requests = server_home.Requests(tuple(b"token %03d" % number for number in range(server_home.TOKENS)))
    few, distinct, one = (
        pb.CheckBatchRequest.FromString(data)
        for (data,) in (requests.batch(256), requests.batch_of_distinct(256), requests.batch(1))
    )

    presented = [few.tokens[item.token_index - 1] for item in few.items]
    assert presented == [requests.tokens[number % 8] for number in range(256)] and len(few.tokens) == 8
    assert [item.token for item in distinct.items] == list(requests.tokens)
    assert [item.arguments for item in few.items] == [item.arguments for item in distinct.items]
    assert len({item.arguments for item in few.items}) == 256
    assert not any(item.token for item in few.items) and not distinct.tokens and not one.tokens


def test_every_row_has_its_series_and_its_floor() -> None:
    """A row is read from drives that are made, and its ratio is taken to another row that is too."""
    for reading in rows_table.READINGS.values():
        assert reading.series in rows_table.SPECS
        assert not reading.floor or reading.floor in rows_table.READINGS
    assert set(rows_table.READINGS) >= {spec.name for spec in rows_table.SPECS.values()}


def test_only_what_a_row_needs_is_driven() -> None:
    """Its series, that of its floor, and the closed loop whose rate an open loop is a share of."""

    def driven(only: str) -> set[str]:
        return {spec.name for spec in rows_table.needed(rows_table.wanted(only))}

    assert driven("service/check-tls") == {"service/check-tls", "floor/echo-tls"}
    assert driven("workers-2-cpu") == {"service/workers-2", "service/worker"}
    assert driven("open-25-cold") == {"service/check-open-25-cold", "service/check-alone", rows_table.PEAK}
    assert driven("end-overload") == {"service/end-overload", "service/end", "service/overload"}
    assert driven("no such row") == set()


def test_figures_are_for_a_decision_except_a_latency() -> None:
    """40 batches of 256 in 1,024 us are 0.1 us a decision; the latency is the batch's."""
    drive = Drive(calls=40, wall_us=1024.0, cpu_us=512.0, latencies_us=[3.0, 1.0, 2.0])

    assert rows_table.WALL.of(drive, 256) == pytest.approx(0.1)
    assert rows_table.RATE.of(drive, 256) == pytest.approx(1e7)
    assert rows_table.CPU.of(drive, 256) == pytest.approx(0.05)
    assert rows_table.PER_CORE.of(drive, 256) == pytest.approx(2e7)
    assert (rows_table.P50.of(drive, 256), rows_table.P99.of(drive, 256)) == (2.0, 3.0)


def test_a_run_without_h2load_says_so_in_its_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No server is started without h2load, and each row says why it has no figures."""

    def refuse(folder: Path) -> H2load:
        raise NotUsable(h2load.NOT_INSTALLED)

    monkeypatch.setattr(H2load, "prepare", refuse)
    monkeypatch.setattr(rows, "running_places", None)
    measured = list(rows.measurements(tmp_path, quick=True, only="service/check"))

    assert {each.missing for each in measured} == {h2load.NOT_INSTALLED}
    assert {(each.name, each.floor) for each in measured} <= rows.ROWS.items()


@pytest.mark.skipif(shutil.which("h2load") is None, reason=h2load.NOT_INSTALLED)
def test_a_run_without_openssl_says_so_in_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run without openssl has no figures over TLS and says why; the other rows have theirs."""
    monkeypatch.setattr(certificate, "make", lambda folder, name: None)
    monkeypatch.setattr(rows, "QUICK", (7, 1_000.0))
    names = ("service/check", "service/check-tls")
    monkeypatch.setattr(
        rows_table, "wanted", lambda only, quick: [rows_table.READINGS[name] for name in names]
    )
    with home_folder() as folder:
        plain, tls = rows.measurements(folder, quick=True)

    assert plain.unit == "calls/s"
    assert len(plain.rounds) == len(plain.floor_rounds) == 7 and plain.samples >= 7 * 200
    assert (tls.rounds, tls.missing) == ((), certificate.NO_OPENSSL)


@pytest.mark.skipif(shutil.which("h2load") is None, reason=h2load.NOT_INSTALLED)
def test_each_kind_of_row_has_its_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """TLS with client certificates, ends under load, cold tokens on a schedule, and Client.check."""
    monkeypatch.setattr(rows, "QUICK", (7, 1_000.0))
    names = (
        "service/check-tls-cpu-echo",
        "service/end-overload",
        "service/check-open-25-cold",
        "service/client-check",
        "service/check-cpu",
    )
    monkeypatch.setattr(
        rows_table, "wanted", lambda only, quick: [rows_table.READINGS[name] for name in names]
    )
    with home_folder() as folder:
        measured = {each.name: each for each in rows.measurements(folder, quick=True)}

    assert tuple(measured) == names
    for each in measured.values():
        assert each.missing or (len(each.rounds) == len(each.floor_rounds) == 7 and min(each.rounds) > 0)
    assert float(measured["service/end-overload"].extra["checks/s meanwhile"]) > 0
    assert float(measured["service/check-open-25-cold"].extra["refused"]) <= 0.01
