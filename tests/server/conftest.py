from __future__ import annotations

from collections.abc import Iterator

import pytest

from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_service_pb2 as tokens
from tests.support.service import Caller, Service, running


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    """A server with default settings, shared by the tests of a module."""
    with running() as started:
        yield started


@pytest.fixture(scope="module")
def operator(service: Service) -> Caller:
    """The operator."""
    return service.operator


@pytest.fixture
def session(operator: Caller) -> sessions.Session:
    """A live session that may read all files."""
    request = sessions.OpenSessionRequest(subject="agent-7", ceiling=["read,write:files/**"])
    return operator.call("SessionService/OpenSession", request).session


@pytest.fixture
def token(operator: Caller, session: sessions.Session) -> tokens.MintResponse:
    """A sealed token of the session, for audience gw."""
    request = tokens.MintRequest(session_id=session.id, scopes=["read:files/a/**"], audience=["gw"])
    return operator.call("TokenService/Mint", request)
