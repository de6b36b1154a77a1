"""A planner gives a sub-agent a narrower token, offline, and can revoke that token alone.

Prints:

    planner writes docs/plan.md: allowed
    sub-agent reads docs/plan.md: allowed
    sub-agent writes docs/plan.md: denied, OUT_OF_SCOPE
    refused to widen: action write
    sub-agent after revoke: denied, REVOKED
    planner after revoke: allowed
"""

from __future__ import annotations

from sessauth.client import Client
from sessauth.errors import WidensAuthority
from sessauth.tokens.token import Token


def ask(client: Client, token: Token, who: str, action: str) -> None:
    """Judge one call and print the decision."""
    decision = client.check(token, action, "files/docs/plan.md", audience="gateway")
    print(f"{who}: {'allowed' if decision else f'denied, {decision.reason.name}'}")


def main() -> None:
    """Mint an open token, narrow it twice, revoke one child."""
    with (
        Client() as client,
        client.session(subject="planner", ceiling=["read,write:files/docs/**"], lease_ms=30_000) as session,
    ):
        held = session.mint(["read,write:files/docs/**"], ["gateway"], ending="open")
        planner = held.present()

        # From here on no server takes part, until a gateway checks.
        readable = held.attenuate(scopes=["read:files/docs/**"], label="sub-agent", ending="open")
        sub_agent = readable.present()

        ask(client, planner, "planner writes docs/plan.md", "write")
        ask(client, sub_agent, "sub-agent reads docs/plan.md", "read")
        ask(client, sub_agent, "sub-agent writes docs/plan.md", "write")
        try:
            readable.attenuate(scopes=["write:files/docs/plan.md"])
        except WidensAuthority as error:
            print(f"refused to widen: {error.part.rpartition(': ')[2]}")

        # Block 1 made the sub-agent's token. The planner's token does not have it.
        session.revoke([sub_agent.block_ids[1]], "done")
        ask(client, sub_agent, "sub-agent after revoke", "read")
        ask(client, planner, "planner after revoke", "read")


if __name__ == "__main__":
    main()
