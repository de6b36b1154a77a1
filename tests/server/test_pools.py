from __future__ import annotations

import concurrent.futures
import threading
from collections.abc import Callable
from itertools import pairwise

import pytest

from sessauth.server.rpc.pool import POOL_NAMES, BoundedPool, PoolShare, blocking_section, open_pools
from sessauth.server.sections import LimitSettings
from tests.support.pool_calls import submit
from tests.support.service import wait_until


def test_a_pool_starts_threads_as_calls_need_them() -> None:
    """Calls one after the other share one thread; calls at once have one each, up to the pool's number."""
    pool = BoundedPool("test", 3, 8)

    def name() -> str:
        return threading.current_thread().name

    assert {submit(pool, name).result(10) for _ in range(5)} == {"sessauth-test_0"}
    together = threading.Barrier(3)
    held = [submit(pool, together.wait, 10) for _ in range(3)]
    assert sorted(task.result(10) for task in held) == [0, 1, 2]
    names = [submit(pool, name) for _ in range(20)]
    assert {task.result(10) for task in names} <= {f"sessauth-test_{number}" for number in range(3)}
    pool.shutdown()
    pool.join(10)


def test_calls_of_a_pool_run_in_the_order_they_came() -> None:
    """A pool of one thread is a queue."""
    pool = BoundedPool("test", 1, 100)
    order: list[int] = []
    tasks = [submit(pool, order.append, number) for number in range(50)]

    assert all(task.exception(10) is None for task in tasks)
    assert all(before < after for before, after in pairwise(order))
    pool.shutdown()
    pool.join(10)


def test_a_pool_that_is_shut_down_drops_what_waits() -> None:
    """Waiting calls never run, and give their places back; a call that runs is never cut off."""
    pool = BoundedPool("test", 1, 8)
    begun, release = threading.Event(), threading.Event()
    running = submit(pool, lambda: begun.set() or release.wait(30))
    assert begun.wait(10)
    waiting = [submit(pool, int) for _ in range(4)]

    pool.shutdown()
    release.set()

    assert running.result(10) is True
    pool.join(10)
    assert not any(task.done() for task in waiting)
    assert pool.in_flight == 0


def test_a_thread_that_can_not_be_started_costs_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without any thread the call is refused and takes no place; with one, that one does the work."""
    pool = BoundedPool("test", 2, 8)

    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        with pytest.raises(RuntimeError, match="new thread"):
            submit(pool, int)
    assert pool.in_flight == 0
    release = threading.Event()
    first = submit(pool, release.wait, 30)
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        second = submit(pool, int)
    release.set()
    assert (first.result(10), second.result(10)) == (True, 0)
    pool.shutdown()
    pool.join(10)


def test_a_spare_thread_helps_only_while_the_core_threads_are_held_up() -> None:
    """Calls that wait while none begins get spare threads, up to the pool's number; they end afterwards."""
    pool = BoundedPool("test", 3, 8, core_threads=1)
    begun, release = threading.Event(), threading.Event()
    held = [submit(pool, lambda: begun.set() or release.wait(30))]
    assert begun.wait(10)

    def name() -> str:
        return threading.current_thread().name

    waiting = [submit(pool, name) for _ in range(3)]
    pool.add_spare_thread()
    pool.add_spare_thread()
    assert {task.result(10) for task in waiting} == {"sessauth-test_1"}
    release.set()
    assert held[0].result(10) is True
    assert submit(pool, name).result(10) in ("sessauth-test_0", "sessauth-test_1")
    assert _soon(lambda: [thread.name for thread in pool._running] == ["sessauth-test_0"])
    assert {submit(pool, name).result(10) for _ in range(5)} == {"sessauth-test_0"}
    pool.shutdown()
    pool.join(10)


def test_a_pool_that_goes_on_or_is_empty_gets_no_spare_thread() -> None:
    """Looking at a pool that began calls since, or where none waits, starts nothing."""
    pool = BoundedPool("test", 3, 8, core_threads=1)
    pool.add_spare_thread()
    pool.add_spare_thread()
    assert pool._running == []
    begun, release = threading.Event(), threading.Event()
    held = submit(pool, lambda: begun.set() or release.wait(30))
    assert begun.wait(10)
    pool.add_spare_thread()
    pool.add_spare_thread()
    pool.add_spare_thread()
    assert len(pool._running) == 1
    waiting = submit(pool, int)
    pool.add_spare_thread()
    assert waiting.result(10) == 0
    release.set()
    assert held.result(10) is True
    pool.shutdown()
    pool.join(10)


def test_never_more_threads_than_the_pool_has() -> None:
    """Core and spare threads together are at most the pool's number, however long it is held up."""
    pool = BoundedPool("test", 3, 8, core_threads=1)
    release = threading.Event()
    tasks = [submit(pool, release.wait, 30) for _ in range(6)]
    for _ in range(20):
        pool.add_spare_thread()
    assert _soon(lambda: len(pool._running) == 3)
    for _ in range(20):
        pool.add_spare_thread()
    assert len(pool._running) == 3
    release.set()
    assert all(task.result(10) is True for task in tasks)
    pool.shutdown()
    pool.join(10)
    assert (pool.in_flight, pool._running[1:]) == (0, [])


def test_one_principal_has_at_most_half_of_a_pool() -> None:
    """A part that is full takes no more; another has the other half; places are given back."""
    pool = BoundedPool("test", threads=1, places=7)
    first, second = PoolShare(pool), PoolShare(pool)
    release = threading.Event()
    held = [submit(pool, release.wait, 30, share=first) for _ in range(4)]

    assert (first.full, second.full, pool.full) == (True, False, False)
    held += [submit(pool, release.wait, 30, share=second) for _ in range(4)]
    assert (second.full, pool.full, PoolShare(pool).full) == (True, True, True)
    release.set()
    assert all(task.result(10) for task in held)
    assert (first.in_flight, second.in_flight, pool.in_flight, first.full) == (0, 0, 0, False)
    pool.shutdown()
    pool.join(10)


def test_a_pool_is_stuck_only_while_calls_wait_and_none_begins() -> None:
    """Idle and going on it is not; with a call behind a thread that does not come back it is."""
    pool = BoundedPool("test", threads=1, places=8, compensating_threads=1)
    assert pool.stuck_for() == 0.0
    begun, release = threading.Event(), threading.Event()
    held = submit(pool, lambda: begun.set() or release.wait(30))
    assert begun.wait(10)
    assert pool.stuck_for() == 0.0
    behind = submit(pool, int)
    assert _soon(lambda: pool.stuck_for() > 0.05)
    release.set()
    assert (held.result(10), behind.result(10)) == (True, 0)
    assert pool.stuck_for() == 0.0
    pool.shutdown()
    pool.join(10)


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

    waiting = [submit(pool, wait) for _ in range(6)]
    others = [submit(pool, int, "7") for _ in range(50)]

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

    waiting = [submit(pool, wait) for _ in range(5)]
    last = submit(pool, int, "7")

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

    assert submit(pool, wait).result(10) == 1
    pool.shutdown()


def test_every_pool_has_metrics() -> None:
    """Metrics and their alarms cover all pools."""
    pools = open_pools(LimitSettings())
    pools.close()

    assert sorted(POOL_NAMES) == sorted(pools.by_name)
