"""Sessions below a login in a cluster: any server takes the token, and the leader judges it."""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from sessauth.v1 import identity_service_pb2 as identity_pb
from sessauth.v1 import session_service_pb2 as pb
from tests.cli.conftest import COMMAND, invoke
from tests.support.carried import OneEngine
from tests.support.cluster_servers import ClusterServer, two_servers
from tests.support.identity_tokens import ISSUER, SERVICE, bound_to, claims, key_proof, public_jwk, signed
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


def test_a_proof_counts_once_in_the_whole_cluster(engine: OneEngine) -> None:
    """The leader remembers those that were used, by whichever server they come."""
    with home_folder() as home:
        settings = provider_settings(home)
        settings["identity_providers"][0] |= {"proof_origin": SERVICE, "algorithms": ["RS256", "ES256"]}
        with two_servers(home, ["127.0.0.1:1"], settings, settings) as (one, two):
            now = time.time()
            token = signed(claims(iat=now, exp=now + 300, auth_time=now - 60, cnf=bound_to("ES256")))
            words = []
            for first, second in ((one, two), (two, one)):
                request = pb.OpenSessionRequest(
                    subject="agent:a",
                    ceiling=["read:**"],
                    identity_token=token,
                    identity_proof=key_proof(token, iat=time.time()),
                )
                assert first.operator.call(OPEN, request).session.parent_id
                with pytest.raises(RpcError) as refused:
                    second.operator.call(OPEN, request)
                words.append((refused.value.word, refused.value.field))

    assert words == [("IDENTITY_REPLAYED", "identity_proof")] * 2


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


@pytest.mark.slow
@pytest.mark.parametrize("differ", [False, True])
def test_servers_of_other_settings_are_found(engine: OneEngine, differ: bool) -> None:
    """The status has a digest of the providers, which the doctor compares; files may lie elsewhere."""
    with home_folder() as home:
        settings = provider_settings(home)
        (home / "moved.json").write_text((home / "corp.json").read_text())
        changed = {"clients": ["desk", "mail"]} if differ else {"jwks_file": str(home / "moved.json")}
        other = {"identity_providers": [{**settings["identity_providers"][0], **changed}]}
        with two_servers(home, ["127.0.0.1:1"], settings, other) as servers:
            (one, line, _), (two, _, findings) = map(_diagnosis, servers)

    assert one in line
    assert (one != two) is differ
    # The rows have the address of the server that leads.
    assert ["server/two and server/one differ" in words for words in findings] == [True] * differ


def _diagnosis(server: ClusterServer) -> tuple[str, str, list[str]]:
    """Return the digest and the line of ``status``, and the findings of ``doctor`` on providers' settings."""
    config = server.config
    lines = ["[tcp]", f'address = "{config.tcp.address}"', "insecure_tcp = true", "[cluster]"]
    lines += [f'name = "{config.cluster.name}"', f'address = "{config.cluster.address}"']
    lines += ['engine = ["127.0.0.1:1"]', "insecure_engine = true"]
    (config.home / "sessauth.toml").write_text("\n".join(lines) + "\n")
    file = config.home / "operator.credential"
    file.write_text(server.operator.credential + "\n")
    file.chmod(0o600)
    status, shown = (invoke("--home", config.home, "status", *more) for more in (("--json",), ()))
    line = next(line for line in shown.out.splitlines() if line.startswith("identity"))
    # In a process of its own: this one writes the state.
    command = [*COMMAND, "--home", str(config.home), "doctor", "--json"]
    findings = json.loads(subprocess.run(command, capture_output=True, check=False).stdout)["findings"]
    found = [each["words"] for each in findings if each["id"] == "identity_settings"]
    return status.json["identity_settings"], line, found
