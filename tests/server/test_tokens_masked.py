"""A real token in every field that an agent reaches: nothing that a service keeps or tells holds it."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sessauth.audit.verify.verify import verify
from sessauth.server.process.init import initialise
from sessauth.v1 import approval_service_pb2 as approvals
from sessauth.v1 import authorization_service_pb2 as checks
from sessauth.v1 import key_service_pb2 as keys
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_service_pb2 as tokens
from tests.support import span_capture
from tests.support.events import Watch
from tests.support.recorded import records
from tests.support.scrape import scrape
from tests.support.service import Caller, RpcError, ServerProcess, home_folder, serves, wait_until

SETTINGS = {
    "SESSAUTH_SERVER_WORKERS": "1",
    "SESSAUTH_SERVER_LOG_LEVEL": "DEBUG",
    "SESSAUTH_AUDIT_ENABLED": "true",
    "SESSAUTH_USAGE_ENABLED": "true",
    "SESSAUTH_METRICS_ADDRESS": "127.0.0.1:0",
    "SESSAUTH_TRACING_ENABLED": "true",
    "SESSAUTH_TRACING_EXPORTER": span_capture.EXPORTER,
    "OTEL_BSP_SCHEDULE_DELAY": "50",
}
KEY = base64.urlsafe_b64encode(bytes(range(1, 33))).decode().rstrip("=")


@dataclass
class Left:
    """The outputs of a run, by place, and the secrets of its calls."""

    texts: dict[str, str]
    secrets: list[str]
    home: Path


def _try(caller: Caller, rpc: str, request: object, **options: object) -> str:
    """Call; returns what the caller is told if it is refused."""
    try:
        caller.call(rpc, request, **options)
    except RpcError as error:
        return f"{error.word} {error.field} {error.message}"
    return ""


def _ask(callers: list[Caller], token: str, secret: str) -> list[str]:
    """Put a secret into every field of checks."""
    calls = [
        checks.CheckItem(action=secret.encode(), resource=b"files/a"),
        checks.CheckItem(action=b"read", resource=f"files/{secret}".encode()),
        checks.CheckItem(action=b"read", resource=b"files/a", source=secret),
        checks.CheckItem(action=b"read", resource=b"files/a", peer=[secret]),
        checks.CheckItem(
            action=b"read", resource=b"files/a", arguments=json.dumps({secret: secret}).encode()
        ),
        checks.CheckItem(action=b"read", resource=b"files/a", arguments=secret.encode()),
        checks.CheckItem(action=b"read", resource=b"files/a", tool=secret.encode()),
        checks.CheckItem(action=b"read", resource=b"files/a", retry_id=secret.encode()),
        checks.CheckItem(action=b"read", resource=b"files/a", proof=secret.encode()),
        checks.CheckItem(action=b"deploy", resource=f"files/{secret}".encode()),
    ]
    for call in calls:
        call.token = token.encode()
    said = []
    tracing = (("traceparent", f"00-{'1' * 32}-{'2' * 16}-01"), ("tracestate", f"x={secret[:200]}"))
    for caller in callers:
        metadata = (*caller.metadata, *tracing)
        for call in calls:
            request = checks.CheckRequest(item=call, audience="gw")
            said.append(_try(caller, "AuthorizationService/Check", request, metadata=metadata))
        request = checks.CheckRequest(item=calls[2], audience=secret)
        said.append(_try(caller, "AuthorizationService/Check", request))
        batch = checks.CheckBatchRequest(items=calls, audience="gw")
        said.append(_try(caller, "AuthorizationService/CheckBatch", batch))
    return said


def _manage(operator: Caller, session_id: bytes, secret: str) -> list[str]:
    """Put a secret into the texts of sessions, and into what is refused."""
    opening = sessions.OpenSessionRequest(
        request_id=secret[:64], subject=secret, purpose=secret, labels={"token": secret}, ceiling=["read:a"]
    )
    said = [_try(operator, "SessionService/OpenSession", opening)]
    wrong = sessions.OpenSessionRequest(subject="s", ceiling=[f"read:a where {secret}"])
    said.append(_try(operator, "SessionService/OpenSession", wrong))
    said.append(
        _try(operator, "SessionService/GetSession", sessions.GetSessionRequest(session_id=secret.encode()))
    )
    said.append(_try(operator, "TokenService/Inspect", tokens.InspectRequest(token=(secret + "x").encode())))
    revoking = tokens.RevokeRequest(session_id=session_id, block_ids=[bytes(32)], reason=secret[:200])
    said.append(_try(operator, "TokenService/Revoke", revoking))
    suspending = sessions.SuspendSessionRequest(session_id=session_id, reason=secret[:200])
    said.append(_try(operator, "SessionService/SuspendSession", suspending))
    stranger = Caller(operator.target, credential=secret)
    said.append(_try(stranger, "KeyService/ListKeys", keys.ListKeysRequest()))
    stranger.close()
    return said


@pytest.fixture(scope="module")
def left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Left]:
    """The outputs of a server with all features, for calls with secrets in every field."""
    file = tmp_path_factory.mktemp("span_capture") / "spans.jsonl"
    with home_folder() as home:
        made = initialise(home)
        credential = made.credential_file.read_text().strip()
        server = ServerProcess.start(home, **SETTINGS, **{span_capture.FILE: str(file)})
        operator = Caller(f"unix:{made.socket}", credential)
        worker = Caller(f"unix:{home}/run/check-0.sock", credential)
        try:
            assert wait_until(lambda: serves(operator) and serves(worker)), server.log
            watch = Watch(operator)
            opened = sessions.OpenSessionRequest(subject="s", ceiling=["*:files/**"])
            session_id = operator.call("SessionService/OpenSession", opened).session.id
            scopes = ["read:files/**", f'deploy:files/** needs approval(1, "{KEY}")']
            minting = tokens.MintRequest(session_id=session_id, scopes=scopes, audience=["gw"])
            token = operator.call("TokenService/Mint", minting).token
            secrets = [token, credential]
            said = []
            for secret in secrets:
                said += _ask([operator, worker], token, secret)
            listed = operator.call("ApprovalService/ListApprovals", approvals.ListApprovalsRequest())
            assert len(listed.approvals) == 2
            for secret in secrets:
                said += _manage(operator, session_id, secret)
            assert wait_until(lambda: file.exists() and '"2222222222222222"' in file.read_text())
            page = _page(server.log)
            ending = sessions.EndSessionRequest(session_id=session_id, reason=token[:200])
            operator.call("SessionService/EndSession", ending)
            told = [watch.event() for _ in range(4)]
            watch.call.cancel()
            assert server.terminate() == 0
        finally:
            server.kill()
            operator.close()
            worker.close()
        texts = {
            "log": server.log,
            "span_capture": file.read_text(),
            "metrics": page,
            "events": "".join(map(str, told)),
            "refusals": "\n".join(said),
        }
        for folder in ("audit", "usage"):
            paths = [path for path in sorted((home / folder).iterdir()) if path.suffix != ".key"]
            found = [path.read_bytes().decode("utf-8", "replace") for path in paths]
            assert found, folder
            texts[folder] = "\n".join(found)
        bodies = [base64.b64decode(each["body"]) for each in records(home / "audit", "change")]
        texts["changes"] = b"\n".join(bodies).decode("utf-8", "replace")
        yield Left(texts, secrets, home)


def _page(log: str) -> str:
    serving = next(json.loads(line) for line in log.splitlines() if '"serving"' in line)
    return scrape(serving["metrics_port"]).text


def test_no_secret_is_kept_or_told(left: Left) -> None:
    """No piece of the body of a token or credential is anywhere; a scope alone is shorter than one."""
    assert all(left.texts.values())
    pieces = [
        body[at : at + 36]
        for body in (secret.split("_", 2)[2] for secret in left.secrets)
        for at in range(0, len(body) - 36, 12)
    ]
    # An approver's public key is in the scope's text, which is recorded.
    pieces = [piece for piece in pieces if piece not in KEY]
    assert len(pieces) > 10
    found = {where: [piece in text for piece in pieces].count(True) for where, text in left.texts.items()}
    assert found == dict.fromkeys(left.texts, 0)


def test_what_was_masked_is_said(left: Left) -> None:
    """The prefixes of secrets are in their places: the fields were recorded, not dropped."""
    for where in ("audit", "usage", "changes", "events", "refusals"):
        assert "sessauth_token_..." in left.texts[where], where


def test_a_masked_log_verifies_and_replays(left: Left) -> None:
    """Masked texts break no chain, and are no contradiction."""
    from sessauth.audit.replay import replay

    assert verify(left.home / "audit").intact
    assert not replay(left.home / "audit").findings
