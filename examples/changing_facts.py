"""A support agent may see billing for the case of its conversation; the case changes, the token does not.

Prints:

    case c-1 while on c-1: allowed
    case c-2 while on c-1: denied
    case c-1 while on c-2: denied
    case c-2 while on c-2: allowed
"""

from __future__ import annotations

from sessauth.client import Client


def main() -> None:
    """Mint once, then move the session's facts."""
    ceiling = ["read:billing/invoices where case == session.case_id"]
    with (
        Client() as client,
        client.session(subject="support-agent", ceiling=ceiling, facts={"case_id": "c-1"}) as session,
    ):
        token = session.mint(ceiling, ["billing"])
        for current in ("c-1", "c-2"):
            session.update_facts({"case_id": current})
            for case in ("c-1", "c-2"):
                decision = client.check(token, "read", "billing/invoices", {"case": case}, audience="billing")
                print(f"case {case} while on {current}: {'allowed' if decision else 'denied'}")


if __name__ == "__main__":
    main()
