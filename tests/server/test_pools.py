from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError
from itertools import pairwise

import pytest

from sessauth.server.rpc.pool import (
    POOL_NAMES,
    BoundedPool,
    PoolShare,
    PoolTask,
    blocking_section,
    open_pools,
)
from sessauth.server.sections import LimitSettings
from tests.support.service import wait_until


def _task(function: object, *args: object) -> tuple[PoolTask, list[str]]:
    """A task that is in no pool, and its recorded callbacks."""
    events: list[str] = []
    return PoolTask(lambda: events.append("released"), function, args), events  # type: ignore[arg-type]


def test_a_task_calls_back_once_after_it_was_released() -> None:
    """Callbacks run once each with the task; one that is added later runs at once."""
    task, events = _task(lambda a, b: a + b, 1, 2)
    task.add_done_callback(lambda ended: events.append(f"first {ended.result(0)}"))

    task.run()
    task.add_done_callback(lambda ended: events.append("late"))
    task.run()

    assert events == ["released", "first 3", "late"]


def test_what_a_call_raised_is_for_who_asks() -> None:
    """An exception of the call is returned or raised to the asker, and the thread that ran it goes on."""
    task, _ = _task(lambda: 1 / 0)
    task.run()

    assert isinstance(task.exception(0), ZeroDivisionError)
    with pytest.raises(ZeroDivisionError):
        task.result(0)


def test_a_cancelled_call_never_runs() -> None:
    """Cancelling wins only before the call began; then it is released and asking raises."""
    ran: list[int] = []
    task, events = _task(ran.append, 1)

    assert task.cancel()
    assert not task.cancel()
    task.run()

    assert (ran, events) == ([], ["released"])
    with pytest.raises(CancelledError):
        task.result(0)
    begun, _ = _task(ran.append, 2)
    begun.run()
    assert (begun.cancel(), ran) == (False, [2])


def test_waiting_for_a_result_ends_with_its_timeout() -> None:
    """A call that has not ended in time raises TimeoutError to who waits, and may end later."""
    task, _ = _task(lambda: 7)

    with pytest.raises(concurrent.futures.TimeoutError):
        task.result(0.01)
    task.run()

    assert task.result(0) == 7


def test_running_and_cancelling_at_once_one_of_them_wins() -> None:
    """Exactly one of two threads that run and cancel a task succeeds; its callbacks run once."""
    for _ in range(300):
        ran: list[int] = []
        events: list[str] = []
        task, released = _task(ran.append, 1)
        start = threading.Barrier(3)

        def run(task: PoolTask = task, start: threading.Barrier = start) -> None:
            start.wait(10)
            task.run()

        def listen(
            task: PoolTask = task, start: threading.Barrier = start, events: list[str] = events
        ) -> None:
            start.wait(10)
            for number in range(3):
                task.add_done_callback(lambda _, number=number: events.append(str(number)))  # type: ignore[misc]

        threads = [threading.Thread(target=run), threading.Thread(target=listen)]
        for thread in threads:
            thread.start()
        start.wait(10)
        cancelled = task.cancel()
        for thread in threads:
            thread.join(10)

        assert len(ran) == (not cancelled)
        assert (released, sorted(events)) == (["released"], ["0", "1", "2"])


def test_a_pool_starts_threads_as_calls_need_them() -> None:
    """Calls one after the other share one thread; calls at once have one each, up to the pool's number."""
    pool = BoundedPool("test", 3, 8)

    def name() -> str:
        return threading.current_thread().name

    assert {pool.submit(name).result(10) for _ in range(5)} == {"sessauth-test_0"}
    together = threading.Barrier(3)
    held = [pool.submit(together.wait, 10) for _ in range(3)]
    assert sorted(task.result(10) for task in held) == [0, 1, 2]
    names = [pool.submit(name) for _ in range(20)]
    assert {task.result(10) for task in names} <= {f"sessauth-test_{number}" for number in range(3)}
    pool.shutdown(wait=True)


def test_calls_of_a_pool_run_in_the_order_they_came() -> None:
    """A pool of one thread is a queue."""
    pool = BoundedPool("test", 1, 100)
    order: list[int] = []
    tasks = [pool.submit(order.append, number) for number in range(50)]

    assert all(task.exception(10) is None for task in tasks)
    assert all(before < after for before, after in pairwise(order))
    pool.shutdown(wait=True)


def test_a_pool_that_is_shut_down_drops_or_runs_what_waits() -> None:
    """Waiting calls are cancelled on request, else they run; a call that runs is never cut off."""
    for drop in (True, False):
        pool = BoundedPool("test", 1, 8)
        begun, release = threading.Event(), threading.Event()
        running = pool.submit(lambda begun=begun, release=release: begun.set() or release.wait(30))
        assert begun.wait(10)
        waiting = [pool.submit(int) for _ in range(4)]

        pool.shutdown(wait=False, cancel_waiting=drop)
        release.set()

        assert running.result(10) is True
        errors = [task.exception(10) for task in waiting]
        assert [isinstance(error, CancelledError) for error in errors] == [drop] * 4
        pool.join(10)
        assert pool.in_flight == 0


def test_a_thread_that_can_not_be_started_costs_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any thread the call is refused and takes no place; with one, that one does the work."""
    pool = BoundedPool("test", 2, 8)

    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="new thread"):
            pool.submit(int)
    assert pool.in_flight == 0
    release = threading.Event()
    first = pool.submit(release.wait, 30)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        second = pool.submit(int)
    release.set()
    assert (first.result(10), second.result(10)) == (True, 0)
    pool.shutdown(wait=True)


def test_a_spare_thread_helps_only_while_the_core_threads_are_held_up() -> None:
    """Calls that wait while none begins get spare threads, up to the pool's number; they end afterwards."""
    pool = BoundedPool("test", 3, 8, core_threads=1)
    begun, release = threading.Event(), threading.Event()
    held = [pool.submit(lambda: begun.set() or release.wait(30))]
    assert begun.wait(10)

    def name() -> str:
        return threading.current_thread().name

    waiting = [pool.submit(name) for _ in range(3)]
    pool.add_spare_thread()
    pool.add_spare_thread()
    assert {task.result(10) for task in waiting} == {"sessauth-test_1"}
    release.set()
    assert held[0].result(10) is True
    assert pool.submit(name).result(10) in ("sessauth-test_0", "sessauth-test_1")
    assert _soon(lambda: [thread.name for thread in pool._running] == ["sessauth-test_0"])
    assert {pool.submit(name).result(10) for _ in range(5)} == {"sessauth-test_0"}
    pool.shutdown(wait=True)


def test_a_pool_that_goes_on_or_is_empty_gets_no_spare_thread() -> None:
    """Looking at a pool that began calls since, or where none waits, starts nothing."""
    pool = BoundedPool("test", 3, 8, core_threads=1)
    pool.add_spare_thread()
    pool.add_spare_thread()
    assert pool._running == []
    begun, release = threading.Event(), threading.Event()
    held = pool.submit(lambda: begun.set() or release.wait(30))
    assert begun.wait(10)
    pool.add_spare_thread()
    pool.add_spare_thread()
    pool.add_spare_thread()
    assert len(pool._running) == 1
    waiting = pool.submit(int)
    pool.add_spare_thread()
    assert waiting.result(10) == 0
    release.set()
    assert held.result(10) is True
    pool.shutdown(wait=True)


def test_never_more_threads_than_the_pool_has() -> None:
    """Core and spare threads together are at most the pool's number, however long it is held up."""
    pool = BoundedPool("test", 3, 8, core_threads=1)
    release = threading.Event()
    tasks = [pool.submit(release.wait, 30) for _ in range(6)]
    for _ in range(20):
        pool.add_spare_thread()
    assert _soon(lambda: len(pool._running) == 3)
    for _ in range(20):
        pool.add_spare_thread()
    assert len(pool._running) == 3
    release.set()
    assert all(task.result(10) is True for task in tasks)
    pool.shutdown(wait=True)
    assert (pool.in_flight, pool._running[1:]) == (0, [])


def test_one_principal_has_at_most_half_of_a_pool() -> None:
    """A part that is full takes no more; another has the other half; places are given back."""
    pool = BoundedPool("test", threads=1, places=7)
    first, second = PoolShare(pool), PoolShare(pool)
    release = threading.Event()
    held = [pool.submit_for(first, release.wait, 30) for _ in range(4)]

    assert (first.full, second.full, pool.full) == (True, False, False)
    held += [pool.submit_for(second, release.wait, 30) for _ in range(4)]
    assert (second.full, pool.full, PoolShare(pool).full) == (True, True, True)
    release.set()
    assert all(task.result(10) for task in held)
    assert (first.in_flight, second.in_flight, pool.in_flight, first.full) == (0, 0, 0, False)
    pool.shutdown(wait=True)


def test_a_pool_is_stuck_only_while_calls_wait_and_none_begins() -> None:
    """Idle and going on it is not; with a call behind a thread that does not come back it is."""
    pool = BoundedPool("test", threads=1, places=8, compensating_threads=1)
    assert pool.stuck_for() == 0.0
    begun, release = threading.Event(), threading.Event()
    held = pool.submit(lambda: begun.set() or release.wait(30))
    assert begun.wait(10)
    assert pool.stuck_for() == 0.0
    behind = pool.submit(int)
    assert _soon(lambda: pool.stuck_for() > 0.05)
    release.set()
    assert (held.result(10), behind.result(10)) == (True, 0)
    assert pool.stuck_for() == 0.0
    pool.shutdown(wait=True)


def _soon(condition: Callable[[], bool]) -> bool:
    return wait_until(condition, 10.0)


def test_blocked_calls_keep_no_thread_from_the_others() -> None:
    """50 calls behind blocked core threads run; compensating threads end when all go on."""
    pool = BoundedPool("test", threads=2, places=500, core_threads=2, compensating_threads=8)
    go_on, inside = threading.Event(), threading.Semaphore(0)

    def wait() -> None:
        with blocking_section():
            inside.release()
            go_on.wait(20)

    waiting = [pool.submit(wait) for _ in range(6)]
    others = [pool.submit(int, "7") for _ in range(50)]

    assert [other.result(10) for other in others] == [7] * 50
    for _ in range(6):
        assert inside.acquire(timeout=10)
    assert len(pool._running) <= 2 + 8
    go_on.set()
    for task in waiting:
        task.result(10)
    assert wait_until(lambda: len(pool._running) == 2 and pool.in_flight == 0)
    pool.shutdown()


def test_no_more_compensating_threads_than_the_pool_has() -> None:
    """Beyond its compensating threads a pool's calls wait for a thread, and run once one goes on."""
    pool = BoundedPool("test", threads=1, places=50, compensating_threads=2)
    go_on = threading.Event()

    def wait() -> None:
        with blocking_section():
            go_on.wait(20)

    waiting = [pool.submit(wait) for _ in range(5)]
    last = pool.submit(int, "7")

    assert wait_until(lambda: len(pool._running) == 3)
    with pytest.raises(concurrent.futures.TimeoutError):
        last.result(0.2)
    go_on.set()
    assert last.result(10) == 7
    for task in waiting:
        task.result(10)
    pool.shutdown()


def test_a_blocking_section_outside_of_a_pool_changes_nothing() -> None:
    """A thread of no pool, and a pool without compensating threads, just wait."""
    with blocking_section():
        pass
    pool = BoundedPool("test", threads=1, places=1)

    def wait() -> int:
        with blocking_section():
            return len(pool._running)

    assert pool.submit(wait).result(10) == 1
    pool.shutdown()


def test_every_pool_has_metrics() -> None:
    """Metrics and their alarms cover all pools."""
    pools = open_pools(LimitSettings())
    pools.close()

    assert sorted(POOL_NAMES) == sorted(pools.by_name)
