"""Clients with a holder's key: what they prove by themselves, for which keys, and what they don't."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator

import grpc
import pytest

from sessauth import errors
from sessauth._fast import _check as kernel
from sessauth.client import AsyncClient, CheckItem, Client
from sessauth.clock import SystemClock
from sessauth.crypto.keys import IssuerKey, VerifierKey
from sessauth.reasons import Reason
from sessauth.tokens.prover import HolderKey
from sessauth.tokens.token import Issuer, Token
from sessauth.v1 import authorization_service_pb2 as check_pb
from sessauth.v1 import key_service_pb2 as keys_pb
from sessauth.v1 import token_pb2
from sessauth.v1 import token_service_pb2 as tokens_pb
from tests.support.service import Service

from .conftest import FakeServer, always, failing

CHECK = "AuthorizationService/Check"
BATCH = "AuthorizationService/CheckBatch"
STREAM = "AuthorizationService/CheckStream"
LIST = "KeyService/ListVerifierKeys"
JWKS = "KeyService/GetJwks"
ISSUER = IssuerKey(bytes(range(32)))
FOREIGN = IssuerKey(bytes(range(1, 33)))
ARGUMENTS = b'{"n": 1}'


@pytest.fixture
def holder() -> HolderKey:
    """The holder that the tokens are bound to."""
    return HolderKey.generate()


def mint(to: HolderKey | None = None) -> Token:
    """A token of a session that nobody opened, bound if a holder is given."""
    public = to.public if to is not None else None
    return Issuer(ISSUER).mint(b"s" * 16, ["read:files/**"], ["gw"], ttl_ms=60_000, to=public)


def listed(*keys: tuple[int, int], issuer: IssuerKey = ISSUER) -> keys_pb.ListVerifierKeysResponse:
    """An answer with keys of the host by number, each with what is left of its life in ms."""
    now_ms = SystemClock().now_ms()
    signed = [
        VerifierKey(
            b"v" * 16, kernel.x25519_public(bytes([number]) * 32), now_ms - 1000, now_ms + left_ms, b"c" * 16
        ).signed_by(issuer)
        for number, left_ms in keys
    ]
    return keys_pb.ListVerifierKeysResponse(
        keys=[
            token_pb2.SignedVerifierKey(
                payload=each.payload, issuer_key_id=each.issuer_key_id, signature=each.signature
            )
            for each in signed
        ]
    )


def id_of(number: int) -> bytes:
    """The id of a host's key by number."""
    return VerifierKey(b"v" * 16, kernel.x25519_public(bytes([number]) * 32), 0, 1, b"c" * 16).key_id


@pytest.fixture
def host(server: FakeServer) -> FakeServer:
    """A server with one verifier key, that allows everything."""
    server.answers[LIST] = always(listed((1, 3_600_000)))
    server.answers[JWKS] = always(
        keys_pb.GetJwksResponse(jwks=json.dumps({"keys": [ISSUER.public_jwk()]}).encode())
    )
    server.answers[CHECK] = always(check_pb.CheckResponse(decision=decision(Reason.ALLOWED)))
    return server


def decision(reason: Reason) -> check_pb.Decision:
    """A decision with a reason."""
    return check_pb.Decision(allowed=reason is Reason.ALLOWED, reason=int(reason))  # type: ignore[arg-type]


def proofs(server: FakeServer) -> list[dict[str, object]]:
    """The proofs that came with checks, decoded; empty where there was none."""
    sent = [
        check_pb.CheckRequest.FromString(each.request).item for each in server.seen if each.method == CHECK
    ]
    return [kernel.decode_message("Proof", item.proof) if item.proof else {} for item in sent]


def called(server: FakeServer) -> list[str]:
    """The methods that were called, without their service."""
    return [each.method.partition("/")[2] for each in server.seen]


@pytest.fixture
def client(host: FakeServer, holder: HolderKey) -> Iterator[Client]:
    """A client with a holder's key."""
    with Client(host.target, "sessauth_key_tester_secret", holder=holder) as client:
        yield client


def test_a_bound_call_is_proven_and_keys_are_asked_for_once(
    host: FakeServer, client: Client, holder: HolderKey
) -> None:
    """Two calls, two proofs, each for its own bytes, one look at the host's keys."""
    token = mint(holder)

    assert client.check(token, "read", "files/a", ARGUMENTS, audience="gw")
    assert client.check(token.text, "read", "files/b", audience="gw")

    first, second = proofs(host)
    assert called(host) == ["ListVerifierKeys", "GetJwks", "Check", "Check"]
    assert (first["key_id"], first["kind"], first["verifier_id"]) == (id_of(1), 2, b"v" * 16)
    assert first["nonce"] != second["nonce"] and first["tag"] != second["tag"]


def test_what_is_not_bound_to_the_holder_is_sent_as_it_is(host: FakeServer, client: Client) -> None:
    """Sealed, another's and no token at all: no proof, and no call for keys."""
    for token in (mint(), mint(HolderKey.generate()), b"garbage", "sessauth_token_AAAA.AAAAAA"):
        client.check(token, "read", "files/a", audience="gw")

    assert proofs(host) == [{}] * 4
    assert set(called(host)) == {"Check"}


def test_a_proof_that_is_given_is_sent_instead(host: FakeServer, client: Client, holder: HolderKey) -> None:
    """A gateway passes on what the holder made; nothing is made over it."""
    client.check(mint(holder), "read", "files/a", proof=b"given", audience="gw")

    request = host.requests(check_pb.CheckRequest)[-1]
    assert request.item.proof == b"given"
    assert called(host) == ["Check"]


@pytest.mark.parametrize("reason", [Reason.BAD_PROOF, Reason.STALE_PROOF])
def test_a_proof_that_did_not_count_is_made_again_once(
    host: FakeServer, client: Client, holder: HolderKey, reason: Reason
) -> None:
    """The second proof is by keys fetched anew; the second answer stands, whatever it is."""
    answers = [Reason.ALLOWED, reason, Reason.ALLOWED, reason, reason]
    host.answers[CHECK] = lambda _request, _context: check_pb.CheckResponse(decision=decision(answers.pop(0)))
    token = mint(holder)
    first = client.check(token, "read", "files/a", audience="gw")
    host.answers[LIST] = always(listed((2, 3_600_000), (1, 1_800_000)))
    second = client.check(token, "read", "files/a", audience="gw")
    third = client.check(token, "read", "files/a", audience="gw")

    assert (first.reason, second.reason, third.reason) == (Reason.ALLOWED, Reason.ALLOWED, reason)
    assert [each["key_id"] for each in proofs(host)] == [id_of(n) for n in (1, 1, 2, 2, 2)]
    assert called(host).count("ListVerifierKeys") == 3


def test_other_denials_ask_for_nothing(host: FakeServer, client: Client, holder: HolderKey) -> None:
    """A replay, a scope, an ended session: asked once."""
    for reason in (Reason.REPLAYED, Reason.OUT_OF_SCOPE, Reason.SESSION_ENDED, Reason.PROOF_UNAVAILABLE):
        host.answers[CHECK] = always(check_pb.CheckResponse(decision=decision(reason)))
        assert client.check(mint(holder), "read", "files/a", audience="gw").reason is reason

    assert called(host).count("Check") == 4
    assert called(host).count("ListVerifierKeys") == 1


def test_keys_that_end_soon_are_asked_for_again(host: FakeServer, client: Client, holder: HolderKey) -> None:
    """A key with less than half a minute left is not proven for: a proof for it might come too late."""
    host.answers[LIST] = always(listed((1, 20_000)))

    with pytest.raises(errors.Unavailable, match="end too soon"):
        client.check(mint(holder), "read", "files/a", audience="gw")
    host.answers[LIST] = always(listed((2, 3_600_000)))
    assert client.check(mint(holder), "read", "files/a", audience="gw")
    assert [each["key_id"] for each in proofs(host)] == [id_of(2)]


def test_a_foreign_hosts_key_is_not_proven_for(host: FakeServer, client: Client, holder: HolderKey) -> None:
    """A key that the cluster's issuers don't vouch for raises, and no call is made."""
    host.answers[LIST] = always(listed((1, 3_600_000), issuer=FOREIGN))

    with pytest.raises(errors.UsageError, match="none of those given"):
        client.check(mint(holder), "read", "files/a", audience="gw")
    assert "Check" not in called(host)


@pytest.mark.parametrize("form", ["keys", "jwks", "iterator"])
def test_pinned_issuer_keys_are_asked_of_nobody(host: FakeServer, holder: HolderKey, form: str) -> None:
    """A holder that pins needs no credential, and believes no server about who may vouch for it."""
    host.answers[JWKS] = failing(grpc.StatusCode.UNAUTHENTICATED)
    forms: dict[str, Callable[[], object]] = {
        "keys": lambda: [ISSUER.public_key],
        "jwks": lambda: json.dumps({"keys": [ISSUER.public_jwk()]}),
        "iterator": lambda: iter([ISSUER.public_key]),
    }
    with Client(host.target, "", holder=holder, issuer_keys=forms[form]()) as client:  # type: ignore[arg-type]
        assert client.with_timeout(1000).check(mint(holder), "read", "files/a", audience="gw")
        assert client.verifier_keys().verifier_id == b"v" * 16
    with (
        Client(host.target, "", holder=holder, issuer_keys=[FOREIGN.public_key]) as client,
        pytest.raises(errors.UsageError, match="none of those given"),
    ):
        client.check(mint(holder), "read", "files/a", audience="gw")


def test_a_check_with_a_proof_is_not_repeated(host: FakeServer, client: Client, holder: HolderKey) -> None:
    """The first attempt may have used the proof up; a sealed token's check is repeated as before."""
    host.answers[CHECK] = failing(grpc.StatusCode.UNAVAILABLE)

    for token, attempts in ((mint(holder), 1), (mint(), 3)):
        host.seen.clear()
        with pytest.raises(errors.Unavailable):
            client.check(token, "read", "files/a", audience="gw")
        assert called(host).count("Check") == attempts


def test_a_batch_is_proven_item_by_item(host: FakeServer, client: Client, holder: HolderKey) -> None:
    """Bound ones get proofs, others none; after a bad proof the keys are asked for at the next call."""
    reasons = (Reason.ALLOWED, Reason.BAD_PROOF, Reason.ALLOWED)
    host.answers[BATCH] = always(
        check_pb.CheckBatchResponse(decisions=[decision(reason) for reason in reasons])
    )
    bound = mint(holder)
    items = [CheckItem(token, "read", "files/a") for token in (mint(), bound, bound)]

    client.check_batch(items, audience="gw")
    client.check_batch(items, audience="gw")

    batches = [
        check_pb.CheckBatchRequest.FromString(each.request) for each in host.seen if each.method == BATCH
    ]
    for batch in batches:
        assert [bool(item.proof) for item in batch.items] == [False, True, True]
        assert batch.items[1].proof != batch.items[2].proof
    assert called(host).count("ListVerifierKeys") == 2


def test_minting_to_a_key_says_so_in_the_request(
    server: FakeServer, client: Client, holder: HolderKey
) -> None:
    """Key or text; what contradicts it is refused before anything is sent, and named."""
    server.answers["TokenService/Mint"] = always(tokens_pb.MintResponse(token=mint(holder).text))
    for to in (holder.public, holder.public.text):
        client.mint(b"s" * 16, ["read:files/**"], [], to=to, may_seal=True)

    for request in server.requests(tokens_pb.MintRequest):
        assert (request.next_key, request.proof_key) == (holder.public.next_key, holder.public.proof_key)
        assert request.may_seal and request.ending == token_pb2.ENDING_UNSPECIFIED
    sent = len(server.seen)
    with pytest.raises(errors.UsageError, match="ending"):
        client.mint(b"s" * 16, ["read:files/**"], ["gw"], to=holder.public, ending="open")
    with pytest.raises(errors.UsageError, match="to: "):
        client.mint(b"s" * 16, ["read:files/**"], ["gw"], may_seal=True)
    with pytest.raises(errors.UsageError, match="begins with"):
        client.mint(b"s" * 16, ["read:files/**"], ["gw"], to="alice")
    assert len(server.seen) == sent


def test_no_repr_of_a_call_shows_a_proof() -> None:
    """Nor a token or arguments: an item may end in a log."""
    item = CheckItem("sessauth_token_x", "read", "files/a", b"{}", proof=b"proof-bytes")

    assert "proof" not in repr(item) and "sessauth_token_x" not in repr(item)


def test_bound_calls_through_a_real_server(service: Service, holder: HolderKey) -> None:
    """Minted to a key, proven by the client that has it, narrowed to the next holder; others are denied."""
    next_holder = HolderKey.generate()
    target = str(service.made.socket)
    with (
        Client(target, timeout_ms=10_000, holder=holder) as mine,
        Client(target, timeout_ms=10_000, holder=next_holder) as theirs,
        mine.session(subject="agent", ceiling=["read:files/** free *"]) as session,
    ):
        token = session.mint(["read:files/** free *"], ["gw"], to=holder.public)
        child = token.attenuate(scopes=["read:files/b free *"], to=next_holder.public, key=holder)

        def reason(client: Client, held: Token, name: str) -> Reason:
            return client.check(held, "read", f"files/{name}", ARGUMENTS, audience="gw").reason

        assert [reason(mine, token, name) for name in "aab"] == [Reason.ALLOWED] * 3
        assert reason(theirs, token, "a") is Reason.PROOF_REQUIRED
        assert reason(theirs, child, "b") is Reason.ALLOWED
        assert reason(theirs, child, "a") is Reason.OUT_OF_SCOPE
        assert reason(mine, child, "b") is Reason.PROOF_REQUIRED
        batch = mine.check_batch([CheckItem(token, "read", "files/a") for _ in range(3)], audience="gw")
        assert all(batch)
        streamed = mine.check_stream((CheckItem(token, "read", "files/a") for _ in range(3)), audience="gw")
        assert [bool(answer) for _, answer in streamed] == [True] * 3


def test_the_asyncio_client_proves_as_well(service: Service, holder: HolderKey) -> None:
    """Checks, batches and streams, by the same keys."""

    async def ask() -> list[bool]:
        async with AsyncClient(str(service.made.socket), timeout_ms=10_000, holder=holder) as client:
            assert len(await client.verifier_keys()) >= 1
            async with client.session(subject="agent", ceiling=["read:files/**"]) as session:
                token = await session.mint(["read:files/**"], ["gw"], to=holder.public)
                items = [CheckItem(token, "read", "files/a") for _ in range(2)]
                one = await client.check(token, "read", "files/a", audience="gw")
                many = await client.check_batch(items, audience="gw")
                streamed = [answer async for _, answer in client.check_stream(items, audience="gw")]
                return [bool(each) for each in (one, *many, *streamed)]

    assert asyncio.run(ask()) == [True] * 5
