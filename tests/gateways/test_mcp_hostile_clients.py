"""Clients that send the proxy what no server should be given."""

from __future__ import annotations

from tests.guard.world import World
from tests.support.mcp_wire import Wire, text_of
from tests.support.service import wait_until

PAY = "write:mcp/tools/pay where amount <= 100"
ERROR = "error"


def test_what_is_forwarded_is_what_was_judged(world: World) -> None:
    """Numbers stay as they were written, and no line is two lines to another reader."""
    arguments = '{"amount":1.50,"note":"\\u2028 a\u2028b\x85"}'
    sent = (
        f'{{"jsonrpc":"2.0","id":5,"method":"tools/call","params":{{"name":"pay","arguments":{arguments}}}}}'
    )
    with Wire(world, world.token(f"{PAY} free note")) as wire:
        wire.handshake()
        wire.write(sent.encode() + b"\r\n")
        assert text_of(wire.read()) == "pay done"

        [params] = wire.called()
        assert params["arguments"] == {"amount": 1.5, "note": "\u2028 a\u2028b\x85"}


_CALL = (
    '"jsonrpc":"2.0","id":9,"method":"tools/call","params":{"name":"get_weather","arguments":{"city":"Bern"}}'
)
_DELETE = '{"name":"delete_repo","arguments":{}}'
REFUSED = {
    "not JSON": b"hello",
    "not UTF-8": b'{"jsonrpc":"2.0","id":9,"method":"tools/call\xff"}',
    "two documents": f"{{{_CALL}}}{{{_CALL}}}".encode(),
    "a batch": f"[{{{_CALL}}}]".encode(),
    "an empty batch": b"[]",
    "a number": b"5",
    "no version": f"{{{_CALL}}}".replace('"jsonrpc":"2.0",', "").encode(),
    "another version": f"{{{_CALL}}}".replace("2.0", "1.0").encode(),
    "a method twice": f'{{{_CALL},"method":"ping"}}'.encode(),
    "parameters twice": f'{{{_CALL},"params":{_DELETE}}}'.encode(),
    "a method in capitals": f'{{{_CALL},"Method":"ping"}}'.encode(),
    "parameters in capitals": f'{{{_CALL},"PARAMS":{_DELETE}}}'.encode(),
    "a long s": f'{{{_CALL},"param\u017f":{_DELETE}}}'.encode(),
    "a name in capitals": f"{{{_CALL}}}".replace('"name":', '"Name":"delete_repo","name":').encode(),
    "a name in capitals alone": f"{{{_CALL}}}".replace('"name":', '"NAME":').encode(),
    "arguments in capitals alone": f"{{{_CALL}}}".replace('"arguments"', '"Arguments"').encode(),
    "an argument in two cases": f"{{{_CALL}}}".replace('"city":', '"City":"Rome","city":').encode(),
    "an argument twice": f"{{{_CALL}}}".replace('"city":', '"city":"Rome","city":').encode(),
    "NaN": f"{{{_CALL}}}".replace('"Bern"', "NaN").encode(),
    "an infinity": f"{{{_CALL}}}".replace('"Bern"', "-Infinity").encode(),
    "a lone surrogate": f"{{{_CALL}}}".replace('"Bern"', '"\\ud800"').encode(),
    "too deep": f"{{{_CALL}}}".replace('"Bern"', "[" * 100 + "]" * 100).encode(),
    "far too deep": f"{{{_CALL}}}".replace('"Bern"', "[" * 100_000 + "]" * 100_000).encode(),
    "too long": f"{{{_CALL}}}".replace("Bern", "x" * 2_000_000).encode(),
    "a long number": f"{{{_CALL}}}".replace('"Bern"', "1" * 10_000).encode(),
    "no id": f"{{{_CALL}}}".replace('"id":9,', "").encode(),
    "a null id": f"{{{_CALL}}}".replace('"id":9', '"id":null').encode(),
    "an id that is a float": f"{{{_CALL}}}".replace('"id":9', '"id":9.0').encode(),
    "an id that is true": f"{{{_CALL}}}".replace('"id":9', '"id":true').encode(),
    "an id that is an object": f"{{{_CALL}}}".replace('"id":9', '"id":{}').encode(),
    "an id that doubles round": f"{{{_CALL}}}".replace('"id":9', '"id":9007199254740993').encode(),
    "a long id": f"{{{_CALL}}}".replace('"id":9', f'"id":"{"x" * 300}"').encode(),
    "a notification with an id": b'{"jsonrpc":"2.0","id":9,"method":"notifications/initialized"}',
    "a method that is no text": f"{{{_CALL}}}".replace('"tools/call"', "5").encode(),
    "a long method": f"{{{_CALL}}}".replace("tools/call", "x" * 100_000).encode(),
    "a method with a line": f"{{{_CALL}}}".replace("tools/call", "tools/call\\n").encode(),
    "an empty method": f"{{{_CALL}}}".replace("tools/call", "").encode(),
    "a long name": f"{{{_CALL}}}".replace("get_weather", "x" * 100_000).encode(),
    "parameters that are a list": f"{{{_CALL}}}".replace('"params":{', '"params":[],"_":{').encode(),
    "a name that is no text": f"{{{_CALL}}}".replace('"get_weather"', '["get_weather"]').encode(),
    "arguments that are a list": f"{{{_CALL}}}".replace('{"city":"Bern"}', "[]").encode(),
    "request and result": f'{{{_CALL},"result":{{}}}}'.encode(),
    "another member": f'{{{_CALL},"x":1}}'.encode(),
    "a token in _meta": f"{{{_CALL}}}".replace(
        '"name":', '"_meta":{"io.sessauth/token":"t"},"name":'
    ).encode(),
    "a byte order mark": b"\xef\xbb\xbf" + f"{{{_CALL}}}".encode(),
    "UTF-16": f"{{{_CALL}}}".encode("utf-16-le"),
}


def test_ambiguous_messages_are_refused(world: World) -> None:
    """A message that two readers could read differently reaches no server; the connection goes on."""
    with Wire(world, world.token("read,write:mcp/tools/** free *")) as wire:
        wire.handshake()
        for name, data in REFUSED.items():
            wire.write(data + b"\n")
            answer = wire.read()
            shown = answer[ERROR]["message"] if ERROR in answer else text_of(answer)
            assert ERROR in answer or answer["result"]["isError"], name
            assert answer["id"] in (9, None), name
            assert "delete_repo" not in shown and "Rome" not in shown, name
        assert wire.called() == []
        assert text_of(wire.call("get_weather", {"city": "Bern"})) == "get_weather done"


def test_an_id_in_use_is_refused(world: World) -> None:
    """An answer under it would be taken for the answer to the first."""
    with Wire(world, world.token(), way="silent") as wire:
        wire.handshake()
        for _ in range(2):
            wire.send(id=7, method="tools/call", params={"name": "get_weather", "arguments": {"city": "a"}})
        assert wire.read() == {
            "jsonrpc": "2.0",
            "id": None,
            "error": {"code": -32600, "message": "the id is that of a request under way"},
        }
        # 7 and "7" are two ids.
        wire.send(id="7", method="tools/call", params={"name": "pay", "arguments": {"amount": 500}})
        assert wire.read()["id"] == "7"


def test_too_many_requests_at_once_are_refused(world: World) -> None:
    """A bound on what waits."""
    with Wire(world, world.token(), way="silent") as wire:
        wire.handshake()
        for number in range(300):
            wire.send(
                id=number, method="tools/call", params={"name": "get_weather", "arguments": {"city": "a"}}
            )
        refused = [wire.read() for _ in range(300 - 256)]

        assert {each[ERROR]["message"] for each in refused} == {"too many requests at once"}


def test_a_line_without_an_end_ends_the_connection(world: World) -> None:
    """The next message's begin is not known then."""
    with Wire(world, world.token()) as wire:
        wire.handshake()
        try:
            for _ in range(200):
                wire.write(b"x" * 65_536)
        except BrokenPipeError:
            pass
        assert wire.read()[ERROR]["message"] == "the line is too long"
        assert wire.wait() == 2


def test_half_a_line_is_nothing(world: World) -> None:
    """A message that was cut off at the end of the input is not forwarded."""
    with Wire(world, world.token()) as wire:
        wire.handshake()
        wire.write(f"{{{_CALL}}}".encode()[:-1])
        assert wire.end() == 0
        assert wire.called() == []


def test_what_was_sent_before_the_end_is_answered(world: World) -> None:
    """A script that writes its requests and ends its input gets all answers."""
    with Wire(world, world.token()) as wire:
        wire.handshake()
        for number in range(10):
            wire.send(
                id=number, method="tools/call", params={"name": "get_weather", "arguments": {"city": "a"}}
            )
        assert wire.end() == 0
        assert sorted(wire.read()["id"] for _ in range(10)) == list(range(10))
        assert wire.read() is None


def test_cancelled_calls_are_cancelled_at_the_server(world: World) -> None:
    """The client gets no answer to them, and may go on."""
    with Wire(world, world.token(), way="silent") as wire:
        wire.handshake()
        wire.send(id=4, method="tools/call", params={"name": "get_weather", "arguments": {"city": "a"}})
        assert wait_until(lambda: len(wire.called()) == 1)
        wire.send(method="notifications/cancelled", params={"requestId": 4})
        assert wait_until(lambda: any(m == "notifications/cancelled" for m, _ in wire.received()))
        assert wire.ask("ping", number=5)["result"] == {}
