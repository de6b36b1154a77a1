"""The registry of verifiers: their names, their acknowledged revisions, and their ability to allow calls.

It holds two promises. A verifier that may allow is in the table: its row is durable and receipts wait for it
before its registration is confirmed. A verifier that did not renew within its bound is inactive: it denies by
its own clock from then on (``verifier.base``), which began to run earlier than the server's.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from functools import partial
from typing import Final

from ... import limits
from ...clock import Clock
from ...errors import SessauthError
from ...model.receipt import RegistrationRecord, VerifierState, VerifierStatus
from ...state.host.processes import is_gone
from ...state.lmdb import cluster_rows
from ...state.writer.state_writer import StateWriter
from .. import log
from ..status import invalid, refused

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", re.ASCII)
# No credential's verifier can have such a name.
WORKER_PREFIX: Final = "sessauth/"
# The time for which inactive verifiers are still listed, and named in receipts of ends before they left.
RETENTION_MS: Final = 3_600_000
COMMIT_SECONDS: Final = 5.0
# No credential's verifiers can use up all the names that fit into a receipt.
OF_ONE_PRINCIPAL: Final = 64


@dataclass(frozen=True, slots=True)
class RegistrationRequest:
    """A verifier's registration or renewal; ``record.registered_revision`` is the one that it uses."""

    kind: VerifierKind
    record: RegistrationRecord


class VerifierRegistry:
    """The verifiers of one control process. Any thread may use it."""

    def __init__(self, writer: StateWriter, clock: Clock) -> None:
        """Take over the previous process's verifiers: each counts until its bound has passed."""
        self._writer = writer
        self._clock = clock
        # One registers at a time; renewals don't wait for it.
        self._registering = threading.Lock()
        self._changed = threading.Condition()
        self._entries: dict[str, RegistryEntry] = {}
        steady_ms, at_ms = self._now()
        for record in writer.registrations():
            self._entries[record.name] = RegistryEntry(
                record,
                VerifierKind.EMBEDDED,
                record.registered_revision,
                steady_ms,
                at_ms,
                record.registered_at_ms,
            )
        writer.call_anew()

    def register(self, request: RegistrationRequest) -> int:
        """Register a verifier or renew it; returns the latest revision, which it must have read.

        Raises NAME_TAKEN while another that may allow has the name, LIMIT, and as the log does.
        """
        if not self._renew(request):
            with self._registering:
                self._add(request)
        # Read after the table: an end that is not in it yet finds the verifier.
        return self._writer.head().revision

    def leave(self, name: str, instance: bytes) -> None:
        """Record that a verifier allows nothing any more. An unknown one is ignored."""
        with self._changed:
            entry = self._entries.get(name)
            if entry is None or entry.record.instance != instance:
                return
            entry.left_at_ms = entry.left_at_ms or self._clock.now_ms()
            self._changed.notify_all()
        log.event(logging.INFO, "verifier_left", verifier=name, principal=entry.record.principal)
        self._delete_row(entry)

    def statuses(self, revision: int, ended_at_ms: int) -> tuple[VerifierStatus, ...]:
        """Return the status of those that were registered when a session ended, by name."""
        steady_ms, at_ms = self._now()
        with self._changed:
            return tuple(
                entry.status(revision, steady_ms, at_ms)
                for _, entry in sorted(self._entries.items())
                if _was_active(entry, revision, ended_at_ms, steady_ms, at_ms)
            )

    def wait(self, revision: int, within_ms: int) -> None:
        """Wait until all that may still allow have acknowledged ``revision``, late ones excepted.

        Those that have not in time are late until they renew.
        """
        until = self._clock.steady_ms() + within_ms
        with self._changed:
            while pending := self._pending(revision):
                left_ms = until - self._clock.steady_ms()
                if left_ms <= 0:
                    for entry in pending:
                        entry.late = True
                    return
                self._changed.wait(left_ms / 1000)

    def is_pending(self, revision: int, *, also_late: bool = False) -> bool:
        """Return True if a verifier that may allow, and is not late, has not acknowledged ``revision``."""
        with self._changed:
            return bool(self._pending(revision, also_late=also_late))

    def __len__(self) -> int:
        """Return the number of verifiers that the next process may have to wait for."""
        with self._changed:
            return len(self._entries)

    def all(self) -> Sequence[tuple[RegistryEntry, VerifierState]]:
        """Return all verifiers by name, each with its state against the last end to be acknowledged."""
        _, revision = self._writer.source().called_for()
        steady_ms, at_ms = self._now()
        with self._changed:
            return [
                (replace(entry), entry.current_state(revision, steady_ms, at_ms))
                for _, entry in sorted(self._entries.items())
            ]

    def evict_inactive(self) -> None:
        """Remove those that have been inactive for an hour. Called once a second."""
        for entry in self._inactive_for(RETENTION_MS):
            self._evict(entry)

    def _now(self) -> tuple[int, int]:
        """Return the steady clock and the wall clock, in ms."""
        return self._clock.steady_ms(), self._clock.now_ms()

    def _pending(self, revision: int, *, also_late: bool = False) -> list[RegistryEntry]:
        steady_ms, at_ms = self._now()
        return [
            entry
            for entry in self._entries.values()
            if (also_late or not entry.late)
            and entry.revision < revision
            and entry.may_allow(steady_ms, at_ms)
        ]

    def _renew(self, request: RegistrationRequest) -> bool:
        """Renew a registration; False if this instance has none."""
        record = request.record
        with self._changed:
            entry = self._entries.get(record.name)
            if entry is None or entry.left_at_ms or entry.record.instance != record.instance:
                return False
            if entry.record.principal != record.principal:
                raise _name_conflict(entry)
            entry.renew(record.registered_revision, *self._now())
            self._changed.notify_all()
            return True

    def _add(self, request: RegistrationRequest) -> None:
        if self._renew(request):
            return
        record, revision = request.record, request.record.registered_revision
        steady_ms, at_ms = self._now()
        with self._changed:
            before = self._entries.get(record.name)
            if before is not None and before.may_allow(steady_ms, at_ms) and not _replaces(record, before):
                raise _name_conflict(before)
            total = len(self._entries) - (before is not None)
            active = sum(
                entry.may_allow(steady_ms, at_ms)
                for entry in self._entries.values()
                if entry is not before and entry.record.principal == record.principal
            )
            if active >= OF_ONE_PRINCIPAL:
                raise refused("LIMIT", f"name: this credential has {OF_ONE_PRINCIPAL} verifiers; close some")
        if total >= limits.MAX_VERIFIERS:
            if not any(map(self._evict, self._inactive_for(0))):
                raise refused("LIMIT", f"name: {limits.MAX_VERIFIERS} verifiers are registered; close some")
        first = before.record.registered_revision if before is not None else revision
        record = replace(record, registered_revision=first, registered_at_ms=at_ms)
        if request.kind is VerifierKind.EMBEDDED:
            work = partial(cluster_rows.store_registration, record=record)
            self._writer.decide(work, cluster_rows.EVIDENCE_ROW_BYTES).result(COMMIT_SECONDS)
        entry = RegistryEntry(record, request.kind, revision, self._clock.steady_ms(), at_ms, at_ms)
        with self._changed:
            self._entries[record.name] = entry
            self._changed.notify_all()
        log.event(logging.INFO, "verifier_registered", verifier=record.name, principal=record.principal)

    def _evict(self, entry: RegistryEntry) -> bool:
        """Remove an inactive verifier; False if it renewed meanwhile, or is gone already."""
        with self._changed:
            name = entry.record.name
            # Checked again: in between it may have renewed, with the server's confirmation.
            if self._entries.get(name) is not entry or entry.may_allow(*self._now()):
                return False
            del self._entries[name]
        self._delete_row(entry)
        return True

    def _inactive_for(self, ms: int) -> list[RegistryEntry]:
        """Return the verifiers that have been inactive for this time, the longest first."""
        steady_ms, at_ms = self._now()
        with self._changed:
            since = [(entry.inactive_since_ms(steady_ms, at_ms), entry) for entry in self._entries.values()]
        inactive = [(since_ms, entry) for since_ms, entry in since if since_ms and since_ms + ms <= at_ms]
        return [entry for _, entry in sorted(inactive, key=lambda pair: pair[0])]

    def _delete_row(self, entry: RegistryEntry) -> None:
        """Delete the row without waiting: a row too many only holds receipts open for a while."""
        if entry.kind is VerifierKind.EMBEDDED:
            try:
                work = partial(cluster_rows.drop_registration, record=entry.record)
                self._writer.decide(work, cluster_rows.EVIDENCE_ROW_BYTES)
            except SessauthError as error:
                log.event(logging.WARNING, "registration_not_removed", error=str(error))


def validated(request: RegistrationRequest) -> RegistrationRequest:
    """Return a registration of valid form; raises INVALID_ARGUMENT naming the field.

    A worker gets a name that no credential can have, and no bound: its end is observed.
    """
    record = request.record
    if not NAME.fullmatch(record.name):
        raise invalid(
            "name", "must be 1 to 64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
        )
    if len(record.instance) != 16:
        raise invalid("instance", f"must be 16 bytes, not {len(record.instance)}")
    if request.kind is VerifierKind.WORKER:
        if not record.process_id:
            raise invalid("process_id", "is required of a worker")
        named = replace(record, name=WORKER_PREFIX + record.name, staleness_ms=0)
        return replace(request, record=named)
    if not limits.MIN_STALENESS_MS <= record.staleness_ms <= limits.MAX_STALENESS_MS:
        raise invalid("staleness_ms", f"must be {limits.MIN_STALENESS_MS} to {limits.MAX_STALENESS_MS} ms")
    return request


def _was_active(entry: RegistryEntry, revision: int, ended_at_ms: int, steady_ms: int, at_ms: int) -> bool:
    """Return True if it may have allowed calls of a session that ended then."""
    inactive_ms = entry.inactive_since_ms(steady_ms, at_ms)
    return entry.record.registered_revision < revision and not 0 < inactive_ms <= ended_at_ms


def _replaces(record: RegistrationRecord, before: RegistryEntry) -> bool:
    """Return True if the process that had the name has ended, and the same principal comes back."""
    earlier = before.record
    return earlier.principal == record.principal and is_gone(earlier.process_id, earlier.process_started)


def _name_conflict(entry: RegistryEntry) -> Exception:
    which = f", process {entry.record.process_id}" if entry.record.process_id else ""
    return refused(
        "NAME_TAKEN",
        f"name: {entry.record.name} is registered by another verifier{which}, which may still judge; give "
        "each a name of its own, or wait for its bound",
    )


# Added to a bound here: for a check that was under way when it passed.
MARGIN_MS: Final = 100


class VerifierKind(IntEnum):
    """Kinds of verifiers, with the numbers of ``evidence_service.proto``."""

    CONTROL = 1
    WORKER = 2
    EMBEDDED = 3


@dataclass(slots=True, eq=False)
class RegistryEntry:
    """A verifier under its name. ``renewed_ms`` is of the steady clock, ``…_at_ms`` of the wall clock.

    ``revision`` is the latest that it acknowledged, ``acknowledged_at_ms`` when. ``left_at_ms`` is not 0 once
    it left and can't allow any more. ``late``: no receipt waits for it until it renews.
    """

    record: RegistrationRecord
    kind: VerifierKind
    revision: int
    renewed_ms: int
    renewed_at_ms: int
    acknowledged_at_ms: int = 0
    left_at_ms: int = 0
    late: bool = False

    def renew(self, revision: int, steady_ms: int, at_ms: int) -> None:
        """Record a renewal, and the revision that it uses."""
        if revision > self.revision or not self.acknowledged_at_ms:
            self.acknowledged_at_ms = at_ms
        self.revision = max(self.revision, revision)
        self.renewed_ms, self.renewed_at_ms, self.late = steady_ms, at_ms, False

    def is_stale(self, steady_ms: int) -> bool:
        """Return True if its bound passed: it denies every call by now unless another server renewed it."""
        bound = self.record.staleness_ms
        return bool(bound) and steady_ms >= self.renewed_ms + bound + MARGIN_MS

    def poll_process(self, at_ms: int) -> None:
        """Record a worker's end: as a child of this process, its end is certain."""
        if self.kind is VerifierKind.WORKER and not self.left_at_ms:
            if is_gone(self.record.process_id, self.record.process_started):
                self.left_at_ms = at_ms

    @property
    def stale_at_ms(self) -> int:
        """The end of its bound unless it renews; 0 without a bound."""
        return self.renewed_at_ms + self.record.staleness_ms if self.record.staleness_ms else 0

    def may_allow(self, steady_ms: int, at_ms: int) -> bool:
        """Return True unless it is certain that it allows no call."""
        self.poll_process(at_ms)
        return not self.left_at_ms and not self.is_stale(steady_ms)

    def status(self, revision: int, steady_ms: int, at_ms: int) -> VerifierStatus:
        """Return its status against a change that came at ``revision``."""
        if self.revision >= revision:
            state, when = VerifierState.ACKNOWLEDGED, self.acknowledged_at_ms
        else:
            state = self.current_state(revision, steady_ms, at_ms)
            when = self.left_at_ms if state is VerifierState.LEFT else self.stale_at_ms
        return VerifierStatus(self.record.name, state, self.revision, when)

    def current_state(self, revision: int, steady_ms: int, at_ms: int) -> VerifierState:
        """Return whether it may still allow, and if so whether it has acknowledged ``revision``."""
        if self.may_allow(steady_ms, at_ms):
            return VerifierState.ACKNOWLEDGED if self.revision >= revision else VerifierState.WAITING
        return VerifierState.LEFT if self.left_at_ms else VerifierState.OUTLIVED

    def inactive_since_ms(self, steady_ms: int, at_ms: int) -> int:
        """Return when it became unable to allow calls, in ms since 1970; 0 if it may allow."""
        if self.may_allow(steady_ms, at_ms):
            return 0
        return self.left_at_ms or self.stale_at_ms
