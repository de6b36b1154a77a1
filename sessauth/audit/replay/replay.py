"""Decides again what an audit folder says was decided, and tells where it can't have been so."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from ..._fast.check.view import View
from ..._fast.codec.errors import FormError
from ..._fast.redecide.logged_chain import LoggedChain
from ..._fast.redecide.redecide import Redecider, Redecision
from ...errors import StateUnusable
from .. import layout
from .compare import judge, judge_unnamed
from .reader import AuditFolder, ChangeRecord, History, LinePlace, ReplayReader
from .recorded_decision import LoggedDecision
from .report import FOUND, ReplayedCall, ReplayFault, ReplayFinding, ReplayReport, Standing
from .state import ReplayedState

# Compiled chains that are kept; a chain is compiled anew when it comes again later.
_KEPT_CHAINS: Final = 65_536
_NONE: Final = b""


def replay(
    folder: Path,
    *,
    arguments: Mapping[str, bytes] | None = None,
    session_id: bytes = b"",
    tell: Callable[[LoggedDecision, ReplayedCall], None] | None = None,
) -> ReplayReport:
    """Make every decision in the files of a folder again.

    Args:
        folder: the audit folder. Whether its lines are those that were written, ``audit verify`` tells.
        arguments: arguments of calls by their digests; see ``read_arguments``.
        session_id: of this session only, 16 bytes.
        tell: told of each decision, and where it stands.

    Raises:
        StateUnusable: if the folder or a file of it can't be read.
    """
    report = ReplayReport()
    try:
        with AuditFolder(folder) as files:
            reader = ReplayReader(files, report, session_id)
            report.chains = len(reader.chains)
            for history in reader.histories.values():
                _Replay(reader, history, arguments or {}, report, tell).run()
    except OSError as error:
        message = f"can't read the audit log {error.filename or folder}: {error.strerror}"
        raise StateUnusable(message, "MISSING") from None
    return report


class _Replay:
    """One history, decided again."""

    def __init__(
        self,
        reader: ReplayReader,
        history: History,
        arguments: Mapping[str, bytes],
        report: ReplayReport,
        tell: Callable[[LoggedDecision, ReplayedCall], None] | None,
    ) -> None:
        self._tell = tell
        self._reader = reader
        self._history = history
        self._arguments = arguments
        self._report = report
        self._state = ReplayedState(history, self._complain)
        self._replayer = Redecider(View(self._state.rows))
        self._chains: dict[str, LoggedChain | None] = {}

    def run(self) -> None:
        """Go through the decisions, the earliest state first."""
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
            judged = self._judge(recorded, revision)
            if judged.standing in FOUND and recorded.is_masked:
                judged = ReplayedCall(Standing.ON_TRUST, "text")
        except ValueError:
            self._report.unreadable += 1
            return
        self._report.count(judged)
        if self._tell is not None:
            self._tell(recorded, judged)
        if judged.standing in FOUND:
            self._report.add(self._finding(recorded, place, judged))

    def _judge(self, recorded: LoggedDecision, revision: int) -> ReplayedCall:
        covered = self._state.stands_at(revision)
        of_token = self._reader.tokens.get(recorded.token.encode(), "")
        chain = self._chain(recorded.blocks) or self._chain(of_token)
        if chain is None:
            return judge_unnamed(
                recorded, lambda session_id: self._lives(session_id, recorded.at_ms), covered=covered
            )
        session_id = chain.session_id
        knows_state = covered and self._state.knows(session_id)
        arguments = self._arguments.get(recorded.arguments) if recorded.arguments else _NONE
        out = self._replayer.again(
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
        )
        return judge(
            recorded,
            chain,
            out,
            knows_state=knows_state,
            knows_issuer=self._state.keys_known,
            knows_arguments=arguments is not None,
            has_session=self._state.has(session_id),
            same_token=not recorded.blocks or recorded.blocks == of_token,
            unknown="session" if covered else "state",
        )

    def _lives(self, session_id: bytes, at_ms: int) -> tuple[Redecision, bool] | None:
        if not self._state.knows(session_id):
            return None
        return self._replayer.lives(session_id, at_ms), self._state.has(session_id)

    def _chain(self, blocks: str) -> LoggedChain | None:
        """The chain of these ids; None if the log does not have it."""
        if not blocks:
            return None
        if blocks in self._chains:
            return self._chains[blocks]
        if len(self._chains) >= _KEPT_CHAINS:
            self._chains.clear()
        payloads = self._reader.chains.get(blocks)
        chain: LoggedChain | None = None
        if payloads is not None:
            try:
                chain = LoggedChain(payloads, [bytes.fromhex(each) for each in blocks.split(",")])
            except FormError as error:
                self._forged(blocks, f"no chain: {error.detail}")
            else:
                if not chain.root_stands:
                    self._forged(blocks, "the first block is not what its id says")
        self._chains[blocks] = chain
        return chain

    def _forged(self, blocks: str, why: str) -> None:
        place = self._reader.chain_places[blocks]
        self._report.add(self._at(place, ReplayFault.WRONG_CHAIN, blocks, 0, "", "", "", why))

    def _complain(self, record: ChangeRecord, comes_out: str) -> None:
        recorded = f"{record.outcome} at revision {record.revision}"
        why = f"change {record.seq} comes to another outcome by those before it"
        self._report.add(
            self._at(
                record.place,
                ReplayFault.DIFFERENT_OUTCOME,
                record.id,
                record.at_ms,
                "",
                recorded,
                comes_out,
                why,
            )
        )

    def _finding(self, recorded: LoggedDecision, place: LinePlace, judged: ReplayedCall) -> ReplayFinding:
        return self._at(
            place,
            judged.standing,
            recorded.id,
            recorded.at_ms,
            recorded.session or recorded.claimed,
            recorded.says(),
            judged.comes_out,
            judged.why,
        )

    def _at(
        self,
        place: LinePlace,
        kind: Standing | ReplayFault,
        named: str,
        at_ms: int,
        session: str,
        recorded: str,
        comes_out: str,
        why: str,
    ) -> ReplayFinding:
        files = self._reader.folder
        numbered = layout.NUMBERED.match(files.line(place))
        return ReplayFinding(
            kind,
            files.paths[place.file].name,
            files.line_number(place),
            -1 if numbered is None else int(numbered[1]),
            named,
            at_ms,
            session,
            recorded,
            comes_out,
            why,
        )
