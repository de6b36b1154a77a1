"""Evaluates every recorded decision of an audit folder again, and reports those that can't be true.

A recorded decision is compared with the new result, stage by stage in their order. A refusal at an earlier
stage than recorded contradicts the record, and so does a stage that can't have refused. A refusal by
something that no log has is taken on trust, as far as the order of stages permits it.

The log has digests of arguments only. :func:`read_arguments` reads the arguments themselves from a file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..._fast._check import View
from ..._fast._codec import LoggedChain, Redecider, Redecision
from ..._fast.codec.errors import FormError
from ...errors import StateUnusable, UsageError
from ...reasons import Level, Reason, Stage, SurveyVerdict
from .. import layout
from ..layout import ArgumentsKey
from ..read.query import LoggedDecision, verdict_text
from .report import (
    FOUND,
    ReplayedCall,
    ReplayFault,
    ReplayReport,
    Standing,
    Trial,
    TrialReport,
    trial_redecider,
)
from .state import AuditFolder, ChangeRecord, History, LinePlace, ReplayedState, ReplayReader

# Refusals without a look at the call: a fault, an unknown tool, an audit log that can't be written.
UNLOOKED: Final = frozenset({"INTERNAL_ERROR", "UNKNOWN_TOOL", "AUDIT_UNAVAILABLE"})
# Stages that can't be evaluated again without the state.
_OF_STATE: Final = frozenset({Stage.SESSION, Stage.ISSUER, Stage.REVOCATION})


def compare_unnamed(
    recorded: LoggedDecision, lives: Callable[[bytes], tuple[Redecision, bool] | None], *, covered: bool
) -> ReplayedCall:
    """Compare a decision whose chain is not known.

    ``lives`` returns the result of stage ``session`` for a session id, and True if there is such a session;
    None if that is not known. ``covered``: the log has the state of the decision.
    """
    if _contradicts_itself(recorded):
        return ReplayedCall(Standing.FLIPPED, "allowed and reason contradict each other")
    if recorded.blocks:
        found = lives(recorded.session_id) if covered else None
        if recorded.allowed and found is not None and found[0].verdict == SurveyVerdict.NO:
            return ReplayedCall(Standing.FLIPPED, "it was to be denied", comes_out(found[0]))
        return ReplayedCall(Standing.UNDECIDABLE, "chain")
    if recorded.allowed:
        return ReplayedCall(Standing.FLIPPED, "an allow names the blocks that it rests on")
    stage = recorded.stage
    if _unlooked(recorded) or stage in (Stage.NONE, Stage.DECODE):
        return ReplayedCall(Standing.ON_TRUST, "token")
    if stage == Stage.NEEDS:
        return ReplayedCall(Standing.ON_TRUST, "needs")
    if stage > Stage.SIGNATURE:
        why = "a denial after the signature stage names the blocks that it is about"
        return ReplayedCall(Standing.DIFFERENT_REASON, why)
    trusted = ReplayedCall(Standing.ON_TRUST, Stage(stage).name.lower())
    if not recorded.claimed:
        return trusted
    if not covered:
        return ReplayedCall(Standing.UNDECIDABLE, "state")
    found = lives(bytes.fromhex(recorded.claimed))
    if found is None:
        return ReplayedCall(Standing.UNDECIDABLE, "session")
    out, has_session = found
    if stage == Stage.SESSION:
        return _of_session(recorded, out, has_session)
    return trusted if out.verdict != SurveyVerdict.NO else _contradicted(recorded, out)


def _contradicts_itself(recorded: LoggedDecision) -> bool:
    return recorded.allowed is not (recorded.word == "ALLOWED")


def _unlooked(recorded: LoggedDecision) -> bool:
    """Return True if the call was denied without a look at the token: no space to watch it, for one."""
    no_room = recorded.word == "MALFORMED_REQUEST" and recorded.argument == "watch" and not recorded.blocks
    return no_room or recorded.word in UNLOOKED


def _of_session(recorded: LoggedDecision, out: Redecision, has_session: bool) -> ReplayedCall:
    """Compare a refusal at stage ``session``."""
    if out.verdict == SurveyVerdict.NO and out.stage == Stage.SESSION and out.reason == recorded.reason:
        return ReplayedCall(Standing.CONFIRMED)
    if recorded.reason == Reason.STATE_BRAKED:
        return ReplayedCall(Standing.ON_TRUST, "brake")
    if recorded.reason == Reason.STALE_STATE:
        return ReplayedCall(Standing.ON_TRUST, "revision")
    if recorded.reason == Reason.WRONG_SESSION and has_session:
        return ReplayedCall(Standing.ON_TRUST, "session")
    if recorded.reason == Reason.LEASE_LAPSED and out.may_have_lapsed:
        return ReplayedCall(Standing.ON_TRUST, "lease")
    return _contradicted(recorded, out)


def _contradicted(recorded: LoggedDecision, out: Redecision) -> ReplayedCall:
    return ReplayedCall(Standing.DIFFERENT_REASON, f"{recorded.word} does not come out", comes_out(out))


def comes_out(out: Redecision) -> str:
    """Return the result in words."""
    if out.verdict == SurveyVerdict.YES:
        return "its scopes admit it"
    if out.verdict == SurveyVerdict.MAYBE:
        return "it depends on its arguments"
    return verdict_text(out.reason, out.stage, out.level, out.index, out.scope, out.clause)


@dataclass(frozen=True, slots=True)
class KnownChainCase:
    """One decision about a known chain, and ``out``, the result of evaluating it again.

    ``out`` was computed with ``knows_state``, ``knows_issuer`` and ``knows_arguments``; ``has_session``: the
    session exists; ``same_token``: the blocks are those of its token elsewhere; ``unknown``: a word for the
    information that is missing without the state.
    """

    recorded: LoggedDecision
    chain: LoggedChain
    out: Redecision
    knows_state: bool
    knows_issuer: bool
    knows_arguments: bool
    has_session: bool
    same_token: bool
    unknown: str

    def compare(self) -> ReplayedCall:
        """Return the standing of the record."""
        if _contradicts_itself(self.recorded):
            return ReplayedCall(
                Standing.FLIPPED, "allowed and reason contradict each other", self.comes_out()
            )
        call = self.allowed() if self.recorded.allowed else self.denied()
        if not self.knows_state and call.standing not in FOUND:
            return ReplayedCall(Standing.UNDECIDABLE, self.unknown)
        return call

    def comes_out(self) -> str:
        """Return the result in words."""
        if self.recorded.token_only and self.out.verdict == SurveyVerdict.YES:
            return "the token is valid"
        return comes_out(self.out)

    def allowed(self) -> ReplayedCall:
        """Compare an allow."""
        out = self.out
        if out.verdict == SurveyVerdict.NO:
            return ReplayedCall(Standing.FLIPPED, "it was to be denied", self.comes_out())
        if not out.match_fits:
            return self._differs("another scope than the one that it says admitted it")
        if wrong := self._wrong_name():
            return wrong
        comes_out = out.level, out.index, out.scope, out.clause, out.argument
        if not out.observed_fits or (out.exact and self._position() != comes_out):
            return self._differs("another refusal of a ceiling in observe mode than recorded")
        if out.verdict == SurveyVerdict.MAYBE:
            return ReplayedCall(Standing.UNDECIDED, "tool" if self.knows_arguments else "arguments")
        doubts = self._doubts()
        return ReplayedCall(Standing.ON_TRUST, doubts[0]) if doubts else ReplayedCall(Standing.CONFIRMED)

    def denied(self) -> ReplayedCall:
        """Compare a denial."""
        recorded, out = self.recorded, self.out
        if _unlooked(recorded) or recorded.stage == Stage.NONE:
            return ReplayedCall(Standing.ON_TRUST, "fault")
        if out.verdict == SurveyVerdict.NO and out.stage < recorded.stage:
            return self._contradicted()
        if recorded.stage > Stage.SIGNATURE and (wrong := self._wrong_name()):
            return wrong
        if recorded.token_only and recorded.stage > Stage.SCOPE:
            return self._contradicted()
        if recorded.stage in _OF_STATE and not self.knows_state:
            return ReplayedCall(Standing.UNDECIDABLE)
        match recorded.stage:
            case Stage.SESSION:
                call = _of_session(recorded, out, self.has_session)
                return self._contradicted() if call.standing in FOUND else call
            case Stage.ISSUER:
                return self._same_or(not self.knows_issuer, "issuer")
            case Stage.SIGNATURE:
                # A signature that was valid once is valid; without a block none was verified.
                return self._same_or(recorded.index < 0, "signature")
            case Stage.TIME:
                return self._same_or(recorded.reason == Reason.CLOCK_SUSPECT, "clock")
            case Stage.AUDIENCE:
                return self._audience()
            case Stage.REVOCATION:
                return self._same_or(False, "")
            case Stage.SCOPE:
                return self._scope()
            case Stage.PROOF:
                return self._proof()
            case Stage.NEEDS:
                return self._needs()
        # Stage decode: the chain is well-formed, since its signatures were valid elsewhere.
        return self._contradicted()

    def _wrong_name(self) -> ReplayedCall | None:
        recorded = self.recorded
        if recorded.token_only and (recorded.action or recorded.resource or recorded.arguments):
            return self._differs("a check of a token alone has no call")
        if not recorded.blocks:
            return self._differs("a verdict after the signature stage names the blocks that it is about")
        if not self.same_token:
            return self._differs("other blocks than its token has elsewhere")
        if recorded.session != self.chain.session_id.hex():
            return self._differs("another session than its blocks say")
        if self.knows_state and recorded.epoch != self.out.epoch:
            return self._differs(f"the session was at epoch {self.out.epoch}, not {recorded.epoch}")
        return None

    def _doubts(self) -> list[str]:
        """Return the stages that stay on trust after a yes of the scopes."""
        out = self.out
        needs_proof = self.chain.bound and not self.recorded.token_only
        doubts = ((needs_proof, "proof"), (out.may_cost, "needs"), (out.peers, "peer"))
        return [name for there, name in (*doubts, (out.may_have_lapsed, "lease")) if there]

    def _differs(self, why: str) -> ReplayedCall:
        return ReplayedCall(Standing.DIFFERENT_REASON, why, self.comes_out())

    def _contradicted(self) -> ReplayedCall:
        """Return a contradicted denial: flipped, if the call was surely to be allowed."""
        out = self.out
        if self.knows_state and out.verdict == SurveyVerdict.YES and not self._doubts():
            return ReplayedCall(Standing.FLIPPED, "it was to be allowed", Reason.ALLOWED.name)
        return self._differs(f"{self.recorded.word} does not come out")

    def _position(self) -> tuple[int, int, int, int, str]:
        recorded = self.recorded
        return recorded.level, recorded.index, recorded.scope, recorded.clause, recorded.argument

    def _same(self) -> bool:
        recorded, out = self.recorded, self.out
        return (
            out.verdict == SurveyVerdict.NO
            and (out.reason, out.stage) == (recorded.reason, recorded.stage)
            and (out.level, out.index, out.scope, out.clause, out.argument) == self._position()
        )

    def _same_or(self, trusted: bool, word: str) -> ReplayedCall:
        if self._same():
            return ReplayedCall(Standing.CONFIRMED)
        return ReplayedCall(Standing.ON_TRUST, word) if trusted else self._contradicted()

    def _audience(self) -> ReplayedCall:
        recorded, out = self.recorded, self.out
        reached = out.verdict != SurveyVerdict.NO or out.stage > Stage.AUDIENCE or recorded.index < out.index
        states = recorded.level == Level.BLOCK and recorded.index >= 0 and out.peers >> recorded.index & 1
        return self._same_or(bool(recorded.reason == Reason.WRONG_PEER and reached and states), "peer")

    def _scope(self) -> ReplayedCall:
        recorded, out = self.recorded, self.out
        if self._same():
            return ReplayedCall(Standing.CONFIRMED)
        if recorded.reason == Reason.MALFORMED_REQUEST and recorded.level == Level.NONE:
            return self._malformed()
        if not self.knows_state and recorded.level == Level.CEILING:
            return ReplayedCall(Standing.UNDECIDABLE)
        if out.exact or out.verdict == SurveyVerdict.YES or not out.position_fits:
            return self._contradicted()
        if out.verdict == SurveyVerdict.NO:
            return ReplayedCall(Standing.CONFIRMED)
        return ReplayedCall(Standing.UNDECIDED, "tool" if self.knows_arguments else "arguments")

    def _malformed(self) -> ReplayedCall:
        """Compare a denial of a malformed request."""
        recorded, out = self.recorded, self.out
        earlier = (
            out.verdict == SurveyVerdict.NO and out.reason == Reason.MALFORMED_REQUEST and out.level == 0
        )
        if recorded.argument in ("action", "resource") and recorded.lossy:
            return ReplayedCall(Standing.ON_TRUST, "text")
        if recorded.argument == "tool" and not earlier:
            return ReplayedCall(Standing.ON_TRUST, "tool")
        if recorded.argument == "arguments" and not earlier and not self.knows_arguments:
            return ReplayedCall(Standing.UNDECIDED, "arguments")
        return self._contradicted()

    def _proof(self) -> ReplayedCall:
        last = self.recorded.blocks.count(",")
        if not self.chain.bound or (self.recorded.level, self.recorded.index) != (Level.BLOCK, last):
            return self._contradicted()
        return ReplayedCall(Standing.ON_TRUST, "proof")

    def _needs(self) -> ReplayedCall:
        index = self.recorded.index
        # A permit that the request asked for, or a retry, may be refused at no position.
        if index >= 0 and not self.out.may_cost >> index & 1:
            return self._contradicted()
        return ReplayedCall(Standing.ON_TRUST, "needs")


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

    ``audit verify`` proves that their lines are as written. ``arguments`` are those of calls by their digests
    (``read_arguments``). With ``session_id`` (16 bytes) only decisions of that session are made again. With
    ``trial`` allowed calls are evaluated by its ceiling, too. ``on_decision`` is called with each decision
    and its standing. Raises StateUnusable if the folder or a file of it can't be read.
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
            call = self._evaluate(recorded, revision)
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

    def _evaluate(self, recorded: LoggedDecision, revision: int) -> ReplayedCall:
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


def read_arguments(path: Path, folder: Path) -> dict[str, bytes]:
    """Return the arguments in a file by the digests that the log of a folder has of them.

    Each line is the JSON of one call's arguments, byte for byte; or, if that has line feeds, a JSON text that
    holds it. Raises UsageError if the file can't be read, KeyFolderError if the folder's arguments key can't
    be.
    """
    key = ArgumentsKey.load(folder / layout.ARGUMENTS_KEY_FILE)
    by_digest: dict[str, bytes] = {}
    try:
        with path.open("rb") as file:
            for line in file:
                arguments = _unwrapped(line.rstrip(b"\r\n"))
                by_digest[key.digest(arguments)] = arguments
    except OSError as error:
        raise UsageError(f"can't read the arguments {path}: {error.strerror}") from None
    return by_digest


def _unwrapped(line: bytes) -> bytes:
    if not line.startswith(b'"'):
        return line
    try:
        text = json.loads(line)
    except ValueError:
        return line
    return text.encode("utf-8", "surrogatepass") if isinstance(text, str) else line
