"""What remains when the stories are over: receipts, a log that can be judged again, and what was too much."""

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
from ...tokens.token import Token
from ...usage.generalize import Fit
from ...usage.grants import CEILING
from ...usage.suggest import suggest
from ...verifier.receipt_check import CoverageKind, check_token_against
from ..render.usage import joined
from .environment import DemoEnvironment

# Decisions are written every 50 ms, and told every 200 ms.
SETTLE_SECONDS: Final = 1.0
# On a busy machine what is told may be on its way for longer.
LATE_SECONDS: Final = 10.0
REPORTED: Final = "ticket 482"

Say = Callable[[str], None]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What was found; ``not_closed`` and ``findings`` are empty when all is well."""

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
        """Whether every session is proven closed, and the log is whole and says what was decided."""
        return bool(self.receipts and self.decisions) and not (
            self.not_closed or self.tokens_not_refused or self.findings
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**asdict(self), "holds": self.holds}


def collect(theatre: DemoEnvironment, say: Say) -> DemoReport:
    """Collect the evidence of a theatre whose sessions are all over, and show it."""
    time.sleep(SETTLE_SECONDS)
    keys = theatre.client.jwks()
    sessions = theatre.client.list_sessions(page_size=100).sessions
    receipts: dict[bytes, Receipt] = _settled(
        lambda: {
            session.id: verify_receipt(theatre.client.get_receipt(session.id), keys, session_id=session.id)
            for session in sessions
        },
        lambda found: all(each.state is ReceiptState.CLOSED for each in found.values()),
    )
    not_closed = tuple(
        f"{receipt.session_id.hex()}: {receipt.state.name} {', '.join(receipt.waiting)}".rstrip()
        for receipt in receipts.values()
        if receipt.state is not ReceiptState.CLOSED
    )
    verifiers = sorted({each.name for receipt in receipts.values() for each in receipt.verifiers})
    say("\nWhat is left to show, verified here with nothing but the service's public keys:")
    say(
        f"  receipts   {len(receipts)} sessions, {len(receipts) - len(not_closed)} CLOSED; asked were"
        f" {', '.join(verifiers)}"
    )
    survivors = tuple(
        name
        for name, (token, _) in theatre.presented.items()
        if not any(
            check_token_against(receipt, Token.parse(token), keys).coverage is CoverageKind.REFUSED
            for receipt in receipts.values()
        )
    )
    say(f"  tokens     {len(theatre.presented) - len(survivors)} are of these sessions, and refused by them")
    log, again = _settled(
        lambda: (verify_log(theatre.audit_dir), replay(theatre.audit_dir)),
        lambda found: found[0].intact and not found[1].findings,
    )
    records = sum(stream.count for stream in log.streams)
    findings = (*(each.words for each in log.faults), *(each.why for each in again.findings))
    say(
        f"  audit log  {records} records, chained and signed: {'intact' if log.intact else 'NOT INTACT'};"
        f" {again.decisions} decisions made again from it, {again.found} came out otherwise"
    )
    granted, enough = _suggested(theatre)
    say(f"  privilege  {REPORTED!r} was granted {'; '.join(granted)}")
    say(f"             and needed  {'; '.join(enough)}")
    return DemoReport(
        receipts=len(receipts),
        not_closed=not_closed,
        verifiers=tuple(verifiers),
        tokens_refused=len(theatre.presented) - len(survivors),
        tokens_not_refused=survivors,
        records=records,
        decisions=again.decisions,
        findings=findings,
        granted=granted,
        enough=enough,
    )


def _settled(look: Callable[[], T], is_well: Callable[[T], bool]) -> T:
    """Return what is found as soon as all is well with it, or what it is when that took too long."""
    until = time.monotonic() + LATE_SECONDS
    found = look()
    while not is_well(found) and time.monotonic() < until:
        time.sleep(SETTLE_SECONDS / 10)
        found = look()
    return found


def _suggested(theatre: DemoEnvironment) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return what one purpose was granted, and what would have been enough of it."""
    found = theatre.client.list_reports(REPORTED).reports
    report = joined(found, SystemClock().now_ms(), REPORTED)
    granted: list[str] = []
    enough: list[str] = []
    for use in () if report is None else report.layers:
        if report is not None and use.layer.kind == CEILING:
            granted += map(str, use.layer.scopes)
            enough += map(str, suggest(use.layer, report.usage, Fit.EXACT).scopes)
    return tuple(granted), tuple(enough)
