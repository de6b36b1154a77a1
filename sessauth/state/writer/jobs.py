"""What waits for the writer thread: jobs, and the bounded queue between callers and the thread."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import lmdb

from ...errors import SessauthError, StateError, StateUnusable
from .. import layout
from .group import Group

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Job(Generic[T]):
    """One piece of work inside a group, and the future that tells its caller.

    ``protective``: only takes authority away, so it is written even when there is hardly room. ``alone``:
    has a commit of its own. ``braked``: runs even while the brake is engaged.
    """

    run: Callable[[Group], T]
    size: int
    protective: bool = False
    alone: bool = False
    braked: bool = False
    future: Future[T] = field(default_factory=Future)
    answer: T | None = None
    error: BaseException | None = None

    def judge(self, group: Group) -> None:
        """Run it and keep what it returns or raises, until the group is durable."""
        self.answer, self.error = None, None
        try:
            self.answer = self.run(group)
        except (lmdb.Error, StateUnusable):
            raise
        except SessauthError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - one bad change must not stop the others
            # A change is judged before anything of it is written, so the rest of the group stands.
            _log.exception("a job of the writer failed")
            self.error = StateError(
                f"nothing was written: {type(error).__name__} while the change was judged"
            )

    def resolve(self) -> None:
        """Tell the caller."""
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.answer)  # type: ignore[arg-type]

    def fail(self, error: BaseException) -> None:
        """Tell the caller that it did not happen, or that nobody knows."""
        self.future.set_exception(error)


class JobQueue:
    """First in, first out; many callers, one taker."""

    def __init__(self, group_bytes: int) -> None:
        """Bound a group to ``group_bytes`` of changes (and to GROUP_CHANGES of them)."""
        self._group_bytes = group_bytes
        self._jobs: deque[Job[object]] = deque()
        self._changed = threading.Condition()
        self._closed = False

    def add(self, job: Job[T]) -> Future[T]:
        """Queue a job; raises StateError if the queue is closed or full."""
        with self._changed:
            if self._closed:
                raise StateError("the writer is closed")
            most = layout.MAX_QUEUE if job.protective else layout.QUEUE_FOR_ALL
            if len(self._jobs) >= most:
                raise StateError(f"{most} changes wait for the disk already; try again later")
            self._jobs.append(job)  # type: ignore[arg-type]
            self._changed.notify()
        return job.future

    def take(self) -> list[Job[object]]:
        """Wait for work and return the next group's; empty once closed and drained."""
        with self._changed:
            while True:
                while not self._jobs and not self._closed:
                    self._changed.wait()
                group = self._next_group()
                if group or (not self._jobs and self._closed):
                    return group

    def _next_group(self) -> list[Job[object]]:
        group: list[Job[object]] = []
        size = 0
        while self._jobs and len(group) < layout.GROUP_CHANGES:
            head = self._jobs[0]
            if group and (head.alone or group[0].alone or size + head.size > self._group_bytes):
                break
            self._jobs.popleft()
            # A caller that gave up before its turn is not served.
            if head.future.set_running_or_notify_cancel():
                group.append(head)
                size += head.size
        return group

    @property
    def waiting(self) -> int:
        """How many jobs wait."""
        return len(self._jobs)

    def close(self) -> None:
        """Take no more jobs; those that wait are still done."""
        with self._changed:
            self._closed = True
            self._changed.notify()
