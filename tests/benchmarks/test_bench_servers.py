"""The servers and clients of a run: cores, workers, echoes, Cerbos, and calls one after the other."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import floors
from benchmarks.service import cerbos, native_echo, rows_table, servers
from benchmarks.service.clients import ClientChecks, Stub
from benchmarks.service.driver import answer
from benchmarks.service.grpcio_echo import unary
from benchmarks.service.load_spec import Call, Load, Target
from benchmarks.service.processes import PYTHON, Server, on_cores, running
from benchmarks.service.round import service_call
from benchmarks.service.servers import Cores
from benchmarks.workloads import WrongDecision
from sessauth.v1 import authorization_service_pb2 as pb
from tests.support.service import home_folder


def nothing(_: Sequence[bytes]) -> None:
    """Accept every answer."""


def echo_of(echo: Server, method: str) -> Call:
    """A call of the echo."""
    return Call(echo, (Target(echo.target),), method, (bytes(200),), nothing)


@pytest.mark.parametrize(
    ("available", "generator", "server", "workers"),
    [
        ({3}, {3}, {3}, {3}),
        ({0, 1}, {0}, {1}, {0, 1}),
        ({0, 1, 2}, {0}, {2}, {1, 2}),
        ({2, 3, 4, 5, 6}, {2, 3, 4}, {6}, {5, 6}),
    ],
)
def test_the_server_has_a_core_without_the_generator(
    available: set[int], generator: set[int], server: set[int], workers: set[int]
) -> None:
    """Each has one if the machine has two; each of two workers too if it has three."""
    assert Cores.of(available) == Cores(frozenset(generator), frozenset(server), frozenset(workers))


def test_a_block_on_some_cores_leaves_this_thread_on_its_own() -> None:
    """A process that is started within the block has no other cores."""
    before = os.sched_getaffinity(0)
    core = min(before)
    with on_cores({core}):
        assert os.sched_getaffinity(0) == {core}
    assert os.sched_getaffinity(0) == before


def test_the_servers_of_a_run_end_with_it() -> None:
    """Two workers are found by their parent, each place can be called, and no process is left."""
    wanted = {rows_table.TWO, rows_table.ECHO}
    cores = Cores.of(os.sched_getaffinity(0))
    with home_folder() as folder, servers.running_places(folder, wanted, cores) as places:
        both, control = places.found[rows_table.TWO], places.found[rows_table.CONTROL]
        assert len(both.targets) == len(set(both.server.pids)) == 2
        assert both.server.cpu_us() > 0 and not set(places.missing) & wanted
        method, requests = "/sessauth.v1.AuthorizationService/Check", both.requests.checks()
        for target in both.targets:
            assert answer(Call(both.server, (target,), method, requests, nothing, both.credential))
        echo = places.found[rows_table.ECHO].server
        assert os.sched_getaffinity(echo.pids[0]) == cores.server
        pids = [*both.server.pids, *control.server.pids, *echo.pids]

    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def test_clients_in_python_hold_every_answer() -> None:
    """A stub and Client.check time each call; a denial stops the run."""
    cores = Cores.of(os.sched_getaffinity(0))
    with (
        home_folder() as folder,
        servers.running_places(folder, {rows_table.WORKER}, cores) as places,
        Stub() as stub,
        ClientChecks() as client,
    ):
        place = places.found[rows_table.WORKER]
        call = service_call(rows_table.SPECS["service/check-stub"], place)
        item = pb.CheckRequest.FromString(call.requests[0]).item
        item.action = b"write"
        denied = replace(call, requests=(pb.CheckRequest(item=item).SerializeToString(),))
        for driver in (stub, client):
            drive = driver.drive(call, Load(1, 1), 300)
            assert drive.calls == len(drive.latencies_us) == 300 and drive.cpu_us > 0
            with pytest.raises(WrongDecision):
                driver.drive(denied, Load(1, 1), 1)
        fresh = places.cold_tokens().checks(20)
        assert len({pb.CheckRequest.FromString(each).item.token for each in fresh}) == 20
        for each in fresh:
            assert answer(replace(call, requests=(each,)))


def test_the_native_echo_answers_with_and_without_a_thread() -> None:
    """A call whose message comes late is no direct one, and has the same answer."""
    with home_folder() as folder:
        floors.compiled(native_echo.SOURCE, folder)
        path = folder / "echo.sock"
        command = [*PYTHON, "-m", "benchmarks.service.native_echo", "--module", str(folder)]
        with running([*command, "--socket", str(path)], f"unix:{path}", folder / "echo.log") as server:
            call = echo_of(server, unary(64))
            assert len(answer(call)) == 64
            assert len(answer(replace(call, requests=(bytes(200_000),)))) == 64


def test_a_question_to_cerbos_is_a_message_of_protobuf() -> None:
    """Fields with their numbers and lengths, and an answer that must allow."""
    assert cerbos.field(1, b"abc") == b"\x0a\x03abc"
    assert cerbos.field(2, bytes(300))[:3] == b"\x12\xac\x02"
    cerbos.require_allowed([b"\x0a\x04read\x10\x01"])
    with pytest.raises(WrongDecision):
        cerbos.require_allowed([b"\x0a\x04read\x10\x02"])


def test_cerbos_allows_the_page_of_the_rule_and_no_other(tmp_path: Path) -> None:
    """Both conditions decide: the eleventh page is denied."""
    program = cerbos.program()
    if program is None:
        pytest.skip(cerbos.NOT_INSTALLED)
    with home_folder() as folder:
        options, address = cerbos.arguments(folder / "cerbos")
        with running([str(program), *options], address, folder / "cerbos.log") as server:
            call = Call(
                server, (Target(address),), cerbos.METHOD, (cerbos.request(10),), cerbos.require_allowed
            )
            assert answer(call)
            with pytest.raises(WrongDecision):
                answer(replace(call, requests=(cerbos.request(11),)))
