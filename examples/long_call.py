"""A gateway stops a running tool when its session ends.

Prints:

    report starts: allowed
    the user closes the conversation
    report stops: withdrawn, SESSION_ENDED
    may it go on: False
"""

from __future__ import annotations

from sessauth.client import CheckItem, Client

CEILING = ["read:warehouse/**"]


def main() -> None:
    """Watch a long call, and print its withdrawal."""
    with Client() as client:
        session = client.open_session(subject="agent:reporter", purpose="conversation 12", ceiling=CEILING)
        token = client.mint(session.id, CEILING, ["gateway"])
        with client.watch(audience="gateway") as watch:
            report = watch.ask(CheckItem(token, "read", "warehouse/sales/2026"))
            print(f"report starts: {'allowed' if report else 'denied'}")
            client.end(session.id)
            print("the user closes the conversation")
            for call in watch:
                if call.withdrawn is not None:
                    print(f"report stops: withdrawn, {call.withdrawn.reason.name}")
                    break
            print(f"may it go on: {bool(report)}")


if __name__ == "__main__":
    main()
