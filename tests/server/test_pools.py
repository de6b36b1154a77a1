from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from itertools import pairwise

import pytest

from sessauth.server.config.config import LimitSettings
from sessauth.server.rpc.pool import BoundedPool, PoolShare, aside
from sessauth.server.rpc.pool_task import PoolTask
from sessauth.server.rpc.pools import LANE_NAMES, open_lanes
from tests.support.service import wait_until


def _place(function: object, *args: object) -> tuple[PoolTask, list[str]]:
    """A place that is in no lane, and what was told of it."""
    told: list[str] = []
    return PoolTask(lambda: told.append("released"), function, args), told  # type: ignore[arg-type]


def test_a_place_tells_its_end_once_after_it_was_given_back() -> None:
    """Callbacks run once each with the place; one that is added later runs at once."""
    place, told = _place(lambda a, b: a + b, 1, 2)
    place.add_done_callback(lambda ended: told.append(f"first {ended.result(0)}"))

    place.run()
    place.add_done_callback(lambda ended: told.append("late"))
    place.run()

    assert told == ["released", "first 3", "late"]


def test_what_a_call_raised_is_for_who_asks() -> None:
    """An exception of the call is returned or raised to the asker, and the thread that ran it goes on."""
    place, _ = _place(lambda: 1 / 0)
    place.run()

    assert isinstance(place.exception(0), ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        place.result(0)


def test_a_cancelled_call_never_runs() -> None:
    """Cancelling wins only before the call began; then its place is given back and asking raises."""
    ran: list[int] = []
    place, told = _place(ran.append, 1)

    assert place.cancel()
    assert not place.cancel()
    place.run()

    assert (ran, told) == ([], ["released"])
    with pytest.raises(CancelledError):
        place.result(0)
    begun, _ = _place(ran.append, 2)
    begun.run()
    assert (begun.cancel(), ran) == (False, [2])


def test_waiting_for_a_result_ends_with_its_timeout() -> None:
    """A call that has not ended in time raises TimeoutError to who waits, and may end later."""
    place, _ = _place(lambda: 7)

    with pytest.raises(concurrent.futures.TimeoutError):
        place.result(0.01)
    place.run()

    assert place.result(0) == 7


def test_running_and_cancelling_at_once_one_of_them_wins() -> None:
    """Of two threads that run and cancel the same place exactly one does, and its end is told once."""
    for _ in range(300):
        ran: list[int] = []
        told: list[str] = []
        place, released = _place(ran.append, 1)
        start = threading.Barrier(3)

        def run(place: PoolTask = place, start: threading.Barrier = start) -> None:
            start.wait(10)
            place.run()

        def listen(place: PoolTask = place, start: threading.Barrier = start, told: list[str] = told) -> None:
            start.wait(10)
            for number in range(3):
                place.add_done_callback(lambda _, number=number: told.append(str(number)))  # type: ignore[misc]

        threads = [threading.Thread(target=run), threading.Thread(target=listen)]
        for thread in threads:
            thread.start()
        start.wait(10)
        cancelled = place.cancel()
        for thread in threads:
            thread.join(10)

        assert len(ran) == (not cancelled)
        assert (released, sorted(told)) == (["released"], ["0", "1", "2"])


def test_a_lane_starts_threads_as_calls_need_them() -> None:
    """Calls one after the other share one thread; calls at once have one each, up to the lane's number."""
    lane = BoundedPool("test", 3, 8)

    def name() -> str:
        return threading.current_thread().name

    assert {lane.submit(name).result(10) for _ in range(5)} == {"sessauth-test_0"}
    together = threading.Barrier(3)
    held = [lane.submit(together.wait, 10) for _ in range(3)]
    assert sorted(place.result(10) for place in held) == [0, 1, 2]
    names = [lane.submit(name) for _ in range(20)]
    assert {place.result(10) for place in names} <= {f"sessauth-test_{number}" for number in range(3)}
    lane.shutdown(wait=True)


def test_calls_of_a_lane_run_in_the_order_they_came() -> None:
    """A lane of one thread is a queue."""
    lane = BoundedPool("test", 1, 100)
    order: list[int] = []
    places = [lane.submit(order.append, number) for number in range(50)]

    assert all(place.exception(10) is None for place in places)
    assert all(before < after for before, after in pairwise(order))
    lane.shutdown(wait=True)


def test_a_lane_that_is_shut_down_drops_or_runs_what_waits() -> None:
    """Waiting calls are cancelled on request, else they run; a call that runs is never cut off."""
    for drop in (True, False):
        lane = BoundedPool("test", 1, 8)
        begun, release = threading.Event(), threading.Event()
        running = lane.submit(lambda begun=begun, release=release: begun.set() or release.wait(30))
        assert begun.wait(10)
        waiting = [lane.submit(int) for _ in range(4)]

        lane.shutdown(wait=False, cancel_waiting=drop)
        release.set()

        assert running.result(10) is True
        errors = [place.exception(10) for place in waiting]
        assert [isinstance(error, CancelledError) for error in errors] == [drop] * 4
        lane.join(10)
        assert lane.held == 0


def test_a_thread_that_can_not_be_started_costs_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any thread the call is refused and takes no place; with one, that one does the work."""
    lane = BoundedPool("test", 2, 8)

    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="new thread"):
            lane.submit(int)
    assert lane.held == 0
    release = threading.Event()
    first = lane.submit(release.wait, 30)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        second = lane.submit(int)
    release.set()
    assert (first.result(10), second.result(10)) == (True, 0)
    lane.shutdown(wait=True)


def test_a_spare_thread_helps_only_while_the_steady_ones_are_held_up() -> None:
    """Calls that wait while none begins get spare threads, up to the lane's number; they end afterwards."""
    lane = BoundedPool("test", 3, 8, steady=1)
    begun, release = threading.Event(), threading.Event()
    held = [lane.submit(lambda: begun.set() or release.wait(30))]
    assert begun.wait(10)

    def name() -> str:
        return threading.current_thread().name

    waiting = [lane.submit(name) for _ in range(3)]
    lane.relieve()
    lane.relieve()
    assert {place.result(10) for place in waiting} == {"sessauth-test_1"}
    release.set()
    assert held[0].result(10) is True
    assert lane.submit(name).result(10) in ("sessauth-test_0", "sessauth-test_1")
    assert _soon(lambda: [thread.name for thread in lane._running] == ["sessauth-test_0"])
    assert {lane.submit(name).result(10) for _ in range(5)} == {"sessauth-test_0"}
    lane.shutdown(wait=True)


def test_a_lane_that_goes_on_or_is_empty_gets_no_spare_thread() -> None:
    """Looking at a lane that began calls since, or where none waits, starts nothing."""
    lane = BoundedPool("test", 3, 8, steady=1)
    lane.relieve()
    lane.relieve()
    assert lane._running == []
    begun, release = threading.Event(), threading.Event()
    held = lane.submit(lambda: begun.set() or release.wait(30))
    assert begun.wait(10)
    lane.relieve()
    lane.relieve()
    lane.relieve()
    assert len(lane._running) == 1
    waiting = lane.submit(int)
    lane.relieve()
    assert waiting.result(10) == 0
    release.set()
    assert held.result(10) is True
    lane.shutdown(wait=True)


def test_never_more_threads_than_the_lane_has() -> None:
    """Steady and spare threads together are at most the lane's number, however long it is held up."""
    lane = BoundedPool("test", 3, 8, steady=1)
    release = threading.Event()
    places = [lane.submit(release.wait, 30) for _ in range(6)]
    for _ in range(20):
        lane.relieve()
    assert _soon(lambda: len(lane._running) == 3)
    for _ in range(20):
        lane.relieve()
    assert len(lane._running) == 3
    release.set()
    assert all(place.result(10) is True for place in places)
    lane.shutdown(wait=True)
    assert (lane.held, lane._running[1:]) == (0, [])


def test_one_principal_has_at_most_half_of_a_lane() -> None:
    """A part that is full takes no more; another has the other half; places are given back."""
    lane = BoundedPool("test", threads=1, places=7)
    first, second = PoolShare(lane), PoolShare(lane)
    release = threading.Event()
    held = [lane.submit_for(first, release.wait, 30) for _ in range(4)]

    assert (first.full, second.full, lane.full) == (True, False, False)
    held += [lane.submit_for(second, release.wait, 30) for _ in range(4)]
    assert (second.full, lane.full, PoolShare(lane).full) == (True, True, True)
    release.set()
    assert all(place.result(10) for place in held)
    assert (first.held, second.held, lane.held, first.full) == (0, 0, 0, False)
    lane.shutdown(wait=True)


def test_a_lane_is_stuck_only_while_calls_wait_and_none_begins() -> None:
    """Idle and going on it is not; with a call behind a thread that does not come back it is."""
    lane = BoundedPool("test", threads=1, places=8, stand_ins=1)
    assert lane.stuck_for() == 0.0
    begun, release = threading.Event(), threading.Event()
    held = lane.submit(lambda: begun.set() or release.wait(30))
    assert begun.wait(10)
    assert lane.stuck_for() == 0.0
    behind = lane.submit(int)
    assert _soon(lambda: lane.stuck_for() > 0.05)
    release.set()
    assert (held.result(10), behind.result(10)) == (True, 0)
    assert lane.stuck_for() == 0.0
    lane.shutdown(wait=True)


def _soon(condition: Callable[[], bool]) -> bool:
    return wait_until(condition, 10.0)


def test_calls_that_step_aside_keep_no_thread_from_the_others() -> None:
    """With all steady threads waiting aside, 50 calls behind them run; the stand-ins leave when all go on."""
    lane = BoundedPool("test", threads=2, places=500, steady=2, stand_ins=8)
    go_on, inside = threading.Event(), threading.Semaphore(0)

    def wait() -> None:
        with aside():
            inside.release()
            go_on.wait(20)

    waiting = [lane.submit(wait) for _ in range(6)]
    others = [lane.submit(int, "7") for _ in range(50)]

    assert [other.result(10) for other in others] == [7] * 50
    for _ in range(6):
        assert inside.acquire(timeout=10)
    assert len(lane._running) <= 2 + 8
    go_on.set()
    for place in waiting:
        place.result(10)
    assert wait_until(lambda: len(lane._running) == 2 and lane.held == 0)
    lane.shutdown()


def test_no_more_stand_ins_than_the_lane_has() -> None:
    """Beyond its stand-ins a lane's calls wait for a thread, and run once one goes on."""
    lane = BoundedPool("test", threads=1, places=50, stand_ins=2)
    go_on = threading.Event()

    def wait() -> None:
        with aside():
            go_on.wait(20)

    waiting = [lane.submit(wait) for _ in range(5)]
    last = lane.submit(int, "7")

    assert wait_until(lambda: len(lane._running) == 3)
    with pytest.raises(concurrent.futures.TimeoutError):
        last.result(0.2)
    go_on.set()
    assert last.result(10) == 7
    for place in waiting:
        place.result(10)
    lane.shutdown()


def test_outside_of_a_lane_nothing_steps_aside() -> None:
    """A thread of nobody's, and a lane without stand-ins, just wait."""
    with aside():
        pass
    lane = BoundedPool("test", threads=1, places=1)

    def wait() -> int:
        with aside():
            return len(lane._running)

    assert lane.submit(wait).result(10) == 1
    lane.shutdown()


def test_every_lane_that_holds_calls_is_told_of() -> None:
    """Metrics and their alarms have all lanes."""
    lanes = open_lanes(LimitSettings())
    lanes.close()

    assert sorted(LANE_NAMES) == sorted(lanes.by_name)
