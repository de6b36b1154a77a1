"""Evaluates every recorded decision of an audit folder again, and reports those that can't be true."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from ..._fast._check import View
from ..._fast._codec import LoggedChain, Redecider, Redecision
from ..._fast.codec.errors import FormError
from ...errors import StateUnusable
from .. import layout
from ..read.logged_decision import LoggedDecision
from .compare import KnownChainCase, compare_unnamed
from .reader import AuditFolder, ChangeRecord, History, LinePlace, ReplayReader
from .report import FOUND, ReplayedCall, ReplayFault, ReplayReport, Standing
from .state import ReplayedState
from .trial import Trial, TrialReport, trial_redecider

# Compiled chains in the cache; an evicted one is compiled again when needed.
_CACHED_CHAINS: Final = 65_536
_NONE: Final = b""


def replay(
    *folders: Path,
    arguments: Mapping[str, bytes] | None = None,
    session_id: bytes = b"",
    trial: Trial | None = None,
    on_decision: Callable[[LoggedDecision, ReplayedCall], None] | None = None,
) -> ReplayReport:
    """Make every decision in the files of folders again, by the changes in all of them.

    Args:
        folders: the audit folders; ``audit verify`` proves that their lines are as written.
        arguments: arguments of calls by their digests; see ``read_arguments``.
        session_id: only decisions of this session, 16 bytes.
        trial: evaluate allowed calls by its ceiling, too.
        on_decision: called with each decision and its standing.

    Raises:
        StateUnusable: if the folder or a file of it can't be read.
    """
    report = ReplayReport(trial=None if trial is None else TrialReport())
    try:
        with AuditFolder(*folders) as files:
            reader = ReplayReader(files, report, session_id)
            report.chains = len(reader.chains)
            for history in reader.histories.values():
                _Replay(reader, history, arguments or {}, report, trial, on_decision).run()
    except OSError as error:
        message = f"can't read the audit log {error.filename}: {error.strerror}"
        raise StateUnusable(message, "MISSING") from None
    return report


class _Replay:
    """The replay of one history."""

    def __init__(
        self,
        reader: ReplayReader,
        history: History,
        arguments: Mapping[str, bytes],
        report: ReplayReport,
        trial: Trial | None,
        on_decision: Callable[[LoggedDecision, ReplayedCall], None] | None,
    ) -> None:
        self._on_decision = on_decision
        self._reader = reader
        self._history = history
        self._arguments = arguments
        self._report = report
        self._state = ReplayedState(history, self._complain)
        self._replayer = Redecider(View(self._state.rows))
        self._trial = trial
        self._tried = None if trial is None else trial_redecider(self._state.rows, trial)
        self._chains: dict[str, LoggedChain | None] = {}

    def run(self) -> None:
        """Evaluate the decisions, the earliest state first."""
        self._report.begun_later += bool(self._history.revisions) and not self._state.whole
        for revision, place in self._history.decisions():
            self._state.advance(revision)
            self._decide(revision, place)
        self._state.advance(self._state.last_revision)
        self._report.changes += len(self._history.changes)

    def _decide(self, revision: int, place: LinePlace) -> None:
        record = layout.parse(self._reader.folder.line(place))
        try:
            recorded = LoggedDecision.read(record or {})
            call = self._judge(recorded, revision)
            if call.standing in FOUND and recorded.is_masked:
                call = ReplayedCall(Standing.ON_TRUST, "text")
        except ValueError:
            self._report.unreadable += 1
            return
        self._report.count(call)
        if self._on_decision is not None:
            self._on_decision(recorded, call)
        if call.standing in FOUND:
            session = recorded.session or recorded.claimed
            finding = self._reader.folder.finding(
                place,
                call.standing,
                call.why,
                id=recorded.id,
                at_ms=recorded.at_ms,
                session=session,
                recorded=recorded.verdict,
                comes_out=call.comes_out,
            )
            self._report.add(finding)

    def _judge(self, recorded: LoggedDecision, revision: int) -> ReplayedCall:
        covered = self._state.stands_at(revision)
        of_token = self._reader.tokens.get(recorded.token.encode(), "")
        chain = self._chain(recorded.blocks) or self._chain(of_token)
        if chain is None:
            return compare_unnamed(
                recorded, lambda session_id: self._lives(session_id, recorded.at_ms), covered=covered
            )
        session_id = chain.session_id
        knows_state = covered and self._state.knows(session_id)
        arguments = self._arguments.get(recorded.arguments) if recorded.arguments else _NONE
        out = self._redecide(self._replayer, chain, recorded, arguments, knows_state=knows_state)
        self._try(chain, recorded, arguments, knows_state=knows_state)
        return KnownChainCase(
            recorded,
            chain,
            out,
            knows_state=knows_state,
            knows_issuer=self._state.keys_known,
            knows_arguments=arguments is not None,
            has_session=self._state.has(session_id),
            same_token=not recorded.blocks or recorded.blocks == of_token,
            unknown="session" if covered else "state",
        ).compare()

    def _redecide(
        self,
        redecider: Redecider,
        chain: LoggedChain,
        recorded: LoggedDecision,
        arguments: bytes | None,
        *,
        knows_state: bool,
    ) -> Redecision:
        return redecider.redecide(
            chain,
            recorded.action,
            recorded.resource,
            arguments,
            source=recorded.source,
            audience=recorded.audience,
            now_ms=recorded.at_ms,
            knows_state=knows_state,
            knows_issuer=self._state.keys_known,
            reason=recorded.reason,
            level=recorded.level,
            index=recorded.index,
            scope=recorded.scope,
            clause=recorded.clause,
            matched_index=recorded.matched_index,
            matched_scope=recorded.matched_scope,
            token_only=recorded.token_only,
        )

    def _try(
        self, chain: LoggedChain, recorded: LoggedDecision, arguments: bytes | None, *, knows_state: bool
    ) -> None:
        """Evaluate an allowed call by the trial's ceiling."""
        if self._trial is None or self._tried is None or not recorded.allowed or recorded.token_only:
            return
        report, session = self._report.trial, self._state.rows.session(chain.session_id)
        if report is None or (session is not None and not self._trial.includes(session)):
            return
        if not knows_state or session is None:
            report.unknown += 1
            return
        report.sessions.add(session.id)
        out = self._redecide(self._tried, chain, recorded, arguments, knows_state=True)
        report.count(out, recorded.action, recorded.resource, knows_arguments=arguments is not None)

    def _lives(self, session_id: bytes, at_ms: int) -> tuple[Redecision, bool] | None:
        if not self._state.knows(session_id):
            return None
        return self._replayer.session_alive(session_id, at_ms), self._state.has(session_id)

    def _chain(self, blocks: str) -> LoggedChain | None:
        """Return the chain of these ids; None if the log does not have it."""
        if not blocks:
            return None
        if blocks in self._chains:
            return self._chains[blocks]
        if len(self._chains) >= _CACHED_CHAINS:
            self._chains.clear()
        payloads = self._reader.chains.get(blocks)
        chain: LoggedChain | None = None
        if payloads is not None:
            try:
                chain = LoggedChain(payloads, [bytes.fromhex(each) for each in blocks.split(",")])
            except FormError as error:
                self._forged(blocks, f"no chain: {error.detail}")
            else:
                if not chain.root_id_matches:
                    self._forged(blocks, "the first block does not match its id")
        self._chains[blocks] = chain
        return chain

    def _forged(self, blocks: str, why: str) -> None:
        place = self._reader.chain_places[blocks]
        self._report.add(self._reader.folder.finding(place, ReplayFault.WRONG_CHAIN, why, id=blocks))

    def _complain(self, record: ChangeRecord, comes_out: str) -> None:
        finding = self._reader.folder.finding(
            record.place,
            ReplayFault.DIFFERENT_OUTCOME,
            f"change {record.seq} comes to another outcome by those before it",
            id=record.id,
            at_ms=record.at_ms,
            recorded=f"{record.outcome} at revision {record.revision}",
            comes_out=comes_out,
        )
        self._report.add(finding)
