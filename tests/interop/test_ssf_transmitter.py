"""The transmitter of security events that other tests run against a receiver."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

import pytest
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from tests.support.identity_tokens import public_jwk
from tests.support.security_event_tokens import EVENTS, LIES, Lie, complex_subject, iss_sub, opaque
from tests.support.ssf_transmitter import (
    KEYS_PATH,
    METADATA_PATH,
    POLL_PATH,
    STREAM_PATH,
    SsfTransmitter,
    ssf_transmitter,
)

USER = iss_sub("https://idp.example/realms/one", "ann")


@pytest.fixture
def transmitter() -> Iterator[SsfTransmitter]:
    """A transmitter without streams, which answers every poll at once."""
    with ssf_transmitter() as running:
        running.long_poll_s = 0
        yield running


def call(
    transmitter: SsfTransmitter,
    path: str,
    body: object = None,
    method: str = "POST",
    credential: str = "management-token",
) -> Any:
    """Return the JSON that an endpoint answers."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Authorization": f"Bearer {credential}"}
    request = Request(transmitter.address + path, data, headers, method=method)
    with build_opener(ProxyHandler({})).open(request, timeout=5) as answer:
        text = answer.read()
    return json.loads(text) if text else None


def poll(transmitter: SsfTransmitter, stream_id: str, **body: Any) -> Any:
    """Return the answer to a poll."""
    return call(transmitter, f"{POLL_PATH}/{stream_id}", body)


def payload(text: str) -> Any:
    """Return the claims of a SET; nothing is verified."""
    middle = text.split(".")[1]
    return json.loads(urlsafe_b64decode(middle + "=" * (-len(middle) % 4)))


def verifies(text: str) -> bool:
    """Return whether the signature of a SET stands by the key that its header names."""
    keys = KeySet.import_key_set({"keys": [public_jwk("RS256")]})
    try:
        jws.deserialize_compact(text, keys)
    except (JoseError, ValueError):
        return False
    return True


def test_polls_list_a_set_until_it_is_acknowledged(transmitter: SsfTransmitter) -> None:
    """A SET comes again until its acknowledgement or error, at most maxEvents at a time."""
    stream = transmitter.add_stream()
    subject = complex_subject(user=USER, session=opaque("s1"))
    first, second = transmitter.emit("session-revoked", subject), transmitter.emit("account-disabled", USER)

    assert list(poll(transmitter, stream)["sets"]) == [first, second]
    answer = poll(transmitter, stream, maxEvents=1)
    assert list(answer["sets"]) == [first] and answer["moreAvailable"] is True
    assert verifies(answer["sets"][first])
    assert payload(answer["sets"][first])["sub_id"] == subject
    error = {"err": "invalid_request", "description": "no"}
    assert poll(transmitter, stream, ack=[first], setErrs={second: error}) == {"sets": {}}
    assert transmitter.acknowledged == [first] and transmitter.set_errors == [(second, error)]
    transmitter.repeat(first)
    assert list(poll(transmitter, stream, maxEvents=0)["sets"]) == []
    assert list(poll(transmitter, stream)["sets"]) == [first]


def test_two_contents_under_one_name_come_one_after_the_other(transmitter: SsfTransmitter) -> None:
    """A jti that is sent with two contents is listed twice, and an order is reversed."""
    stream = transmitter.add_stream()
    transmitter.emit("account-disabled", USER, jti="a")
    with transmitter.reverse_order():
        transmitter.emit("account-enabled", USER, jti="a")
        transmitter.emit("account-purged", USER, jti="b")

    answers = [poll(transmitter, stream, ack=ack)["sets"] for ack in ([], ["a"])]

    assert list(answers[0]) == ["a", "b"]
    assert [list(payload(answer["a"])["events"]) for answer in answers] == [
        [EVENTS["account-disabled"]],
        [EVENTS["account-enabled"]],
    ]


@pytest.mark.parametrize("lie", LIES)
def test_each_lie_is_the_only_fault(transmitter: SsfTransmitter, lie: Lie) -> None:
    """A SET with a lie differs from the true one, and its signature stands unless that is the lie."""
    stream = transmitter.add_stream()
    transmitter.clock = lambda: 1_790_000_000
    texts = []
    for stated in (None, lie):
        jti = transmitter.emit("session-revoked", USER, jti="a", lie=stated)
        texts.append(poll(transmitter, stream)["sets"][jti])
        poll(transmitter, stream, ack=[jti])

    assert texts[0] != texts[1]
    assert verifies(texts[0])
    assert verifies(texts[1]) is (lie not in ("signature", "unsigned", "unknown key"))


def test_a_poll_waits_for_an_event(transmitter: SsfTransmitter) -> None:
    """A poll that may wait is answered by the next event, and one that may not at once."""
    stream = transmitter.add_stream()
    transmitter.long_poll_s = 60
    assert poll(transmitter, stream, returnImmediately=True) == {"sets": {}}
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(poll, transmitter, stream)
        assert transmitter.wait_for(lambda now: len(now.requests) == 2)
        jti = transmitter.emit("account-disabled", USER)

        assert list(waiting.result(5)["sets"]) == [jti]


def test_a_verification_has_the_state_of_its_request(transmitter: SsfTransmitter) -> None:
    """A verification names its stream and has the request's state; a silent transmitter sends none."""
    config = call(transmitter, "/stream", {"delivery": {"method": "urn:ietf:rfc:8936"}})
    stream = config["stream_id"]
    assert call(transmitter, f"/stream?stream_id={stream}", method="GET") == config
    assert call(transmitter, "/verify", {"stream_id": stream, "state": "x"}) is None
    assert transmitter.wait_for(lambda now: bool(now.streams[stream].waiting))

    (text,) = poll(transmitter, stream)["sets"].values()

    assert payload(text)["sub_id"] == opaque(stream)
    assert payload(text)["events"] == {EVENTS["verification"]: {"state": "x"}}
    transmitter.verifies = False
    call(transmitter, "/verify", {"stream_id": stream})
    assert len(transmitter.streams[stream].waiting) == 1


def test_a_stream_says_that_it_is_disabled(transmitter: SsfTransmitter) -> None:
    """A disabled stream lists its stream-updated event, and nothing that comes later."""
    stream = transmitter.add_stream()
    transmitter.set_status(stream, "disabled", "licence")
    transmitter.emit("account-purged", USER)

    (text,) = poll(transmitter, stream)["sets"].values()

    assert payload(text)["events"] == {EVENTS["stream-updated"]: {"status": "disabled", "reason": "licence"}}
    assert call(transmitter, f"/status?stream_id={stream}", method="GET")["status"] == "disabled"


def test_misbehaviour_ends_after_its_times(transmitter: SsfTransmitter) -> None:
    """A refusal, a redirect and an endless body are each one answer; the next is honest."""
    stream = transmitter.add_stream()
    transmitter.refuse(POLL_PATH, 429, retry_after_s=7)
    with pytest.raises(HTTPError) as refused:
        poll(transmitter, stream)
    refused.value.close()
    assert (refused.value.code, refused.value.headers["Retry-After"]) == (429, "7")
    transmitter.answer_huge(POLL_PATH, 100_000)
    assert len(poll(transmitter, stream)["pad"]) == 100_000
    transmitter.answer_endlessly(POLL_PATH)
    request = Request(f"{transmitter.address}{POLL_PATH}/{stream}", b"{}")
    with build_opener(ProxyHandler({})).open(request, timeout=5) as answer:
        assert len(answer.read(1_000_000)) == 1_000_000
    transmitter.always_more = True
    assert poll(transmitter, stream) == {"sets": {}, "moreAvailable": True}
    transmitter.redirect(POLL_PATH, "http://127.0.0.2/poll")
    with pytest.raises(HTTPError) as moved:
        poll(transmitter, stream)
    moved.value.close()
    assert (moved.value.code, moved.value.headers["Location"]) == (307, "http://127.0.0.2/poll")


def test_management_needs_the_credential(transmitter: SsfTransmitter) -> None:
    """Streams are for the bearer of the credential; metadata and keys are for all."""
    with pytest.raises(HTTPError) as denied:
        call(transmitter, STREAM_PATH, method="GET", credential="other")
    denied.value.close()

    assert denied.value.code == 401
    metadata = call(transmitter, METADATA_PATH, method="GET", credential="")
    assert metadata["issuer"] == transmitter.issuer
    assert call(transmitter, KEYS_PATH, method="GET", credential="")["keys"]


def test_pushes_are_tried_again_and_recorded(transmitter: SsfTransmitter) -> None:
    """A push is tried again at 503, is acknowledged by 202, and its error of 400 is recorded."""
    answers = [(503, {}), (202, {}), (400, {"err": "invalid_key"})]
    requests: list[tuple[str | None, str | None, str]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            status, body = answers.pop(0)
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            requests.append((self.headers["Content-Type"], self.headers["Authorization"], text))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(body).encode() if body else b"")

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Receiver) as server:
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        transmitter.push_retries = 1
        transmitter.add_stream(f"http://127.0.0.1:{server.server_port}/events", "Bearer r")
        good = transmitter.emit("session-revoked", USER)
        bad = transmitter.emit("session-revoked", USER, lie="signature")
        server.shutdown()
        thread.join()

    assert [(push.jti, push.status) for push in transmitter.pushes] == [(good, 503), (good, 202), (bad, 400)]
    assert transmitter.acknowledged == [good]
    assert transmitter.set_errors == [(bad, {"err": "invalid_key"})]
    assert requests[0] == requests[1]
    assert requests[0][:2] == ("application/secevent+jwt", "Bearer r")
