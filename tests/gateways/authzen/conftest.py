from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from sessauth.gateways.authzen import AuthZenApp, AuthZenEvaluator
from tests.gateways.authzen.pdp import IDENTIFIER, serving
from tests.guard.shop import CEILING, SCOPES
from tests.guard.world import World
from tests.support.server_fixture import AUDIENCE


@pytest.fixture
def pdp(world: World) -> Iterator[httpx.Client]:
    """A decision point with a catalogue, that anyone may ask."""
    evaluator = AuthZenEvaluator(world.server.verifier, [world.catalogue], audience=AUDIENCE)
    with serving(AuthZenApp(evaluator, IDENTIFIER)) as client:
        yield client


@pytest.fixture
def token(world: World) -> str:
    """A token for orders and tools."""
    ceiling = (*CEILING, "read,write:mcp/tools/**")
    scopes = (*SCOPES, "read:mcp/tools/get_weather", "write:mcp/tools/pay where amount <= 100")
    minted = world.token(*scopes, session=world.session(ceiling=ceiling))
    return minted.present().text
