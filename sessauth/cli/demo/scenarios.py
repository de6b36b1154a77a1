"""Six scenarios, each a session from its opening to its end, with the expected reason beside each call."""

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
    with demo.client.session(
        subject="coding-assistant", purpose="ticket 482", ceiling=[scope], labels={"ticket": "482"}
    ) as session:
        token = session.mint([scope], [AUDIENCE])
        demo.check("assistant", token, tool("get_file_contents", "web"), Reason.ALLOWED)
        demo.check("assistant", token, tool("list_commits", "web"), Reason.ALLOWED)
        demo.check("assistant", token, tool("get_file_contents", "billing"), Reason.CONDITION_FAILED)
        demo.check("assistant", token, tool("create_branch", "web"), Reason.OUT_OF_SCOPE)
        try:
            catalogue.request("delete_repository")
        except UnknownTool:
            narrate("a tool that the server added later is not in the pinned catalogue: not even asked")
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
    command = [sys.executable, "-m", "sessauth.cli.demo.orchestrator", str(demo.made.home), str(LEASE_MS)]
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
