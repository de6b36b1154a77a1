"""The demo: six scenarios, each a session from its opening to its end.

Each call is stated with the expected reason, and its answers are printed as they come. At the end every token
is presented once more, and none may be accepted. The evidence comes last: receipts, the replayed audit log,
and unused authority.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, Final, TypeVar

from ...approvals.approver import Approver, ApproverKey
from ...audit.replay import replay
from ...audit.verify.verify import verify as verify_log
from ...clock import SystemClock
from ...decisions.tool_catalog import ToolCatalog
from ...errors import Unavailable, UnknownTool, WidensAuthority
from ...model.receipt import Receipt, ReceiptState
from ...model.receipt import verify as verify_receipt
from ...reasons import Reason
from ...tokens.prover import HolderKey
from ...tokens.token import Token
from ...usage.profile import CEILING
from ...usage.suggest import suggest
from ...usage.tighten import Fit
from ...verifier.receipt_check import CoverageKind, check_token_against
from ..render.usage import joined
from .environment import AUDIENCE, DemoCall, DemoDecision, DemoEnvironment, Prove, open_demo

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


# Shows one line of text.
Narrate = Callable[[str], None]

LEASE_MS = 1500

# The part of an MCP server's tools/list that an operator pinned; see sessauth.decisions.tool_catalog.
GITHUB_TOOLS = [
    {"name": "get_file_contents", "annotations": {"readOnlyHint": True}},
    {"name": "list_commits", "annotations": {"readOnlyHint": True}},
    {"name": "create_branch", "annotations": {"readOnlyHint": False}},
]


def coding_assistant(demo: DemoEnvironment, narrate: Narrate) -> None:
    """Read-only access to one repository for one ticket, gone when the ticket closes."""
    catalogue = ToolCatalog.from_mcp("github", GITHUB_TOOLS)
    scope = 'read:mcp/github/* where owner == "acme" and repo == "web" free *'

    def tool(name: str, repo: str) -> DemoCall:
        action, resource = catalogue.request(name)
        return DemoCall(
            action, resource, json.dumps({"owner": "acme", "repo": repo, "path": "README.md"}).encode()
        )

    narrate(f"opens for ticket 482, held to  {scope}")
    session, token = demo.client.open_and_mint(
        [scope],
        [AUDIENCE],
        subject="coding-assistant",
        purpose="ticket 482",
        ceiling=[scope],
        labels={"ticket": "482"},
    )
    demo.check("assistant", token, tool("get_file_contents", "web"), Reason.ALLOWED)
    demo.check("assistant", token, tool("list_commits", "web"), Reason.ALLOWED)
    demo.check("assistant", token, tool("get_file_contents", "billing"), Reason.CONDITION_FAILED)
    demo.check("assistant", token, tool("create_branch", "web"), Reason.OUT_OF_SCOPE)
    try:
        catalogue.request("delete_repository")
    except UnknownTool:
        narrate("a tool that the server added later is not in the pinned catalogue: not even asked")
    demo.client.end(session.id)
    narrate("the ticket closes, and the session with it")
    demo.check("assistant", token, tool("get_file_contents", "web"), Reason.SESSION_ENDED)


def support_agent(demo: DemoEnvironment, narrate: Narrate) -> None:
    """Billing for the case of this conversation only; the facts change mid-way."""
    scope = "read:billing/invoices where case_id == session.case_id and session.user_present == true"

    def invoices(case_id: str) -> DemoCall:
        return DemoCall("read", "billing/invoices", json.dumps({"case_id": case_id}).encode())

    narrate(f"opens with the fact case_id = C-1001, held to  {scope}")
    with demo.client.session(
        subject="support-agent",
        purpose="conversation 77",
        ceiling=[scope],
        facts={"case_id": "C-1001", "user_present": True},
    ) as session:
        token = session.mint([scope], [AUDIENCE])
        demo.check("support", token, invoices("C-1001"), Reason.ALLOWED)
        demo.check("support", token, invoices("C-2002"), Reason.CONDITION_FAILED)
        session.update_facts({"case_id": "C-2002"})
        narrate("the conversation turns to C-2002: a fact changes, no token is issued")
        demo.check("support", token, invoices("C-2002"), Reason.ALLOWED)
        demo.check("support", token, invoices("C-1001"), Reason.CONDITION_FAILED)
        session.update_facts({"user_present": False})
        narrate("the user leaves")
        demo.check("support", token, invoices("C-2002"), Reason.CONDITION_FAILED)


def document_agent(demo: DemoEnvironment, narrate: Narrate) -> None:
    """A person approves the publication of one document, once; and a stolen token is worth nothing."""
    # No server ever sees these keys.
    approver, agent = ApproverKey.generate(), HolderKey.generate()
    publish = f'publish:docs/* needs approval(1, "{approver.text}")'
    notes, plans = DemoCall("publish", "docs/release-notes"), DemoCall("publish", "docs/plans")
    read = DemoCall("read", "docs/plans")
    host = demo.client.verifier_keys().current(SystemClock().now_ms())
    if host is None:
        raise Unavailable("the server gives no key to prove calls for")

    def proves(call: DemoCall) -> Prove:
        return lambda: agent.prove(token, call.action, call.resource, call.arguments, host)

    narrate("opens for the release, with a token bound to the agent's key: each call comes with its proof")
    with demo.client.session(
        subject="document-agent", purpose="release 4.2", ceiling=["read,publish:docs/*"]
    ) as session:
        token = session.mint(["read:docs/*", publish], [AUDIENCE], to=agent.public)
        demo.check("documents", token, read, Reason.ALLOWED, proves(read))
        demo.attempt("documents", token, notes, Reason.APPROVAL_REQUIRED, proves(notes))
        request = demo.client.list_approvals(session_id=session.id).approvals[0]
        narrate(f"a person reads {request.record.action} {request.record.resource}, and signs that")
        demo.client.grant_approval(request, Approver(approver))
        demo.attempt("documents", token, notes, Reason.ALLOWED, proves(notes))
        narrate(
            "asked about twice by the gateway, as one attempt: taken once. The next attempt is another call"
        )
        demo.attempt("documents", token, notes, Reason.APPROVAL_REQUIRED, proves(notes))
        demo.attempt("documents", token, plans, Reason.APPROVAL_REQUIRED, proves(plans))
        narrate("a thief has the token, and a proof that the agent used before")
        old = proves(read)()
        demo.client.check(token, read.action, read.resource, audience=AUDIENCE, proof=old)
        demo.check("thief", token, read, Reason.PROOF_REQUIRED)
        demo.check("thief", token, read, Reason.REPLAYED, lambda: old)
        demo.check("thief", token, DemoCall("read", "docs/release-notes"), Reason.BAD_PROOF, lambda: old)


def planner(demo: DemoEnvironment, narrate: Narrate) -> None:
    """A planner narrows its session and hands a sub-agent a smaller token, offline."""
    reports = DemoCall("read", "files/reports/q3/sales.csv")
    draft = DemoCall("write", "files/reports/q3/draft.md")
    narrate("opens with read and write on files/**, and an open token that may be extended")
    with demo.client.session(
        subject="planner", purpose="quarterly report", ceiling=["read,write:files/**"]
    ) as session:
        parent = session.mint(["read,write:files/**"], [AUDIENCE], ending="open", label="planner")
        own = parent.present()
        demo.check("planner", own, draft, Reason.ALLOWED)
        child = parent.attenuate(scopes=["read:files/reports/q3/**"], label="sub-agent")
        demo.check("sub-agent", child, reports, Reason.ALLOWED)
        demo.check("sub-agent", child, DemoCall("read", "files/payroll/all.csv"), Reason.OUT_OF_SCOPE)
        demo.check("sub-agent", child, draft, Reason.OUT_OF_SCOPE)
        try:
            parent.attenuate(scopes=["read:mail/**"])
        except WidensAuthority as refused:
            narrate(f"a child with more than its parent is refused where it is made: {refused}")
        session.narrow(["read:files/reports/**"])
        narrate("the planner needs less now and narrows the session: every outstanding token at once")
        demo.check("planner", own, draft, Reason.OUT_OF_SCOPE)
        demo.check("planner", own, reports, Reason.ALLOWED)
        demo.check("sub-agent", child, reports, Reason.ALLOWED)


def deployment(demo: DemoEnvironment, narrate: Narrate) -> None:
    """A deployment token dies the moment the pipeline ends, its offline children with it."""
    scope = "deploy:cluster/staging/* where replicas <= 5 free image"

    def rollout(place: str, replicas: int) -> DemoCall:
        arguments = json.dumps({"replicas": replicas, "image": "web:1.4"}).encode()
        return DemoCall("deploy", f"cluster/{place}/web", arguments)

    narrate(f"pipeline 9131 opens, held to  {scope}")
    with demo.client.session(subject="pipeline", purpose="build 9131", ceiling=[scope]) as session:
        parent = session.mint([scope], [AUDIENCE], ending="open")
        children: dict[str, Token] = {}
        for name in ("canary", "rollout"):
            # Made offline: the server never sees them.
            children[name] = parent.attenuate(ending="open", label=name).attenuate(where=["replicas <= 3"])
        demo.check("pipeline", parent.present(), rollout("staging", 5), Reason.ALLOWED)
        demo.check("pipeline", parent.present(), rollout("staging", 50), Reason.CONDITION_FAILED)
        demo.check("pipeline", parent.present(), rollout("production", 1), Reason.OUT_OF_SCOPE)
        for name, token in children.items():
            demo.check(name, token, rollout("staging", 3), Reason.ALLOWED)
        demo.check("canary", children["canary"], rollout("staging", 5), Reason.CONDITION_FAILED)
    narrate("the pipeline ends: one write, whatever was handed out")
    demo.check("pipeline", parent.present(), rollout("staging", 5), Reason.SESSION_ENDED)
    for name, token in children.items():
        demo.check(name, token, rollout("staging", 3), Reason.SESSION_ENDED)


def retrieval_agent(demo: DemoEnvironment, narrate: Narrate) -> None:
    """The orchestrator is killed: the lease lapses, and nobody had to notice."""
    search = DemoCall("read", "index/handbook/search", b'{"query":"leave policy"}')
    command = [sys.executable, "-m", "sessauth.cli.demo.orchestrator", str(demo.service.home), str(LEASE_MS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as orchestrator:
        try:
            line = orchestrator.stdout.readline() if orchestrator.stdout else b""
            token = Token.parse(line.strip())
            narrate(
                f"an orchestrator of its own process opens a session, kept alive every {LEASE_MS} ms at most"
            )
            time.sleep(LEASE_MS / 1000 * 1.5)
            demo.check("retrieval", token, search, Reason.ALLOWED)
            demo.check("retrieval", token, DemoCall("write", "index/handbook/pages"), Reason.OUT_OF_SCOPE)
        finally:
            orchestrator.kill()
    narrate("kill -9 hits the orchestrator")
    deadline = demo.client.get_session(token.session_id).lease_deadline_ms
    time.sleep(max(0, deadline - SystemClock().now_ms()) / 1000 + 0.01)
    demo.check("retrieval", token, search, Reason.LEASE_LAPSED)


SCENARIOS = {
    "a coding assistant": coding_assistant,
    "a support agent": support_agent,
    "a document agent": document_agent,
    "a planner and its sub-agent": planner,
    "a deployment": deployment,
    "a retrieval agent": retrieval_agent,
}


_END_REASONS = {Reason.SESSION_ENDED, Reason.SESSION_EXPIRED, Reason.LEASE_LAPSED}


def run(write: Write, *, as_json: bool = False) -> int:
    """Run all scenarios, and ``write`` their calls line by line, or one JSON document at the end.

    Returns 0 if every decision was the expected one, no token is accepted at the end and the evidence of that
    holds, else 1.
    """
    show: Write = _discard if as_json else write
    with open_demo() as demo:
        show("A server with two check workers, a client, and a verifier embedded in this process.")
        show("Each call is checked by a worker over gRPC and by the embedded verifier. Three latencies in")
        show("microseconds: over gRPC, embedded at first, embedded when asked again (median of 100).\n")
        for number, (title, scenario) in enumerate(SCENARIOS.items()):
            demo.scenario = title
            show(f"({chr(ord('a') + number)}) {title}: {(scenario.__doc__ or '').splitlines()[0]}")
            shown = len(demo.decisions)

            def narrate(text: str) -> None:
                nonlocal shown
                shown = _show(demo, shown, show)
                show(f"      {text}")

            scenario(demo, narrate)
            _show(demo, shown, show)
            show("")
        survivors = _present_all_again(demo, show)
        evidence = collect(demo, show)
    wrong = [decision for decision in demo.decisions if not decision.as_expected]
    if as_json:
        write(json.dumps(_report(demo, survivors, evidence), indent=2))
    else:
        write(_summary(demo, wrong, survivors))
    return 0 if evidence.holds and not wrong and not survivors else 1


def _discard(_text: str) -> None:
    """Print nothing: the JSON comes at the end."""


def _show(demo: DemoEnvironment, start: int, show: Write) -> int:
    """Show the calls from ``start`` on; return their new count."""
    for decision in demo.decisions[start:]:
        show(_line(decision))
        if decision.explanation:
            show(f"{'':12}{decision.explanation}")
        if not decision.as_expected:
            show(f"{'':12}NOT AS EXPECTED: {decision.expected.name}, embedded {decision.embedded.name}")
    return len(demo.decisions)


def _line(decision: DemoDecision) -> str:
    verdict = "allowed" if decision.remote == Reason.ALLOWED else "DENIED"
    timing = f"{decision.remote_us:6.0f} {decision.first_us:6.1f} {decision.again_us:6.1f}"
    return f"  {verdict:8}{timing}  {decision.label}: {decision.call}"


def _present_all_again(demo: DemoEnvironment, show: Write) -> list[str]:
    """Present every token again with a call that was allowed; return those that are accepted."""
    show("Every token of every story, presented again with a call that it was allowed:")
    demo.scenario = "the end"
    survivors = []
    for name, (token, call) in list(demo.presented.items()):
        remote = demo.client.check(token.data, call.action, call.resource, call.arguments, audience=AUDIENCE)
        embedded = demo.verifier.check(token.data, call.action, call.resource, call.arguments)
        accepted = bool(remote) or bool(embedded) or remote.reason not in _END_REASONS
        show(f"  {'ACCEPTED' if accepted else 'refused':8} {remote.reason.name:16} {name}")
        if accepted:
            survivors.append(name)
    return survivors


def _report(demo: DemoEnvironment, survivors: list[str], evidence: DemoReport) -> dict[str, object]:
    calls = [
        {
            "story": decision.scenario,
            "who": decision.label,
            "call": str(decision.call),
            "expected": decision.expected.name,
            "remote": decision.remote.name,
            "embedded": decision.embedded.name,
            "remote_us": round(decision.remote_us, 1),
            "embedded_first_us": round(decision.first_us, 1),
            "embedded_again_us": round(decision.again_us, 1),
            "explanation": decision.explanation,
        }
        for decision in demo.decisions
    ]
    return {
        "calls": calls,
        "tokens_presented_again": len(demo.presented),
        "accepted": survivors,
        "evidence": evidence.to_dict(),
    }


def _summary(demo: DemoEnvironment, wrong: list[DemoDecision], survivors: list[str]) -> str:
    remote = statistics.median(decision.remote_us for decision in demo.decisions)
    embedded = statistics.median(decision.again_us for decision in demo.decisions)
    return (
        f"\n{len(demo.decisions)} calls, {len(wrong)} not as expected; {len(demo.presented)} tokens"
        f" presented again, {len(survivors)} accepted; median {remote:.0f} us over gRPC,"
        f" {embedded:.1f} us embedded"
    )
