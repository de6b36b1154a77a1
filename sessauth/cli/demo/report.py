"""Evidence after the scenarios: receipts, the replayed audit log, and unused authority."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeVar

from ...audit.replay import replay
from ...audit.verify.verify import verify as verify_log
from ...clock import SystemClock
from ...model.receipt import Receipt, ReceiptState
from ...model.receipt import verify as verify_receipt
from ...usage.generalize import Fit
from ...usage.grants import CEILING
from ...usage.suggest import suggest
from ...verifier.receipt_check import CoverageKind, check_token_against
from ..render.usage import joined
from .environment import DemoEnvironment

# Decisions are written every 50 ms, and reported every 200 ms.
SETTLE_SECONDS: Final = 1.0
# On a busy machine a report may take longer.
LATE_SECONDS: Final = 10.0
REPORTED: Final = "ticket 482"

Write = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DemoReport:
    """Results of the checks; ``not_closed`` and ``findings`` are empty if all is well."""

    receipts: int
    not_closed: tuple[str, ...]
    verifiers: tuple[str, ...]
    tokens_refused: int
    tokens_not_refused: tuple[str, ...]
    records: int
    decisions: int
    findings: tuple[str, ...]
    granted: tuple[str, ...]
    enough: tuple[str, ...]

    @property
    def holds(self) -> bool:
        """True if every session is proven closed, and the log is intact and its decisions come out alike."""
        return bool(self.receipts and self.decisions) and not (
            self.not_closed or self.tokens_not_refused or self.findings
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "holds": self.holds}


def collect(demo: DemoEnvironment, show: Write) -> DemoReport:
    """Collect and show the evidence of a demo whose sessions have all ended."""
    time.sleep(SETTLE_SECONDS)
    keys = demo.client.jwks()
    sessions = demo.client.list_sessions(page_size=100).sessions
    receipts: dict[bytes, Receipt] = _settled(
        lambda: {
            session.id: verify_receipt(demo.client.get_receipt(session.id), keys, session_id=session.id)
            for session in sessions
        },
        lambda receipts: all(each.state is ReceiptState.CLOSED for each in receipts.values()),
    )
    not_closed = tuple(
        f"{receipt.session_id.hex()}: {receipt.state.name} {', '.join(receipt.waiting)}".rstrip()
        for receipt in receipts.values()
        if receipt.state is not ReceiptState.CLOSED
    )
    verifiers = sorted({each.name for receipt in receipts.values() for each in receipt.verifiers})
    show("\nWhat is left to show, verified here with nothing but the service's public keys:")
    show(
        f"  receipts   {len(receipts)} sessions, {len(receipts) - len(not_closed)} CLOSED; asked were"
        f" {', '.join(verifiers)}"
    )
    survivors = tuple(
        name
        for name, (token, _) in demo.presented.items()
        if not any(
            check_token_against(receipt, token, keys).coverage is CoverageKind.REFUSED
            for receipt in receipts.values()
        )
    )
    show(f"  tokens     {len(demo.presented) - len(survivors)} are of these sessions, and refused by them")
    log, again = _settled(
        lambda: (verify_log(demo.audit_dir), replay(demo.audit_dir)),
        lambda result: result[0].intact and not result[1].findings,
    )
    records = sum(stream.count for stream in log.streams)
    findings = (*(each.words for each in log.faults), *(each.why for each in again.findings))
    show(
        f"  audit log  {records} records, chained and signed: {'intact' if log.intact else 'NOT INTACT'};"
        f" {again.decisions} decisions made again from it, {again.found} came out otherwise"
    )
    granted, enough = _suggested(demo)
    show(f"  privilege  {REPORTED!r} was granted {'; '.join(granted)}")
    show(f"             and needed  {'; '.join(enough)}")
    return DemoReport(
        receipts=len(receipts),
        not_closed=not_closed,
        verifiers=tuple(verifiers),
        tokens_refused=len(demo.presented) - len(survivors),
        tokens_not_refused=survivors,
        records=records,
        decisions=again.decisions,
        findings=findings,
        granted=granted,
        enough=enough,
    )


def _settled(read: Callable[[], T], is_well: Callable[[T], bool]) -> T:
    """Return what ``read`` returns once it is well, or at the latest after ``LATE_SECONDS``."""
    until = time.monotonic() + LATE_SECONDS
    result = read()
    while not is_well(result) and time.monotonic() < until:
        time.sleep(SETTLE_SECONDS / 10)
        result = read()
    return result


def _suggested(demo: DemoEnvironment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the scopes that one purpose was granted, and the suggested ones."""
    reports = demo.client.list_reports(REPORTED).reports
    report = joined(reports, SystemClock().now_ms(), REPORTED)
    granted: list[str] = []
    enough: list[str] = []
    for use in () if report is None else report.layers:
        if report is not None and use.layer.kind == CEILING:
            granted += map(str, use.layer.scopes)
            enough += map(str, suggest(use.layer, report.usage, Fit.EXACT).scopes)
    return tuple(granted), tuple(enough)
