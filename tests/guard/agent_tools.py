"""The tools of an agent, as the plain functions that frameworks take."""

from __future__ import annotations

from collections.abc import Callable

from tests.guard.world import World


def functions(world: World) -> list[Callable[..., str]]:
    """Return the tools of the catalogue and ``drop_tables``; each calls ``world.run``."""

    def get_weather(city: str) -> str:
        """Return the weather."""
        return world.run("get_weather", city=city)

    def pay(amount: int) -> str:
        """Pay an amount."""
        return world.run("pay", amount=amount)

    def delete_repo(name: str) -> str:
        """Delete a repository."""
        return world.run("delete_repo", name=name)

    def drop_tables() -> str:
        """Drop all tables."""
        return world.run("drop_tables")

    return [get_weather, pay, delete_repo, drop_tables]
