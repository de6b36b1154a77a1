"""An orchestrator opens a session for one ticket, and the token ends with the session.

Prints:

    read acme: allowed
    read other: denied, CONDITION_FAILED
    after the ticket: denied, SESSION_ENDED
"""

from __future__ import annotations

from sessauth.client import Client
from sessauth.tokens.token import Token

CEILING = ['read:mcp/github/* where owner == "acme" and repo == "web" free *']


def ask(client: Client, token: Token, what: str, owner: str) -> None:
    """Judge one read of a file, as a gateway would, and print the decision."""
    arguments = {"owner": owner, "repo": "web", "path": "README.md"}
    decision = client.check(token, "read", "mcp/github/get_file_contents", arguments, audience="gateway")
    print(f"{what}: {'allowed' if decision else f'denied, {decision.reason.name}'}")


def main() -> None:
    """Open, mint, check, end."""
    with Client() as client:
        with client.session(
            subject="agent:reviewer", purpose="ticket 4711", ceiling=CEILING, lease_ms=30_000
        ) as session:
            token = session.mint(CEILING, ["gateway"], ttl_ms=15 * 60_000)
            ask(client, token, "read acme", "acme")
            ask(client, token, "read other", "other")
        ask(client, token, "after the ticket", "acme")


if __name__ == "__main__":
    main()
