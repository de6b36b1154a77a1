"""Six sessions, each from birth to death. What each call is expected to come to stands beside it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable

from ...approvals.approver import Approver, ApproverKey
from ...clock import SystemClock
from ...decisions.tool_catalog import ToolCatalog
from ...errors import Unavailable, UnknownTool, WidensAuthority
from ...reasons import Reason
from ...tokens.holder import HolderKey
from ...tokens.token import Token
from .environment import AUDIENCE, DemoCall, DemoEnvironment, Prove

# Shows a line of narration.
Tell = Callable[[str], None]

LEASE_MS = 1500

# What an operator pinned of an MCP server's tools/list; see sessauth.decisions.tool_catalog.
GITHUB_TOOLS = [
    {"name": "get_file_contents", "annotations": {"readOnlyHint": True}},
    {"name": "list_commits", "annotations": {"readOnlyHint": True}},
    {"name": "create_branch", "annotations": {"readOnlyHint": False}},
]


def coding_assistant(theatre: DemoEnvironment, tell: Tell) -> None:
    """Read-only access to one repository for one ticket, gone when the ticket closes."""
    catalogue = ToolCatalog.from_mcp("github", GITHUB_TOOLS)
    scope = 'read:mcp/github/* where owner == "acme" and repo == "web" free *'

    def tool(name: str, repo: str) -> DemoCall:
        action, resource = catalogue.request(name)
        return DemoCall(
            action, resource, json.dumps({"owner": "acme", "repo": repo, "path": "README.md"}).encode()
        )

    tell(f"opens for ticket 482, held to  {scope}")
    with theatre.client.session(
        subject="coding-assistant", purpose="ticket 482", ceiling=[scope], labels={"ticket": "482"}
    ) as session:
        token = session.mint([scope], [AUDIENCE])
        theatre.check("assistant", token, tool("get_file_contents", "web"), Reason.ALLOWED)
        theatre.check("assistant", token, tool("list_commits", "web"), Reason.ALLOWED)
        theatre.check("assistant", token, tool("get_file_contents", "billing"), Reason.CONDITION_FAILED)
        theatre.check("assistant", token, tool("create_branch", "web"), Reason.OUT_OF_SCOPE)
        try:
            catalogue.request("delete_repository")
        except UnknownTool:
            tell("a tool that the server added later is not in the pinned catalogue: not even asked")
    tell("the ticket closes, and the session with it")
    theatre.check("assistant", token, tool("get_file_contents", "web"), Reason.SESSION_ENDED)


def support_agent(theatre: DemoEnvironment, tell: Tell) -> None:
    """Billing for the case of this conversation only; the facts change mid-way."""
    scope = "read:billing/invoices where case_id == session.case_id and session.user_present == true"

    def invoices(case_id: str) -> DemoCall:
        return DemoCall("read", "billing/invoices", json.dumps({"case_id": case_id}).encode())

    tell(f"opens with the fact case_id = C-1001, held to  {scope}")
    with theatre.client.session(
        subject="support-agent",
        purpose="conversation 77",
        ceiling=[scope],
        facts={"case_id": "C-1001", "user_present": True},
    ) as session:
        token = session.mint([scope], [AUDIENCE])
        theatre.check("support", token, invoices("C-1001"), Reason.ALLOWED)
        theatre.check("support", token, invoices("C-2002"), Reason.CONDITION_FAILED)
        session.update_facts({"case_id": "C-2002"})
        tell("the conversation turns to C-2002: a fact changes, no token is issued")
        theatre.check("support", token, invoices("C-2002"), Reason.ALLOWED)
        theatre.check("support", token, invoices("C-1001"), Reason.CONDITION_FAILED)
        session.update_facts({"user_present": False})
        tell("the user leaves")
        theatre.check("support", token, invoices("C-2002"), Reason.CONDITION_FAILED)


def document_agent(theatre: DemoEnvironment, tell: Tell) -> None:
    """A person approves the publication of one document, once; and a stolen token is worth nothing."""
    # Each key stays with whom it is of: no server ever sees it.
    approver, agent = ApproverKey.generate(), HolderKey.generate()
    publish = f'publish:docs/* needs approval(1, "{approver.text}")'
    notes, plans = DemoCall("publish", "docs/release-notes"), DemoCall("publish", "docs/plans")
    read = DemoCall("read", "docs/plans")
    host = theatre.client.verifier_keys().current(SystemClock().now_ms())
    if host is None:
        raise Unavailable("the server gives no key to prove calls for")

    def proves(call: DemoCall) -> Prove:
        return lambda: agent.prove(token, call.action, call.resource, call.arguments, host)

    tell("opens for the release, with a token bound to the agent's key: each call comes with its proof")
    with theatre.client.session(
        subject="document-agent", purpose="release 4.2", ceiling=["read,publish:docs/*"]
    ) as session:
        token = session.mint(["read:docs/*", publish], [AUDIENCE], to=agent.public)
        theatre.check("documents", token, read, Reason.ALLOWED, proves(read))
        theatre.attempt("documents", token, notes, Reason.APPROVAL_REQUIRED, proves(notes))
        request = theatre.client.list_approvals(session_id=session.id).approvals[0]
        tell(f"a person reads {request.record.action} {request.record.resource}, and signs that")
        theatre.client.grant_approval(request, Approver(approver))
        theatre.attempt("documents", token, notes, Reason.ALLOWED, proves(notes))
        tell("asked about twice by the gateway, as one attempt: taken once. The next attempt is another call")
        theatre.attempt("documents", token, notes, Reason.APPROVAL_REQUIRED, proves(notes))
        theatre.attempt("documents", token, plans, Reason.APPROVAL_REQUIRED, proves(plans))
        tell("a thief has the token, and a proof that the agent used before")
        old = proves(read)()
        theatre.client.check(token, read.action, read.resource, audience=AUDIENCE, proof=old)
        theatre.check("thief", token, read, Reason.PROOF_REQUIRED)
        theatre.check("thief", token, read, Reason.REPLAYED, lambda: old)
        theatre.check("thief", token, DemoCall("read", "docs/release-notes"), Reason.BAD_PROOF, lambda: old)


def planner(theatre: DemoEnvironment, tell: Tell) -> None:
    """A planner narrows its session and hands a sub-agent a smaller token, offline."""
    reports = DemoCall("read", "files/reports/q3/sales.csv")
    draft = DemoCall("write", "files/reports/q3/draft.md")
    tell("opens with read and write on files/**, and an open token that may be extended")
    with theatre.client.session(
        subject="planner", purpose="quarterly report", ceiling=["read,write:files/**"]
    ) as session:
        held = session.mint(["read,write:files/**"], [AUDIENCE], ending="open", label="planner")
        own = held.present()
        theatre.check("planner", own, draft, Reason.ALLOWED)
        child = held.attenuate(scopes=["read:files/reports/q3/**"], label="sub-agent")
        theatre.check("sub-agent", child, reports, Reason.ALLOWED)
        theatre.check("sub-agent", child, DemoCall("read", "files/payroll/all.csv"), Reason.OUT_OF_SCOPE)
        theatre.check("sub-agent", child, draft, Reason.OUT_OF_SCOPE)
        try:
            held.attenuate(scopes=["read:mail/**"])
        except WidensAuthority as refused:
            tell(f"a child with more than its parent is refused where it is made: {refused}")
        session.narrow(["read:files/reports/**"])
        tell("the planner needs less now and narrows the session: every outstanding token at once")
        theatre.check("planner", own, draft, Reason.OUT_OF_SCOPE)
        theatre.check("planner", own, reports, Reason.ALLOWED)
        theatre.check("sub-agent", child, reports, Reason.ALLOWED)


def deployment(theatre: DemoEnvironment, tell: Tell) -> None:
    """A deployment token dies the moment the pipeline ends, its offline children with it."""
    scope = "deploy:cluster/staging/* where replicas <= 5 free image"

    def rollout(place: str, replicas: int) -> DemoCall:
        arguments = json.dumps({"replicas": replicas, "image": "web:1.4"}).encode()
        return DemoCall("deploy", f"cluster/{place}/web", arguments)

    tell(f"pipeline 9131 opens, held to  {scope}")
    with theatre.client.session(subject="pipeline", purpose="build 9131", ceiling=[scope]) as session:
        held = session.mint([scope], [AUDIENCE], ending="open")
        children: dict[str, Token] = {}
        for name in ("canary", "rollout"):
            # Made without the server: it never sees them.
            grandchild = held.attenuate(ending="open", label=name).attenuate(where=["replicas <= 3"])
            children[name] = grandchild
        theatre.check("pipeline", held.present(), rollout("staging", 5), Reason.ALLOWED)
        theatre.check("pipeline", held.present(), rollout("staging", 50), Reason.CONDITION_FAILED)
        theatre.check("pipeline", held.present(), rollout("production", 1), Reason.OUT_OF_SCOPE)
        for name, token in children.items():
            theatre.check(name, token, rollout("staging", 3), Reason.ALLOWED)
        theatre.check("canary", children["canary"], rollout("staging", 5), Reason.CONDITION_FAILED)
    tell("the pipeline ends: one write, whatever was handed out")
    theatre.check("pipeline", held.present(), rollout("staging", 5), Reason.SESSION_ENDED)
    for name, token in children.items():
        theatre.check(name, token, rollout("staging", 3), Reason.SESSION_ENDED)


def retrieval_agent(theatre: DemoEnvironment, tell: Tell) -> None:
    """The orchestrator is killed: the lease lapses, and nobody had to notice."""
    search = DemoCall("read", "index/handbook/search", b'{"query":"leave policy"}')
    command = [sys.executable, "-m", "sessauth.cli.demo.orchestrator", str(theatre.made.home), str(LEASE_MS)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as orchestrator:
        try:
            line = orchestrator.stdout.readline() if orchestrator.stdout else b""
            token = Token.parse(line.strip())
            tell(
                f"an orchestrator of its own process opens a session, kept alive every {LEASE_MS} ms at most"
            )
            time.sleep(LEASE_MS / 1000 * 1.5)
            theatre.check("retrieval", token, search, Reason.ALLOWED)
            theatre.check("retrieval", token, DemoCall("write", "index/handbook/pages"), Reason.OUT_OF_SCOPE)
        finally:
            orchestrator.kill()
    tell("kill -9 hits the orchestrator")
    deadline = theatre.client.get_session(token.session_id).lease_deadline_ms
    time.sleep(max(0, deadline - SystemClock().now_ms()) / 1000 + 0.01)
    theatre.check("retrieval", token, search, Reason.LEASE_LAPSED)


STORIES = {
    "a coding assistant": coding_assistant,
    "a support agent": support_agent,
    "a document agent": document_agent,
    "a planner and its sub-agent": planner,
    "a deployment": deployment,
    "a retrieval agent": retrieval_agent,
}
