"""curl, which knows nothing of gRPC: framed messages over HTTP/2."""

from __future__ import annotations

import base64
import subprocess

import pytest
from google.rpc import error_details_pb2, status_pb2

from sessauth.v1 import authorization_service_pb2 as pb
from tests.support.interop_server import BATCH, CHECK, InteropServer, framed, program

HEADERS = ("content-type: application/grpc", "te: trailers", "grpc-timeout: 10S")


def _headers(served: InteropServer, transport: str, headers: tuple[str, ...]) -> list[str]:
    credential = [f"{name}: {value}" for name, value in served.metadata(transport)]
    return [part for header in (*headers, *credential) for part in ("-H", header)]


def _curl(
    served: InteropServer,
    transport: str,
    body: bytes,
    *,
    path: str = CHECK,
    headers: tuple[str, ...] = HEADERS,
    method: str = "POST",
) -> tuple[dict[str, str], bytes]:
    """Make a request; returns headers and trailers, and the body."""
    folder = served.home
    (folder / "body").write_bytes(body)
    how = {
        "unix": ["--unix-socket", str(served.socket), "--http2-prior-knowledge"],
        "tcp": ["--http2-prior-knowledge"],
        "tls": [
            *("--http2", "--cacert", str(folder / "ca.pem")),
            *("--cert", str(folder / "client.pem"), "--key", str(folder / "client.key")),
        ],
    }[transport]
    # The credential is in a file: arguments are for everybody to read.
    (folder / "headers").write_text(
        "".join(f"{line}\n" for line in _headers(served, transport, headers)[1::2])
    )
    scheme = "https" if transport == "tls" else "http"
    command = [program("curl"), "-sS", "--max-time", "20", *how, "-X", method, "-H", f"@{folder}/headers"]
    command += ["--data-binary", f"@{folder}/body", "-D", str(folder / "dump"), "-o", str(folder / "answer")]
    done = subprocess.run(
        [*command, f"{scheme}://localhost:{served.port}{path}"], capture_output=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    lines = (folder / "dump").read_text().splitlines()
    found = dict(line.split(": ", 1) for line in lines if ": " in line)
    answer = folder / "answer"
    return {"status": lines[0].split()[1], **found}, answer.read_bytes() if answer.exists() else b""


def test_curl_gets_an_answer_and_its_trailers(served: InteropServer, transport: str) -> None:
    """Allowed, denied, and a batch."""
    for resource in (b"files/a", b"logs"):
        found, body = _curl(served, transport, framed(served.check(resource)))
        assert (found["status"], found["content-type"], found["grpc-status"]) == (
            "200",
            "application/grpc",
            "0",
        )
        assert body[:1] == b"\0"
        assert int.from_bytes(body[1:5]) == len(body) - 5
        assert pb.CheckResponse.FromString(body[5:]).decision.allowed is (resource == b"files/a")
    found, body = _curl(served, transport, framed(served.batch()), path=BATCH)
    assert len(pb.CheckBatchResponse.FromString(body[5:]).decisions) == 3


def test_curl_gets_the_details_of_an_error(served: InteropServer, transport: str) -> None:
    """The status alone, with a message and google.rpc.Status."""
    found, body = _curl(served, transport, framed(b""))
    assert (found["status"], found["grpc-status"], body) == ("200", "3", b"")
    assert found["grpc-message"] == "item: is required"
    encoded = found["grpc-status-details-bin"]
    status = status_pb2.Status.FromString(base64.b64decode(encoded + "=" * (-len(encoded) % 4)))
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain) == ("INVALID_ARGUMENT", "sessauth")


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        (HEADERS[:2], "3"),
        ((*HEADERS[:2], "grpc-timeout: 1n"), "4"),
        ((*HEADERS[:2], "grpc-timeout: soon"), "3"),
        ((*HEADERS, "grpc-encoding: gzip"), "0"),
    ],
    ids=["no deadline", "no time", "no number", "an encoding that is not used"],
)
def test_deadlines_of_curl_are_judged(server: InteropServer, headers: tuple[str, ...], code: str) -> None:
    """A deadline is required, and ends the call."""
    found, _ = _curl(server, "tcp", framed(server.check()), headers=headers)
    assert found["grpc-status"] == code


def test_requests_that_are_not_of_grpc_are_refused(server: InteropServer) -> None:
    """HTTP's own codes; gRPC's for an unknown method and a compressed message."""
    body = framed(server.check())
    _curl(server, "tcp", body)
    json = ("content-type: application/json", *HEADERS[1:])
    assert _curl(server, "tcp", body, headers=json)[0]["status"] == "415"
    assert _curl(server, "tcp", body, method="PUT")[0]["status"] == "405"
    assert _curl(server, "tcp", body, path="/nothing/At")[0]["grpc-status"] == "12"
    compressed, _ = _curl(server, "tcp", b"\1" + body[1:])
    assert compressed["grpc-status"] == "12"


def test_bodies_that_end_too_early_are_refused(server: InteropServer) -> None:
    """No message, half a prefix, half a message, bytes behind it: no answer is an allow but the last."""
    body = framed(server.check())
    for part in (b"", body[:3], body[:5], body[:-1]):
        found, answer = _curl(server, "tcp", part)
        assert (found["status"], answer) == ("200", b"")
        assert found["grpc-status"] not in ("0", ""), part
