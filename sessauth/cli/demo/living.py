"""The demo's console: a few living sessions whose agents keep calling, and the pages that show them."""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final

from ...approvals.approver import ApproverKey
from ...client import Client
from ...errors import SessauthError
from ...testing.local_service import LocalService
from ...tokens.token import Token
from ..commands.approval import serve_console
from ..context import Settings
from .environment import AUDIENCE, open_demo

PAUSE_S: Final = 0.4
# Made without a pause.
FIRST_CALLS: Final = 150
_HOUR_MS: Final = 3_600_000
_FILES: Final = ("setup.py", "README.md", "src/app.py", "src/db.py")


@dataclass(frozen=True, slots=True)
class LivingAgent:
    """A token, and the calls that its holder chooses from."""

    token: Token
    calls: tuple[tuple[str, str, dict[str, Any]], ...]


def run_console(settings: Settings, port: int, announce: Callable[[str], None]) -> None:
    """Serve a console over living sessions until Ctrl-C."""
    with open_demo() as environment:
        key = ApproverKey.generate()
        key_file = environment.service.home / "ann.key"
        key.save(key_file)
        agents = _open_sessions(environment.client, key)
        announce(f"approve  sessauth --home {environment.service.home} approval ui --approver-key {key_file}")
        with _calling(environment.service, agents):
            own = replace(settings, home=environment.service.home, target=None, credential_file=None)
            terms: dict[str, Any] = {"allow_changes": True, "audit": environment.audit_dir, "server": "demo"}
            serve_console(own, port=port, login_ms=8 * _HOUR_MS, **terms)


def _open_sessions(client: Client, key: ApproverKey) -> list[LivingAgent]:
    """Open the sessions, and mint their tokens."""
    ticket = client.open_session(
        subject="agent:orchestrator",
        purpose="ticket 4711: login fails",
        ceiling=[
            "read:mcp/github/** free *",
            'write:mcp/github/* where repo == "web" free *',
            "write:mcp/slack/post free *",
            "pay:** free *",
        ],
        labels={"team": "web"},
        lease_ms=_HOUR_MS,
    )
    review = client.open_session(
        subject="agent:reviewer",
        purpose="ticket 4711: review",
        parent_id=ticket.id,
        ceiling=["read:mcp/github/** free *"],
    )
    travel = client.open_session(
        subject="agent:travel", purpose="trip to Oslo", ceiling=["read:** free *", "pay:hotel free *"]
    )
    release = client.open_session(
        subject="agent:deployer", purpose="release 1.2", ceiling=["deploy:** free *"], lease_ms=_HOUR_MS
    )
    quiet = client.open_session(subject="agent:reports", purpose="weekly report", ceiling=["read:db/**"])
    client.suspend(quiet.id, "waiting for the figures")
    done = client.open_session(subject="agent:reviewer", purpose="ticket 4709", ceiling=["read:mcp/**"])
    client.end(done.id, "ticket closed")
    audience = [AUDIENCE]
    root = client.mint(
        ticket.id,
        ["read:mcp/github/* free *", "write:mcp/github/* free *"],
        audience,
        label="planner",
        ending="open",
    )
    worker = root.attenuate(scopes=["read:mcp/github/get_* free *"], label="worker")
    files = tuple(
        ("read", "mcp/github/get_file_contents", {"owner": "acme", "repo": "web", "path": path})
        for path in _FILES
    )
    issues = (
        ("write", "mcp/github/create_issue", {"repo": "web", "title": "login fails"}),
        ("write", "mcp/github/create_issue", {"repo": "payroll", "title": "login fails"}),
    )
    needs = f'deploy:prod/** free * needs approval(1, "{key.text}")'
    return [
        LivingAgent(root.present(), (*files, *issues)),
        LivingAgent(worker.present(), (*files, ("read", "mcp/github/list_secrets", {}))),
        LivingAgent(
            client.mint(review.id, ["read:mcp/github/get_* free *"], audience, label="reviewer"),
            (*files, ("read", "mcp/github/get_pull_request", {"number": 17})),
        ),
        LivingAgent(
            client.mint(travel.id, ["read:hotel/** free *", "pay:hotel free *"], audience, label="travel"),
            (
                ("read", "hotel/oslo/offers", {"nights": 2}),
                ("pay", "hotel", {"amount": 180, "currency": "EUR"}),
                ("pay", "flight", {"amount": 420, "currency": "EUR"}),
            ),
        ),
        LivingAgent(
            client.mint(release.id, ["deploy:staging/** free *", needs], audience, label="deployer"),
            (("deploy", "staging/api", {"version": "1.2"}), ("deploy", "prod/api", {"version": "1.2"})),
        ),
    ]


@contextlib.contextmanager
def _calling(service: LocalService, agents: list[LivingAgent]) -> Iterator[None]:
    """Let the agents call, one after the other, until the block ends."""
    over = threading.Event()
    choice = random.Random(4711)

    def call_on() -> None:
        # The control process counts its own checks at once; workers and verifiers report theirs later.
        with Client(service.target, credential_file=service.credential_file, timeout_ms=5000) as client:
            for number in itertools.count():
                if over.wait(0 if number < FIRST_CALLS else PAUSE_S):
                    break
                agent = choice.choice(agents)
                action, resource, arguments = choice.choice(agent.calls)
                # A server that is about to stop answers no more.
                with contextlib.suppress(SessauthError):
                    client.check(agent.token, action, resource, json.dumps(arguments), audience=AUDIENCE)

    thread = threading.Thread(target=call_on, name="agents", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(10)
