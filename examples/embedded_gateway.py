"""A gateway on the server's host that judges in its own process, by the server's state.

Every check that starts after the server acknowledged a change sees that change, without a call to the server.

Prints:

    tools/call get_weather: forwarded
    tools/call get_weather, malformed: MALFORMED_REQUEST
    tools/call get_weather, session ended: SESSION_ENDED
"""

from __future__ import annotations

import os
from pathlib import Path

from sessauth.client import Client
from sessauth.decisions.decision import Denied
from sessauth.verifier.verifier import Verifier

HOME = Path(os.environ.get("SESSAUTH_HOME", Path.home() / ".local/state/sessauth"))


def forward(verifier: Verifier, token: str, arguments: bytes, what: str) -> None:
    """Forward a call if it is allowed, with exactly the bytes that were judged."""
    try:
        verifier.check(token, "read", "mcp/weather/get_weather", arguments).raise_if_denied()
    except Denied as denied:
        print(f"{what}: {denied.decision.reason.name}")
    else:
        print(f"{what}: forwarded")


def main() -> None:
    """Check three calls without the server, which only opens and ends the session."""
    with Client() as client, Verifier.embedded(HOME / "state", audience="weather") as verifier:
        with client.session(subject="agent", ceiling=["read:mcp/weather/* free *"]) as session:
            token = session.mint(["read:mcp/weather/* free *"], ["weather"]).text
            forward(verifier, token, b'{"city": "Bern"}', "tools/call get_weather")
            forward(verifier, token, b'{"city": NaN}', "tools/call get_weather, malformed")
        forward(verifier, token, b'{"city": "Bern"}', "tools/call get_weather, session ended")


if __name__ == "__main__":
    main()
