"""Jobs of the writer thread, and the bounded queue between callers and the thread."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import lmdb

from ...errors import RecordRefused, SessauthError, StateError, StateUnusable
from .. import layout
from .group import Group

T = TypeVar("T")
_log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Job(Generic[T]):
    """One piece of work inside a group, and the future of its result.

    ``size`` is about the bytes that it writes. If it ``only_removes_authority`` (or frees space), it is
    written even above the 85 % mark. An ``alone`` one has a commit of its own.
    """

    work: Callable[[Group], T]
    size: int
    only_removes_authority: bool = False
    alone: bool = False
    runs_while_braked: bool = False
    future: Future[T] = field(default_factory=Future)
    answer: T | None = None
    error: BaseException | None = None

    def execute(self, group: Group) -> None:
        """Run the work and store its result or error until the group is durable."""
        self.answer, self.error = None, None
        try:
            self.answer = self.work(group)
        except (lmdb.Error, StateUnusable, RecordRefused):
            raise
        except SessauthError as error:
            self.error = error
        except Exception as error:  # noqa: BLE001 - one bad change must not stop the others
            # A change is applied before anything of it is written, so the rest of the group is unaffected.
            _log.exception("a job of the writer failed")
            self.error = StateError(
                f"nothing was written: {type(error).__name__} while the change was evaluated"
            )

    def resolve(self) -> None:
        """Set the future by the stored result or error."""
        if self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.answer)  # type: ignore[arg-type]

    def fail(self, error: BaseException) -> None:
        """Set the future's exception."""
        self.future.set_exception(error)


class JobQueue:
    """A first-in, first-out queue with many producers and one consumer."""

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
            most = layout.MAX_QUEUE if job.only_removes_authority else layout.QUEUE_FOR_ALL
            if len(self._jobs) >= most:
                raise StateError(f"{most} changes wait for the disk already; try again later")
            self._jobs.append(job)  # type: ignore[arg-type]
            self._changed.notify()
        return job.future

    def next_group(self) -> list[Job[object]]:
        """Wait for work and return the next group's; empty once closed and drained."""
        with self._changed:
            while True:
                while not self._jobs and not self._closed:
                    self._changed.wait()
                group = self._form_group()
                if group or (not self._jobs and self._closed):
                    return group

    def _form_group(self) -> list[Job[object]]:
        group: list[Job[object]] = []
        size = 0
        while self._jobs and len(group) < layout.GROUP_CHANGES:
            head = self._jobs[0]
            if group and (head.alone or group[0].alone or size + head.size > self._group_bytes):
                break
            self._jobs.popleft()
            # Drops a job that its caller cancelled.
            if head.future.set_running_or_notify_cancel():
                group.append(head)
                size += head.size
        return group

    @property
    def waiting(self) -> int:
        """The number of queued jobs."""
        return len(self._jobs)

    def close(self) -> None:
        """Refuse further jobs; queued ones still run."""
        with self._changed:
            self._closed = True
            self._changed.notify()
