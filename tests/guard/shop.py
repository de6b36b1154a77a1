"""An order service for the tests of adapters for one's own services: its messages, its calls, its stories."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

import pytest
from google.protobuf import (
    descriptor_pb2,
    descriptor_pool,
    message_factory,
    struct_pb2,
    timestamp_pb2,
    wrappers_pb2,
)

from sessauth.clock import SystemClock
from sessauth.decisions.outward import Outward
from sessauth.guard import Guard
from sessauth.guard.services.call_table import CallTable
from sessauth.tokens.prover import HolderKey
from tests.guard.world import Broken, World
from tests.support.server_fixture import AUDIENCE

CEILING: Final = ("read,write:orders/**",)
SCOPES: Final = ("read:orders/*", "write:orders/* where amount <= 100 free *")
FIELD = descriptor_pb2.FieldDescriptorProto


def _file() -> descriptor_pb2.FileDescriptorProto:
    """Return a file with one message that has a field of each kind."""
    file = descriptor_pb2.FileDescriptorProto(name="shop.proto", package="shop", syntax="proto3")
    file.dependency.extend(module.DESCRIPTOR.name for module in (struct_pb2, timestamp_pb2, wrappers_pb2))
    kind = file.enum_type.add(name="Kind")
    for number, name in enumerate(("KIND_UNSPECIFIED", "KIND_GIFT")):
        kind.value.add(name=name, number=number)
    message = file.message_type.add(name="OrderRequest")
    fields: tuple[tuple[str, int, str], ...] = (
        ("order_id", FIELD.TYPE_STRING, ""),
        ("amount", FIELD.TYPE_INT64, ""),
        ("rush", FIELD.TYPE_BOOL, ""),
        ("kind", FIELD.TYPE_ENUM, ".shop.Kind"),
        ("data", FIELD.TYPE_BYTES, ""),
        ("rate", FIELD.TYPE_DOUBLE, ""),
        ("extra", FIELD.TYPE_MESSAGE, ".google.protobuf.Struct"),
        ("limit", FIELD.TYPE_MESSAGE, ".google.protobuf.UInt64Value"),
        ("at", FIELD.TYPE_MESSAGE, ".google.protobuf.Timestamp"),
        ("inner", FIELD.TYPE_MESSAGE, ".shop.OrderRequest"),
    )
    for number, (name, of_type, type_name) in enumerate(fields, start=1):
        message.field.add(
            name=name, number=number, type=of_type, type_name=type_name or None, label=FIELD.LABEL_OPTIONAL
        )
    message.field.add(name="tags", number=20, type=FIELD.TYPE_STRING, label=FIELD.LABEL_REPEATED)
    message.oneof_decl.add(name="_note")
    message.field.add(
        name="note",
        number=21,
        type=FIELD.TYPE_STRING,
        label=FIELD.LABEL_OPTIONAL,
        oneof_index=0,
        proto3_optional=True,
    )
    entry = message.nested_type.add(name="CountsEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=FIELD.TYPE_INT64, label=FIELD.LABEL_OPTIONAL)
    entry.field.add(name="value", number=2, type=FIELD.TYPE_INT64, label=FIELD.LABEL_OPTIONAL)
    message.field.add(
        name="counts",
        number=22,
        type=FIELD.TYPE_MESSAGE,
        type_name=".shop.OrderRequest.CountsEntry",
        label=FIELD.LABEL_REPEATED,
    )
    newer = file.message_type.add(name="NewerRequest")
    newer.field.add(name="order_id", number=1, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL)
    newer.field.add(name="secret", number=99, type=FIELD.TYPE_STRING, label=FIELD.LABEL_OPTIONAL)
    return file


_pool = descriptor_pool.Default()
# Other modules of one process may have added it.
_pool.AddSerializedFile(_file().SerializeToString())
OrderRequest: Any = message_factory.GetMessageClass(_pool.FindMessageTypeByName("shop.OrderRequest"))
NewerRequest: Any = message_factory.GetMessageClass(_pool.FindMessageTypeByName("shop.NewerRequest"))


@dataclass
class Answer:
    """The answer of the service, or its refusal: ``outward`` is None for an answer."""

    text: str
    outward: Outward | None = None
    decision: str = ""


class ShopStories:
    """The stories of a service. A subclass puts real software between ``call`` and the handlers.

    The service has ``read`` of one order, ``refund``, which writes it, and ``purge``, which no table has.
    Each handler calls ``world.run``.
    """

    # What a guard of this kind of service judges by.
    table: CallTable

    def call(
        self,
        world: World,
        guard: Guard,
        name: str,
        arguments: dict[str, Any],
        headers: list[tuple[str, str]],
    ) -> Answer:
        """Call ``name`` with these headers."""
        raise NotImplementedError

    def judged(self, name: str, arguments: dict[str, Any]) -> tuple[str, str, bytes]:
        """Return action, resource and arguments of a call, for a proof."""
        raise NotImplementedError

    def test_an_allowed_call_is_handled(self, world: World) -> None:
        """The handler runs once, with what was judged."""
        answer = self._call(world, "refund", {"order_id": "17", "amount": 100})

        assert answer == Answer("refund done")
        assert [name for name, _ in world.ran] == ["refund"]
        assert world.ran[0][1]["amount"] == 100
        assert world.denied == []

    def test_a_denied_call_is_not_handled(self, world: World) -> None:
        """The caller learns the decision's id, and no reason."""
        answer = self._call(world, "refund", {"order_id": "17", "amount": 101})

        self._refused(world, answer, Outward.DENIED)
        assert world.denied[-1].reason == "CONDITION_FAILED"
        assert answer.decision == world.denied[-1].decision_id.hex() != ""

    def test_a_call_outside_the_table_is_not_handled(self, world: World) -> None:
        """A method that nobody put in the table."""
        self._refused(world, self._call(world, "purge", {"order_id": "17"}), Outward.DENIED)
        assert world.denied[-1].reason in ("UNKNOWN_TOOL", "OUT_OF_SCOPE")

    @pytest.mark.parametrize(
        "headers",
        [
            [],
            [("authorization", "Basic dXNlcjpwYXNz")],
            [("authorization", "Bearer")],
            [("authorization", "Bearer {token}"), ("authorization", "Bearer {token}")],
            [("authorization", "Bearer {token},Bearer {token}")],
            [("authorization", "{token}")],
        ],
        ids=["none", "basic", "empty", "two", "joined", "no scheme"],
    )
    def test_without_one_token_nothing_is_handled(self, world: World, headers: list[tuple[str, str]]) -> None:
        """No token, or two, or one in another form."""
        text = self._token(world).present().text
        filled = [(name, value.format(token=text)) for name, value in headers]

        answer = self.call(world, self._guard(world), "read", {"order_id": "17"}, filled)

        self._refused(world, answer, Outward.UNAUTHENTICATED)

    def test_after_the_end_of_the_session_nothing_is_handled(self, world: World) -> None:
        """The next call after the end."""
        token = self._token(world)
        assert self._call(world, "read", {"order_id": "17"}, token) == Answer("read done")
        world.end(token)
        world.ran.clear()

        self._refused(world, self._call(world, "read", {"order_id": "17"}, token), Outward.UNAUTHENTICATED)

    def test_a_guard_that_raises_lets_nothing_through(self, world: World) -> None:
        """No exception of a verifier is an allow, nor shown."""
        answer = self._call(world, "read", {"order_id": "17"}, verifier=Broken())

        self._refused(world, answer, Outward.UNAVAILABLE)

    def test_with_a_dead_server_nothing_is_handled(self, world: World) -> None:
        """A server that is not there gives no answer, which is no yes."""
        with world.dead_client() as client:
            answer = self._call(world, "read", {"order_id": "17"}, verifier=client)

        self._refused(world, answer, Outward.UNAVAILABLE)

    @pytest.mark.parametrize("order_id", ["", ".", "..", "a/b", "%2e%2e", "*", "a\\b"])
    def test_a_value_can_not_be_more_than_its_segment(self, world: World, order_id: str) -> None:
        """A place of the resource is one plain segment."""
        token = self._token(world, "read:orders/**")

        answer = self._call(world, "read", {"order_id": order_id}, token)

        assert answer.outward in (Outward.DENIED, Outward.UNAUTHENTICATED)
        assert world.ran == []

    def test_a_bound_token_needs_a_proof_of_this_call(self, world: World) -> None:
        """Without a proof, with one of another call, or with one that was used, nothing is handled."""
        holder = HolderKey.generate()
        session = world.session(ceiling=CEILING)
        token = world.server.operator.mint(
            session.id, SCOPES, [AUDIENCE], ending="bound", to=holder.public, may_seal=False
        )
        key = world.server.operator.verifier_keys().current(SystemClock().now_ms())
        assert key is not None
        small, large = ({"order_id": "17", "amount": amount} for amount in (5, 50))
        proof = holder.prove(token, *self.judged("refund", small), key)
        from sessauth.crypto.armor import proof_text

        bearer = ("authorization", f"Bearer {token.text}")
        proven = [bearer, ("x-sessauth-proof", proof_text(proof))]
        guard = self._guard(world)

        self._refused(world, self.call(world, guard, "refund", small, [bearer]), Outward.DENIED)
        self._refused(world, self.call(world, guard, "refund", large, proven), Outward.DENIED)
        two = [*proven, proven[1]]
        self._refused(world, self.call(world, guard, "refund", small, two), Outward.DENIED)
        assert self.call(world, guard, "refund", small, proven) == Answer("refund done")
        world.ran.clear()
        self._refused(world, self.call(world, guard, "refund", small, proven), Outward.DENIED)
        assert world.denied[-1].reason == "REPLAYED"

    def test_a_guard_that_observes_lets_all_through(self, world: World) -> None:
        """Each call is handled, and those that would be denied are reported."""
        guard = self._guard(world, mode="observe")
        headers = self._headers(self._token(world))

        for name, arguments, sent in (
            ("refund", {"order_id": "17", "amount": 101}, headers),
            ("purge", {"order_id": "17"}, headers),
            ("read", {"order_id": "17"}, []),
        ):
            assert self.call(world, guard, name, arguments, sent) == Answer(f"{name} done")
        assert [denied.observed for denied in world.denied] == [True] * 3

    def _token(self, world: World, *scopes: str) -> Any:
        return world.token(*(scopes or SCOPES), session=world.session(ceiling=CEILING))

    def _guard(self, world: World, **options: Any) -> Guard:
        verifier = options.pop("verifier", world.server.verifier)
        return Guard(verifier, self.table, audience=AUDIENCE, on_denied=world.denied.append, **options)

    @staticmethod
    def _headers(token: Any) -> list[tuple[str, str]]:
        return [("authorization", f"Bearer {token.present().text}")]

    def _call(
        self, world: World, name: str, arguments: dict[str, Any], token: Any = None, **options: Any
    ) -> Answer:
        headers = self._headers(token or self._token(world))
        return self.call(world, self._guard(world, **options), name, arguments, headers)

    @staticmethod
    def _refused(world: World, answer: Answer, expected: Outward) -> None:
        """Nothing ran, and the caller reads no more than the outward text."""
        assert world.ran == []
        assert (answer.outward, answer.text) == (expected, expected.text)


def as_json(text: str | bytes) -> dict[str, Any]:
    """Return an object of JSON."""
    value = json.loads(text)
    assert isinstance(value, dict)
    return value


# Collected where an adapter is tested, not here.
ShopStories.__test__ = False  # type: ignore[attr-defined]
