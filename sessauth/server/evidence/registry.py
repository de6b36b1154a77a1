"""Who judges: the verifiers that enrolled, what each acknowledged, and whether it may still allow calls.

Two things are held here. A verifier that may allow is in the table: its row is durable and it is waited for
before it is told that it counts. And what it counted for before is over when it was not heard for its bound:
it denies by its own clock from then on (``verifier.registration``), which began to run earlier than ours.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from ... import limits
from ...clock import Clock
from ...errors import SessauthError
from ...model.receipt import VerifierState, VerifierStatus
from ...model.registration import RegistrationRecord
from ...state.host.processes import is_gone
from ...state.lmdb import evidence_rows
from ...state.writer.group import Group
from ...state.writer.state_writer import StateWriter
from .. import log as server_log
from ..status import invalid, refused
from .enrolled_verifier import RegistryEntry, VerifierKind

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
# No credential's verifier can take such a name.
WORKER_PREFIX: Final = "sessauth/"
# How long who left or outlived its bound is still shown, and named in receipts of ends that it was there for.
REMEMBER_MS: Final = 3_600_000
COMMIT_SECONDS: Final = 5.0
# No credential's verifiers take all the names that a receipt has room for.
OF_ONE_PRINCIPAL: Final = 64


@dataclass(frozen=True, slots=True)
class RegistrationRequest:
    """What a verifier says when it enrols or renews; ``kind`` and ``principal`` are its credential's."""

    name: str
    kind: VerifierKind
    principal: str
    instance: bytes
    staleness_ms: int
    revision: int
    process_id: int = 0
    process_started: int = 0


class VerifierRegistry:
    """The verifiers of one control process. Any thread may use it."""

    def __init__(self, log: StateWriter, clock: Clock) -> None:
        """Take over who was enrolled with the process before: each counts until its bound has passed."""
        self._log = log
        self._clock = clock
        # One enrols at a time; renewals don't wait for it.
        self._enrolling = threading.Lock()
        self._changed = threading.Condition()
        self._entries: dict[str, RegistryEntry] = {}
        steady_ms, at_ms = clock.steady_ms(), clock.now_ms()
        for record in log.registrations():
            self._entries[record.name] = RegistryEntry(
                record,
                VerifierKind.EMBEDDED,
                record.registered_revision,
                steady_ms,
                at_ms,
                record.registered_at_ms,
            )
        log.call_anew()

    def hear(self, asked: RegistrationRequest) -> int:
        """Enrol a verifier or renew its enrolment; returns the latest revision, which it must have seen.

        Raises NAME_TAKEN while another that may allow has the name, LIMIT, and as the log does.
        """
        if not self._renewed(asked):
            with self._enrolling:
                self._enroll(asked)
        # Read behind the table: an end that is not seen here finds the verifier in it.
        return self._log.head().revision

    def leave(self, name: str, instance: bytes) -> None:
        """Note that a verifier allows nothing any more. One that is not known by that name is none."""
        with self._changed:
            entry = self._entries.get(name)
            if entry is None or entry.record.instance != instance:
                return
            entry.left_at_ms = entry.left_at_ms or self._clock.now_ms()
            self._changed.notify_all()
        server_log.event(logging.INFO, "verifier_left", verifier=name, principal=entry.record.principal)
        self._forget(entry)

    def standings(self, revision: int, ended_at_ms: int) -> tuple[VerifierStatus, ...]:
        """Return where those stand that were enrolled when a session ended, by name."""
        steady_ms, at_ms = self._clock.steady_ms(), self._clock.now_ms()
        with self._changed:
            return tuple(
                entry.standing(revision, steady_ms, at_ms)
                for _, entry in sorted(self._entries.items())
                if _was_there(entry, revision, ended_at_ms, steady_ms, at_ms)
            )

    def wait(self, revision: int, within_ms: int) -> None:
        """Wait until all that may still allow have acknowledged ``revision``; who is late is not waited for.

        Who has not when the time is over is late, until it is heard again.
        """
        until = self._clock.steady_ms() + within_ms
        with self._changed:
            while waiting := self._waiting(revision):
                left_ms = until - self._clock.steady_ms()
                if left_ms <= 0:
                    for entry in waiting:
                        entry.late = True
                    return
                self._changed.wait(left_ms / 1000)

    def is_waited_for(self, revision: int, *, also_late: bool = False) -> bool:
        """Whether somebody that may allow has not acknowledged ``revision``; who is late does not count."""
        with self._changed:
            return bool(self._waiting(revision, also_late=also_late))

    @property
    def knows_anybody(self) -> bool:
        """Whether there is a verifier that the next process may have to wait for, for all that it knows."""
        with self._changed:
            return bool(self._entries)

    def all(self) -> Sequence[tuple[RegistryEntry, VerifierState]]:
        """Return everybody by name: whether it may allow, and has acknowledged what was last called for."""
        _, revision = self._log.source().called_for()
        steady_ms, at_ms = self._clock.steady_ms(), self._clock.now_ms()
        with self._changed:
            return [
                (replace(entry), entry.state_now(revision, steady_ms, at_ms))
                for _, entry in sorted(self._entries.items())
            ]

    def tend(self) -> None:
        """Forget who left or outlived its bound long ago. Called once a second."""
        for entry in self._over_since(REMEMBER_MS):
            self._take_out(entry)

    def _waiting(self, revision: int, *, also_late: bool = False) -> list[RegistryEntry]:
        steady_ms, at_ms = self._clock.steady_ms(), self._clock.now_ms()
        return [
            entry
            for entry in self._entries.values()
            if (also_late or not entry.late)
            and entry.revision < revision
            and entry.may_allow(steady_ms, at_ms)
        ]

    def _renewed(self, asked: RegistrationRequest) -> bool:
        """Renew an enrolment; False if there is none of this instance."""
        with self._changed:
            entry = self._entries.get(asked.name)
            if entry is None or entry.left_at_ms or entry.record.instance != asked.instance:
                return False
            if entry.record.principal != asked.principal:
                raise _taken(entry)
            entry.hear(asked.revision, self._clock.steady_ms(), self._clock.now_ms())
            self._changed.notify_all()
            return True

    def _enroll(self, asked: RegistrationRequest) -> None:
        if self._renewed(asked):
            return
        steady_ms, at_ms = self._clock.steady_ms(), self._clock.now_ms()
        with self._changed:
            before = self._entries.get(asked.name)
            if before is not None and before.may_allow(steady_ms, at_ms) and not _replaces(asked, before):
                raise _taken(before)
            crowd = len(self._entries) - (before is not None)
            own = [
                each
                for each in self._entries.values()
                if each is not before and each.record.principal == asked.principal
            ]
            if sum(each.may_allow(steady_ms, at_ms) for each in own) >= OF_ONE_PRINCIPAL:
                raise refused("LIMIT", f"name: this credential has {OF_ONE_PRINCIPAL} verifiers; close some")
        if crowd >= limits.MAX_VERIFIERS:
            self._make_room()
        record = RegistrationRecord(
            asked.name,
            asked.principal,
            asked.instance,
            asked.process_id,
            asked.process_started,
            asked.staleness_ms,
            before.record.registered_revision if before is not None else asked.revision,
            at_ms,
        )
        if asked.kind is VerifierKind.EMBEDDED:
            self._keep(record)
        entry = RegistryEntry(record, asked.kind, asked.revision, self._clock.steady_ms(), at_ms, at_ms)
        with self._changed:
            self._entries[asked.name] = entry
            self._changed.notify_all()
        server_log.event(logging.INFO, "verifier_enrolled", verifier=asked.name, principal=asked.principal)

    def _make_room(self) -> None:
        if not any(map(self._take_out, self._over_since(0))):
            raise refused("LIMIT", f"name: {limits.MAX_VERIFIERS} verifiers are enrolled; close some")

    def _take_out(self, entry: RegistryEntry) -> bool:
        """Let go of who can't allow; False if it was heard meanwhile and counts again, or is gone already."""
        with self._changed:
            name = entry.record.name
            # Looked at again: in between it may have renewed, and was told that it counts.
            if self._entries.get(name) is not entry or entry.may_allow(
                self._clock.steady_ms(), self._clock.now_ms()
            ):
                return False
            del self._entries[name]
        self._forget(entry)
        return True

    def _over_since(self, ms: int) -> list[RegistryEntry]:
        """Return who has not been able to allow for so long, the longest first."""
        steady_ms, at_ms = self._clock.steady_ms(), self._clock.now_ms()
        with self._changed:
            over = [(entry.over_at_ms(steady_ms, at_ms), entry) for entry in self._entries.values()]
        found = [(since, entry) for since, entry in over if since and since + ms <= at_ms]
        return [entry for _, entry in sorted(found, key=lambda each: each[0])]

    def _keep(self, record: RegistrationRecord) -> None:
        def work(group: Group) -> None:
            evidence_rows.store_registration(group, record)

        self._log.decide(work, evidence_rows.ROW_BYTES).result(COMMIT_SECONDS)

    def _forget(self, entry: RegistryEntry) -> None:
        """Have the row removed; nobody waits for it: a row too many only keeps receipts open for a while."""
        if entry.kind is VerifierKind.EMBEDDED:
            try:
                work = partial(evidence_rows.drop_registration, record=entry.record)
                self._log.decide(work, evidence_rows.ROW_BYTES)
            except SessauthError as error:
                server_log.event(logging.WARNING, "enrolment_not_removed", error=str(error))


def checked(asked: RegistrationRequest) -> RegistrationRequest:
    """Return what a verifier says if it is of the form; raises INVALID_ARGUMENT naming the field.

    A worker's name becomes one that no credential can take, and it has no bound: its end is seen.
    """
    if not NAME.fullmatch(asked.name):
        raise invalid(
            "name", "must be 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
        )
    if len(asked.instance) != 16:
        raise invalid("instance", f"must be 16 bytes, not {len(asked.instance)}")
    if asked.kind is VerifierKind.WORKER:
        if not asked.process_id:
            raise invalid("process_id", "is required of a worker")
        return replace(asked, name=WORKER_PREFIX + asked.name, staleness_ms=0)
    if not limits.MIN_STALENESS_MS <= asked.staleness_ms <= limits.MAX_STALENESS_MS:
        raise invalid("staleness_ms", f"must be {limits.MIN_STALENESS_MS} to {limits.MAX_STALENESS_MS} ms")
    return asked


def _was_there(entry: RegistryEntry, revision: int, ended_at_ms: int, steady_ms: int, at_ms: int) -> bool:
    """Whether a verifier may have allowed calls of a session that ended then."""
    over_at_ms = entry.over_at_ms(steady_ms, at_ms)
    return entry.record.registered_revision < revision and not 0 < over_at_ms <= ended_at_ms


def _replaces(asked: RegistrationRequest, before: RegistryEntry) -> bool:
    """Whether the process that had the name is known to have ended, and the same principal comes back."""
    record = before.record
    return record.principal == asked.principal and is_gone(record.process_id, record.process_started)


def _taken(entry: RegistryEntry) -> Exception:
    which = f", process {entry.record.process_id}" if entry.record.process_id else ""
    return refused(
        "NAME_TAKEN",
        f"name: {entry.record.name} is enrolled by another verifier{which}, which may still judge; give each "
        "a name of its own, or wait for its bound",
    )
