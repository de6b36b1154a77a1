"""Evidence packs for the commands: their sources, and a pack and its proof as JSON and as lines.

The sources are audit folders with their keys, and a server's records of sessions.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from ... import __version__
from ...audit import layout
from ...audit.layout import public_keys
from ...audit.read.story import AuditHost
from ...audit.write import stream_register
from ...errors import NotFound, Rejected
from ...evidence.pack import PackSources, SessionPapers
from ...evidence.reader.crypto import TrustedKeys, by_id, of_jwks
from ...evidence.reader.manifest import PackManifest, PackQuestion
from ...evidence.reader.verify import EvidenceReport, SessionReading
from ...model.change import Rejection
from ...usage.tighten import Fit
from ..context import Settings
from ..output import attributes, json_fields, moment, printable, table
from . import usage as usage_view

if TYPE_CHECKING:
    from ...client import Client


@contextmanager
def pack_sources(
    settings: Settings, hosts: Sequence[AuditHost], *, no_server: bool, argument_values: bool
) -> Iterator[PackSources]:
    """Yield the sources.

    Raises KeyFolderError if the keys of a log can't be read, and errors of the server.
    """
    folders = [(host.folder, _audit_keys(host)) for host in hosts]
    made_by = f"sessauth {__version__}"
    if no_server:
        yield PackSources(folders, {"keys": []}, lambda session: SessionPapers(), made_by)
        return
    with settings.client() as client:

        def papers(session: str) -> SessionPapers:
            return _papers(client, bytes.fromhex(session), settings.clock.now_ms(), argument_values)

        yield PackSources(folders, json.loads(client.jwks()), papers, made_by)


def trusted_keys(sources: PackSources, signing_key: bytes) -> TrustedKeys:
    """Return the keys of the sources, to verify a new pack by."""
    audit = [key for _, keys in sources.folders for key in keys]
    return TrustedKeys(by_id(audit), of_jwks(sources.issuer_jwks), by_id([signing_key]))


def _audit_keys(host: AuditHost) -> list[bytes]:
    """Return the keys that the state folder knows of a log, else those of the audit folder."""
    register = stream_register.read(host.state_dir) if host.state_dir is not None else None
    keys = register.keys if register is not None else public_keys(host.folder / layout.PUBLIC_FILE)
    return list(keys.values())


def _papers(client: Client, session_id: bytes, now_ms: int, argument_values: bool) -> SessionPapers:
    try:
        report = client.get_report(session_id)
    except NotFound:
        # Purged: the log has it still.
        return SessionPapers()
    try:
        receipt = client.get_receipt(session_id).text
    except Rejected as error:
        # It lives.
        if error.word != Rejection.WRONG_STATUS.value:
            raise
        receipt = ""
    fits = tuple(Fit) if argument_values else ()
    document = usage_view.to_json([report], usage_view.joined([report], now_ms, None, fits))
    return SessionPapers(receipt, document if argument_values else _without_values(document))


def _without_values(document: dict[str, Any]) -> dict[str, Any]:
    """Return a report without values of arguments, and without scopes that were suggested from them."""
    usage = document["usage"]
    if usage is None:
        return document
    layers = [
        {**_parts(layer, _OF_LAYER), "scopes": [_parts(scope, _OF_SCOPE) for scope in layer["scopes"]]}
        for layer in usage["layers"]
    ]
    left = {**_parts(usage, _OF_USAGE), "layers": layers, "argument_values": "left out"}
    return {**document, "usage": left}


def _parts(document: dict[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name in names}


# No value of an argument is in these. An addition of a later version stays out until it is listed here.
_OF_USAGE: Final = frozenset(
    {
        *("format", "made_at_ms", "purpose", "sessions", "allowed", "denied", "denied_calls", "observed"),
        *("resources", "tokens_used", "incomplete"),
    }
)
_OF_LAYER: Final = frozenset(
    {
        *("id", "kind", "sessions", "scopes_granted", "scopes_used", "scopes_never_used"),
        "calls_by_unknown_scope",
    }
)
_OF_SCOPE: Final = frozenset(
    {
        *("scope", "used", "calls", "first_ms", "last_ms"),
        *("actions_granted", "actions_used", "resources_granted"),
    }
)


_SHOWN_SESSIONS = 50
_SHOWN_FINDINGS = 100


def to_json(report: EvidenceReport) -> dict[str, Any]:
    """Return a report as JSON values."""
    stated = report.manifest
    return {
        "proven": report.proven,
        "findings": [json_fields(finding, kind=finding.kind.value) for finding in report.findings],
        "not_proven": list(_reservations(report)),
        "made_at_ms": stated.made_at_ms if stated else 0,
        "signing_key": stated.signing_key.hex() if stated else "",
        "question": json_fields(stated.question, sessions=sorted(stated.question.sessions))
        if stated
        else None,
        "streams": [
            {
                **attributes(each, "stream", "process", "first", "shown", "closed"),
                **attributes(each, "proven", "vouched", "unsigned", "ended"),
            }
            for each in report.streams
        ],
        "sessions": [_session_json(each, verified=report.issuer_trusted) for each in report.sessions],
    }


def to_lines(report: EvidenceReport) -> list[str]:
    """Return a report as lines."""
    lines = []
    for finding in report.findings[:_SHOWN_FINDINGS]:
        place = f" {finding.member}" if finding.member else ""
        place += f":{finding.line}" if finding.line else ""
        number = f" (n {finding.n})" if finding.n >= 0 else ""
        lines.append(printable(f"{finding.kind.value}{place}{number}: {finding.words}"))
    if len(report.findings) > _SHOWN_FINDINGS:
        lines.append(f"and {len(report.findings) - _SHOWN_FINDINGS} more findings")
    stated = report.manifest
    if stated is None:
        return [*lines, "NOT PROVEN: this is no whole pack"]
    question = stated.question
    span = f"from {moment(question.since_ms) or 'the beginning'} until {moment(question.until_ms)}"
    lines += [f"question  {_title(question)}, {span}", f"made      {moment(stated.made_at_ms)}"]
    lines += [f"signed by {stated.signing_key.hex()}", ""]
    headers = ("STREAM", "PROCESS", "SHOWN", "BY THE LOG", "BY THE PACK", "CLOSED")
    rows = [
        (each.stream[:12], each.process, each.shown, each.proven, each.vouched, each.closed)
        for each in report.streams
    ]
    lines += [*table(headers, rows), ""]
    lines += _session_lines(report)
    reservations = list(_reservations(report))
    lines += ["not proven:", *[f"  {words}" for words in reservations], ""]
    if report.proven:
        return [*lines, "PROVEN: the pack is what its signer wrote, and agrees with the log's signatures"]
    return [*lines, f"NOT PROVEN: {len(report.findings)} findings"]


def _title(question: PackQuestion) -> str:
    if question.kind == "time":
        return "everything"
    if question.kind == "purpose":
        return f"{len(question.sessions)} sessions of purpose {printable(question.purpose)}"
    below = len(question.sessions) - 1
    return f"session {question.root}" + (f" and {below} that descend from it" if below else "")


def _session_json(reading: SessionReading, *, verified: bool) -> dict[str, Any]:
    facts = reading.facts
    receipt = None if reading.receipt is None else {**json_fields(reading.receipt), "verified": verified}
    return {
        "session": facts.session,
        **facts.counts(),
        **attributes(facts, "first_ms", "last_ms", "last_allow_ms", "observed"),
        "observe": reading.observe,
        "receipt": receipt,
    }


def _session_lines(report: EvidenceReport) -> list[str]:
    readings = report.sessions
    headers = ("SESSION", "ALLOWED", "OBSERVED", "DENIED", "CLAIMED", "CHANGES", "LAST ALLOW", "RECEIPT")
    rows = [
        (
            each.facts.session,
            each.facts.allowed,
            each.facts.observed,
            each.facts.denied,
            each.facts.claimed,
            each.facts.changes,
            moment(each.facts.last_allow_ms) or "none",
            "none" if not each.receipt else each.receipt.state if report.issuer_trusted else "UNVERIFIED",
        )
        for each in readings[:_SHOWN_SESSIONS]
    ]
    more = len(readings) - _SHOWN_SESSIONS
    if not rows:
        return []
    lines = [*table(headers, rows), *([f"and {more} more sessions"] if more > 0 else [])]
    return [*lines, *_observe_lines(readings), ""]


def _observe_lines(readings: Sequence[SessionReading]) -> list[str]:
    """Return a line on sessions in observe mode; none without them."""
    observing = sum(each.observe for each in readings)
    if not observing:
        return []
    calls = sum(each.facts.observed for each in readings)
    allowed = sum(each.facts.allowed for each in readings)
    return [
        f"OBSERVE MODE: {observing} of {len(readings)} session(s), for their lives or a part of them; their "
        f"ceilings refused nothing then: {calls} of {allowed} allowed calls by that alone"
    ]


def _limits(stated: PackManifest, report: EvidenceReport) -> Iterator[str]:
    """Yield the actions that the question leaves out, and those before the log."""
    question = stated.question
    if question.until_ms < stated.made_at_ms:
        yield f"what was done from {moment(question.until_ms)} on: the question ends there"
    if report.unopened:
        words = f"what {report.unopened} of {len(report.sessions)} sessions did before the log here"
        yield f"{words}, which lacks their opening"
    if report.untitled:
        title = "are of the purpose or descend" if question.kind == "purpose" else "descend"
        words = f"that {report.untitled} of {len(report.sessions)} sessions {title} from one that is"
        yield f"{words}, as their openings would show: the signer's word"
    if question.kind == "purpose":
        yield "that no session of the purpose was opened before the log begins"


def _reservations(report: EvidenceReport) -> Iterator[str]:
    """Yield the facts that a pack without findings does not prove."""
    closed = 0 if report.compared else sum(each.closed for each in report.streams)
    vouched = 0 if report.compared else sum(each.vouched for each in report.streams)
    if closed:
        words = f"that none of the {closed} closed records is of the question, or opens a session of it"
        yield f"{words}: the signer's word"
    if vouched:
        yield f"that {vouched} records without a signature of the log are those of the log: the signer's word"
    if report.left_out and not report.compared:
        yield f"that {report.left_out} streams that were left out are of another time: the signer's word"
    running = [each.signed_ms for each in report.streams if not each.ended and not each.goes_on]
    if running:
        words = f"records behind the last signature of {len(running)} streams that did not end"
        yield f"{words}, the newest at {moment(max(running)) or 'no time'}"
    if report.manifest is not None:
        yield from _limits(report.manifest, report)
    if report.expired:
        yield f"records of {report.expired} streams that retention removed, as the log states"
    if report.missing_hosts:
        yield f"calls on hosts without a log here: {', '.join(map(printable, report.missing_hosts))}"
    if report.short_hosts:
        words = "calls on hosts whose log here stops before a session ended"
        yield f"{words}: {', '.join(map(printable, report.short_hosts))}"
    if report.lost:
        yield f"{report.lost} records that the log lost, as it states"
    if report.sampled:
        yield "allowed calls that were not recorded: of some records a share below 1 was kept"
    without = sum(each.receipt is None for each in report.sessions)
    if without:
        yield f"that {without} of {len(report.sessions)} sessions are closed: they have no receipt here"
    open_ones = sum(each.receipt is not None and each.receipt.state != "CLOSED" for each in report.sessions)
    if open_ones:
        words = "their receipts are PARTIAL or UNKNOWN"
        yield f"that {open_ones} of {len(report.sessions)} sessions are closed: {words}"
    if report.unrecorded:
        words = "their receipts name an allowed call that is later than any record here"
        yield f"what {report.unrecorded} of {len(report.sessions)} sessions did last: {words}"
    observing = sum(each.observe for each in report.sessions)
    if observing:
        words = "they were in observe mode"
        yield f"that the ceilings of {observing} of {len(report.sessions)} sessions held: {words}"
    if report.manifest is not None:
        yield "README.txt, controls.json, and the words of the manifest on its maker: the signer's word"
    if report.reports:
        yield "reports of usage: the service's word"
    if report.sessions and not report.issuer_trusted:
        words = "the keys of the service, which sign receipts: the signer's word"
        yield f"{words}; --key takes what keys jwks prints"
    yield "calls that asked no verifier"
