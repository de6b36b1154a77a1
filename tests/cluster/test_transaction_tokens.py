"""Transaction tokens of a cluster: each server signs with a key of its own."""

from __future__ import annotations

import base64
import json

from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_service_pb2 as pb
from tests.support.carried import OneEngine
from tests.support.cluster_servers import ClusterServer, two_servers
from tests.support.service import home_folder
from tests.support.watching import item

SETTINGS = {"issuer": "https://sessauth.corp", "trust_domains": ["https://shop.corp"]}


def kids(server: ClusterServer) -> set[str]:
    """Return the names of the keys that a server publishes."""
    answer = server.operator.call("TokenService/GetTransactionKeys", pb.GetTransactionKeysRequest())
    return {key["kid"] for key in json.loads(answer.jwks)["keys"]}


def kid(token: str) -> str:
    """Return the name of the key that signed a token."""
    return str(json.loads(base64.urlsafe_b64decode(token.partition(".")[0] + "=="))["kid"])


def test_any_server_exchanges_a_call_and_one_of_them_charges_it(engine: OneEngine) -> None:
    """The server that was asked signs, and the leader takes what the call costs."""
    more = {"transaction_tokens": SETTINGS}
    with home_folder() as home, two_servers(home, ["127.0.0.1:1"], more, more) as (one, two):
        opening = sessions.OpenSessionRequest(subject="agent", ceiling=["read:**"])
        session = two.operator.call("SessionService/OpenSession", opening).session
        minting = pb.MintRequest(session_id=session.id, scopes=["read:** needs uses(2)"], audience=["gw"])
        token = two.operator.call("TokenService/Mint", minting).token
        request = pb.ExchangeRequest()
        request.check.item.CopyFrom(item(token))
        request.check.audience = "gw"
        first, second, third = (
            server.operator.call("TokenService/Exchange", request) for server in (one, two, two)
        )
        published = (kids(one), kids(two))

    assert not published[0] & published[1]
    assert kid(first.transaction_token) in published[0]
    assert kid(second.transaction_token) in published[1]
    assert (third.decision.allowed, third.transaction_token) == (False, "")
