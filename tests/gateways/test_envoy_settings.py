"""Settings of Envoy under which a gateway could be shown less than is forwarded, and authorizers that end."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.gateways.envoy import CALL, JSON_LINE, OTHER, SAMPLE, WHOLE, Gateway, Reply, assert_refused
from tests.support.service import wait_until


@pytest.mark.parametrize("raw", [True, False])
def test_a_part_of_a_body_is_refused(fresh: Gateway, raw: bool) -> None:
    """An Envoy that shows a part and passes on all of it: in header lines of both forms."""
    headers = {} if raw else {"encode_raw_headers: true": "encode_raw_headers: false"}
    fresh.start_authorizer()
    changes = {WHOLE: "allow_partial_message: true", "max_request_bytes: 1048576": "max_request_bytes: 65536"}
    fresh.start_envoy(**changes, **headers)
    token = fresh.token()
    assert fresh.post(token, CALL.encode()).status == 200
    assert fresh.post(token, CALL.encode(), "x-forwarded-proto: http").status == 200
    fresh.upstream.requests.clear()
    padded = CALL.encode() + b" " * (65_536 - len(CALL)) + OTHER.encode()
    assert_refused(fresh, fresh.post(token, padded), 413)
    forged = "x-envoy-auth-partial-body: false"
    assert_refused(fresh, fresh.post(token, padded, forged), 413)
    chunks = b"%x\r\n%s\r\n0\r\n\r\n" % (len(padded), padded)
    head = f"POST /mcp HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n{JSON_LINE}\r\n"
    reply = fresh.send_raw(f"{head}transfer-encoding: chunked\r\nconnection: close\r\n\r\n".encode() + chunks)
    assert_refused(fresh, reply, 413)


def test_bodies_that_envoy_does_not_show_are_refused(fresh: Gateway) -> None:
    """A configuration without with_request_body, and a forged marker."""
    fresh.start_authorizer()
    (shows,) = [line.strip() for line in SAMPLE.read_text().splitlines() if "with_request_body" in line]
    fresh.start_envoy(**{shows: "include_peer_certificate: false"})
    token = fresh.token(scopes=("*:api/**", "*:mcp/**"))
    for lines in ([], ["x-envoy-auth-partial-body: false"]):
        assert_refused(fresh, fresh.post(token, CALL.encode(), *lines), 413)
        reply = fresh.send("POST", "/v1/x", f"authorization: Bearer {token}", JSON_LINE, *lines, body=b"{}")
        assert_refused(fresh, reply, 413)


def test_a_body_that_envoy_shows_as_a_text_is_refused(fresh: Gateway) -> None:
    """It shows ``!`` for a byte that is not UTF-8, and passes on that byte."""
    fresh.start_authorizer()
    fresh.start_envoy(**{"pack_as_bytes: true": "pack_as_bytes: false"})
    line = f"authorization: Bearer {fresh.token(scopes=('write:api/v1/x',))}"
    assert_refused(fresh, fresh.send("POST", "/v1/x", line, JSON_LINE, body=b'{"a":"\xff"}'), 413)
    assert fresh.send("POST", "/v1/x", line, JSON_LINE, "content-length: 0").status == 200


def test_a_client_can_t_have_a_call_repeated(fresh: Gateway) -> None:
    """Envoy obeys these headers of clients that it counts as internal."""
    fresh.start_authorizer()
    internal = "internal_address_config: { cidr_ranges: [{ address_prefix: 10.0.0.0, prefix_len: 8 }] }"
    prefix = "stat_prefix: agents"
    fresh.start_envoy(**{prefix: f"{prefix}\n                {internal}"})
    lines = (
        "x-forwarded-for: 10.0.0.9",
        "x-envoy-retry-on: retriable-status-codes",
        "x-envoy-max-retries: 3",
    )
    again = "x-envoy-retriable-status-codes: 200"
    assert fresh.call(fresh.token(), "pay", {"amount": 5}, *lines, again).status == 200
    assert len(fresh.upstream.requests) == 1


def _seconds(send: Callable[[], Reply]) -> tuple[float, Reply]:
    started = time.monotonic()
    reply = send()
    return time.monotonic() - started, reply


def test_without_an_authorizer_nothing_passes(fresh: Gateway) -> None:
    """Dead or stopped: refused within the configured time; and answered again after a restart."""
    fresh.start_authorizer()
    fresh.start_envoy()
    token = fresh.token()
    assert fresh.call(token).status == 200
    fresh.upstream.requests.clear()
    assert fresh.authorizer is not None
    fresh.authorizer.send_signal(signal.SIGSTOP)
    stat = Path(f"/proc/{fresh.authorizer.pid}/stat")
    assert wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")
    seconds, reply = _seconds(lambda: fresh.call(token))
    assert_refused(fresh, reply, 403)
    assert 0.4 < seconds < 2
    fresh.stop_authorizer()
    seconds, reply = _seconds(lambda: fresh.call(token))
    assert_refused(fresh, reply, 403)
    assert seconds < 2
    fresh.start_authorizer()
    assert fresh.call(token).status == 200


def test_decisions_are_recorded_and_receipts_count_the_authorizer(fresh: Gateway) -> None:
    """Each decision is in its stream under the id that the answer has, an unknown tool's too."""
    audit = fresh.folder / "audit"
    fresh.start_authorizer("--audit", str(audit), "--register-as", "envoy-1")
    fresh.start_envoy()
    session = fresh.session()
    token = fresh.token(session)
    assert fresh.call(token).status == 200
    sent = dict(fresh.upstream.requests[0][2])
    ids = [next(value for name, value in sent.items() if name.lower() == "x-sessauth-decision")]
    ids += [fresh.call(token, tool).headers["x-sessauth-decision"] for tool in ("delete_repo", "drop_tables")]
    receipt = fresh.server.operator.end(session.id).receipt
    assert receipt is not None
    assert "envoy-1" in {each.name for each in receipt.unverified.verifiers}
    fresh.stop_authorizer(signal.SIGTERM)
    recorded = b"".join(path.read_bytes() for path in audit.rglob("*") if path.is_file())
    assert [each for each in ids if each.encode() not in recorded] == []
    assert token.encode() not in recorded


def test_the_authorizer_ends_on_sigterm(fresh: Gateway) -> None:
    """Its socket is gone, and nothing was logged as a fault."""
    fresh.start_authorizer()
    fresh.start_envoy()
    assert fresh.call(fresh.token()).status == 200
    process = fresh.authorizer
    assert process is not None
    fresh.stop_authorizer(signal.SIGTERM)
    assert process.returncode == 0 and not fresh.socket.exists()
    lines = (fresh.folder / "authorizer.log").read_text().splitlines()
    assert not [line for line in lines if line.startswith("{") and json.loads(line).get("event") == "fault"]


def test_a_client_without_a_token_learns_where_to_log_in(fresh: Gateway) -> None:
    """The document reaches any client, and nothing of it the upstream; without a token there is no more."""
    issuers = ["https://idp.example", "https://two.example"]
    options = [word for issuer in issuers for word in ("--authorization-server", issuer)]
    fresh.start_authorizer("--origin", "https://api.example", *options)
    fresh.start_envoy()
    at = "/.well-known/oauth-protected-resource"
    for path in ("/mcp", ""):
        reply = fresh.send("GET", path or "/v1/customers/7")
        assert_refused(fresh, reply, 401)
        assert (
            reply.headers["www-authenticate"] == f'Bearer resource_metadata="https://api.example{at}{path}"'
        )
        shown = fresh.send("GET", at + path)
        assert (shown.status, shown.headers["content-type"]) == (200, "application/json")
        assert shown.json["resource"] == f"https://api.example{path}"
        assert shown.json["authorization_servers"] == issuers
        assert fresh.send("HEAD", at + path).body == b""
        assert_refused(fresh, fresh.send("DELETE", at + path), 401)
    assert fresh.call(fresh.token()).status == 200
    assert len(fresh.upstream.requests) == 1
