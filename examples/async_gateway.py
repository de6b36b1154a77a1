"""A gateway on asyncio that judges a batch of calls in one round trip.

Prints:

    search/docs: ALLOWED
    search/wiki: ALLOWED
    search/payroll: OUT_OF_SCOPE
    search//docs: MALFORMED_REQUEST
"""

from __future__ import annotations

import asyncio

from sessauth.client import AsyncClient, CheckItem


async def main() -> None:
    """Open a session, mint, judge four calls at once."""
    async with (
        AsyncClient() as client,
        client.session(subject="retrieval", ceiling=["read:search/{docs,wiki}"], lease_ms=30_000) as session,
    ):
        token = await session.mint(["read:search/*"], ["search"])
        resources = ["search/docs", "search/wiki", "search/payroll", "search//docs"]
        decisions = await client.check_batch(
            [CheckItem(token, "read", resource) for resource in resources], audience="search"
        )
        for resource, decision in zip(resources, decisions, strict=True):
            print(f"{resource}: {decision.reason.name}")


if __name__ == "__main__":
    asyncio.run(main())
