"""Sessions below a login in a cluster: any server takes the token, and the leader judges it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from sessauth.v1 import identity_service_pb2 as identity_pb
from sessauth.v1 import session_service_pb2 as pb
from tests.support.carried import OneEngine
from tests.support.cluster_servers import two_servers
from tests.support.identity_tokens import ISSUER, claims, public_jwk, signed
from tests.support.service import RpcError, home_folder

OPEN = "SessionService/OpenSession"
REPORT = "IdentityService/ReportSignal"


def provider_settings(home: Path) -> dict[str, Any]:
    """Return the settings of servers that take the tokens of a provider."""
    keys = home / "corp.json"
    keys.write_text(json.dumps({"keys": [public_jwk("RS256")]}))
    corp = {
        "name": "corp",
        "issuer": ISSUER,
        "clients": ["desk"],
        "jwks_file": str(keys),
        "grants": [{"ceiling": ["read:**"]}],
    }
    return {"identity_providers": [corp]}


def test_a_server_that_follows_hands_a_token_on(engine: OneEngine) -> None:
    """One login has one session, whichever server it comes to; a refusal keeps its word."""
    with home_folder() as home:
        settings = provider_settings(home)
        now = int(time.time())
        token = signed(claims(iat=now, exp=now + 300, auth_time=now - 60))
        request = pb.OpenSessionRequest(
            subject="agent:a", ceiling=["read:files/**"], identity_token=token, lease_ms=60_000
        )
        with two_servers(home, ["127.0.0.1:1"], settings, settings) as (one, two):
            sessions = [server.operator.call(OPEN, request).session for server in (one, two, two)]
            keep = pb.KeepAliveRequest(session_id=sessions[0].parent_id, identity_token=token)
            kept = [
                server.operator.call("SessionService/KeepAlive", keep).lease_deadline_ms
                for server in (one, two)
            ]
            two.operator.call("SessionService/EndSession", pb.EndSessionRequest(session_id=keep.session_id))
            with pytest.raises(RpcError) as refused:
                two.operator.call(OPEN, request)

    assert len({session.parent_id for session in sessions}) == 1
    assert kept[0] == kept[1]
    assert (refused.value.word, refused.value.field) == ("IDENTITY_SESSION_ENDED", "identity_token")


def test_a_server_that_follows_hands_a_statement_on(engine: OneEngine) -> None:
    """The leader cuts and ends once, by whichever server the statement comes again."""
    with home_folder() as home:
        settings = provider_settings(home)
        now = int(time.time())
        token = signed(claims(iat=now, exp=now + 300, auth_time=now - 60))
        request = pb.OpenSessionRequest(subject="agent:a", ceiling=["read:**"], identity_token=token)
        stated = {"iss": ISSUER, "aud": "desk", "iat": now, "exp": now + 120, "jti": "j", "sid": "s1"}
        event = {"http://schemas.openid.net/event/backchannel-logout": {}}
        statement = identity_pb.ReportSignalRequest(
            provider="corp", logout_token=signed({**stated, "events": event}, typ="logout+jwt")
        )
        with two_servers(home, ["127.0.0.1:1"], settings, settings) as (one, two):
            one.operator.call(OPEN, request)
            ended = [server.operator.call(REPORT, statement).ended for server in (two, one, two)]
            words = []
            for server in (one, two):
                with pytest.raises(RpcError) as refused:
                    server.operator.call(OPEN, request)
                words.append(refused.value.word)

    assert (ended, words) == ([1, 0, 0], ["IDENTITY_CUT"] * 2)


def test_a_state_for_verification_is_the_leaders(engine: OneEngine) -> None:
    """A carrier beside a server that follows gets one that the leader waits for."""
    with home_folder() as home:
        settings = provider_settings(home)
        settings["identity_providers"][0] |= {"silence_ms": 60_000}
        request = identity_pb.AskStreamRequest(provider="corp")
        with two_servers(home, ["127.0.0.1:1"], settings, settings) as (one, two):
            state = two.operator.call("IdentityService/AskStream", request).state
            asked = identity_pb.GetIdentityStatusRequest()
            answers = [each.operator.call("IdentityService/GetIdentityStatus", asked) for each in (one, two)]
            assert [each.providers[0].HasField("stream") for each in answers] == [True, True]
            assert one.control is not None
            assert state in one.control.subsystems.logins.streams._streams["corp"].states
