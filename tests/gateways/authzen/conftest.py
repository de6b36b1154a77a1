from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from sessauth.gateways.authzen import AuthZenApp, AuthZenEvaluator
from tests.gateways.authzen.pdp import IDENTIFIER, serving
from tests.guard.shop import CEILING, SCOPES
from tests.guard.world import World
from tests.support.server_fixture import AUDIENCE, ServerFixture


@contextmanager
def decision_point(server: ServerFixture) -> Iterator[httpx.Client]:
    """Run a decision point with a catalogue, that anyone may ask."""
    evaluator = AuthZenEvaluator(server.verifier, [World(server).catalogue], audience=AUDIENCE)
    with serving(AuthZenApp(evaluator, IDENTIFIER)) as client:
        yield client


@pytest.fixture(scope="module")
def pdp(guard_server: ServerFixture) -> Iterator[httpx.Client]:
    """One for the tests of a module."""
    with decision_point(guard_server) as client:
        yield client


@pytest.fixture
def new_pdp(guard_server: ServerFixture) -> Iterator[httpx.Client]:
    """One that has told the operator nothing yet."""
    with decision_point(guard_server) as client:
        yield client


@pytest.fixture
def token(world: World) -> str:
    """A token for orders and tools."""
    ceiling = (*CEILING, "read,write:mcp/tools/**")
    scopes = (*SCOPES, "read:mcp/tools/get_weather", "write:mcp/tools/pay where amount <= 100")
    minted = world.token(*scopes, session=world.session(ceiling=ceiling))
    return minted.present().text
