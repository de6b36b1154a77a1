"""Bound tokens over a real socket: minted to a key, proven call by call, denied for the right reason."""

from __future__ import annotations

from collections.abc import Iterator

import grpc
import pytest

from sessauth.crypto.armor import proof_text
from sessauth.crypto.keys import IssuerKey, VerifierKey
from sessauth.tokens.block_draft import Ending
from sessauth.tokens.prover import HolderKey
from sessauth.tokens.token import Token
from sessauth.v1 import authorization_service_pb2 as check_pb
from sessauth.v1 import key_service_pb2 as keys_pb
from sessauth.v1 import session_service_pb2 as sessions
from sessauth.v1 import token_pb2
from sessauth.v1 import token_service_pb2 as tokens
from tests.support.bound import age_keys, current, verifier_keys
from tests.support.service import Caller, RpcError, Service, running, wait_until

ARGUMENTS = b'{"n":1}'


@pytest.fixture
def holder() -> HolderKey:
    """The holder that the tokens are bound to."""
    return HolderKey.generate()


@pytest.fixture
def host(operator: Caller) -> VerifierKey:
    """The server's key to prove for."""
    return current(verifier_keys(operator, operator))


def mint_request(session: sessions.Session, holder: HolderKey, **given: object) -> tokens.MintRequest:
    """A request for a token that may read, bound to a holder."""
    return tokens.MintRequest(
        **{
            "session_id": session.id,
            "scopes": ["read:files/**"],
            "audience": ["gw"],
            "next_key": holder.public.next_key,
            "proof_key": holder.public.proof_key,
            **given,
        }  # type: ignore[arg-type]
    )


@pytest.fixture
def bound(operator: Caller, session: sessions.Session, holder: HolderKey) -> Token:
    """A token that the server minted to the holder."""
    return Token.parse(operator.call("TokenService/Mint", mint_request(session, holder)).token)


def check(caller: Caller, token: Token, proof: bytes = b"", resource: bytes = b"files/a") -> str:
    """Judge one read; gives the reason's name."""
    item = check_pb.CheckItem(
        token=token.data, action=b"read", resource=resource, arguments=ARGUMENTS, proof=proof
    )
    answer = caller.call("AuthorizationService/Check", check_pb.CheckRequest(item=item, audience="gw"))
    decision = answer.decision
    assert decision.allowed == (decision.reason == check_pb.REASON_ALLOWED)
    return check_pb.Reason.Name(decision.reason).removeprefix("REASON_")


def test_a_proven_call_is_allowed_once(
    operator: Caller, bound: Token, holder: HolderKey, host: VerifierKey
) -> None:
    """Each kind of proof, as bytes and as text; a second use of one is a replay."""
    assert (bound.ending, holder.holds(bound)) == (Ending.BOUND, True)
    for kind in ("mac", "ed25519", ""):
        proof = holder.prove(bound, "read", "files/a", ARGUMENTS, host, kind=kind)
        assert [check(operator, bound, proof) for _ in range(2)] == ["ALLOWED", "REPLAYED"]
    text = proof_text(holder.prove(bound, "read", "files/a", ARGUMENTS, host)).encode()
    assert [check(operator, bound, text) for _ in range(2)] == ["ALLOWED", "REPLAYED"]


def test_a_stolen_token_is_worth_nothing(
    operator: Caller, bound: Token, holder: HolderKey, host: VerifierKey
) -> None:
    """Without a proof, with a proof for another call, with another holder's, with one of yesterday."""
    thief = HolderKey.generate()
    other = holder.prove(bound, "read", "files/b", ARGUMENTS, host)
    early = holder.prove(bound, "read", "files/a", ARGUMENTS, host, now_ms=host.not_before_ms - 86_400_000)

    assert check(operator, bound) == "PROOF_REQUIRED"
    assert check(operator, bound, b"\x00") == "BAD_PROOF"
    assert check(operator, bound, other) == "BAD_PROOF"
    assert check(operator, bound, other, resource=b"files/b") == "ALLOWED"
    assert check(operator, bound, early) == "STALE_PROOF"
    assert check(operator, bound, _forged(thief, holder, bound, host)) == "BAD_PROOF"


def _forged(thief: HolderKey, holder: HolderKey, bound: Token, host: VerifierKey) -> bytes:
    """Return the best proof of a thief with the token and all that is public, but no secret of the holder."""

    class Posing(HolderKey):
        __slots__ = ()

    posing = Posing(thief._seed, thief._proof_secret)
    posing.public = holder.public
    return posing.prove(bound, "read", "files/a", ARGUMENTS, host)


def test_a_proof_for_another_host_does_not_count(
    operator: Caller, bound: Token, holder: HolderKey, host: VerifierKey
) -> None:
    """Another verifier id, another key: both are named in the proof."""
    with running() as elsewhere:
        foreign = current(verifier_keys(elsewhere.caller(), elsewhere.operator))

    assert foreign.cluster_id != host.cluster_id
    assert check(operator, bound, holder.prove(bound, "read", "files/a", ARGUMENTS, foreign)) == "BAD_PROOF"


def test_a_batch_and_a_stream_take_proofs(
    operator: Caller, bound: Token, holder: HolderKey, host: VerifierKey
) -> None:
    """Each item with its own; one proof in two items counts for the first."""
    proofs = [holder.prove(bound, "read", "files/a", ARGUMENTS, host) for _ in range(2)]
    items = [
        check_pb.CheckItem(
            token=bound.data, action=b"read", resource=b"files/a", arguments=ARGUMENTS, proof=proof
        )
        for proof in (proofs[0], b"", proofs[0], proofs[1])
    ]
    batch = operator.call(
        "AuthorizationService/CheckBatch", check_pb.CheckBatchRequest(items=items, audience="gw")
    )
    fresh = holder.prove(bound, "read", "files/a", ARGUMENTS, host)
    streamed = operator.stream(
        "AuthorizationService/CheckStream",
        iter(
            check_pb.CheckStreamRequest(
                id=number,
                audience="gw",
                item=check_pb.CheckItem(
                    token=bound.data, action=b"read", resource=b"files/a", arguments=ARGUMENTS, proof=fresh
                ),
            )
            for number in range(2)
        ),
    )

    names = [check_pb.Reason.Name(each.reason) for each in batch.decisions]
    assert names == ["REASON_ALLOWED", "REASON_PROOF_REQUIRED", "REASON_REPLAYED", "REASON_ALLOWED"]
    assert [each.decision.allowed for each in streamed] == [True, False]


def test_anyone_may_ask_for_the_hosts_keys(service: Service, operator: Caller) -> None:
    """A holder has no credential; what it is told is signed."""
    listed = verifier_keys(service.caller(), operator)

    assert len(listed) >= 1
    assert current(listed).expires_at_ms - current(listed).not_before_ms == 3_600_000


def test_no_answer_holds_a_secret(service: Service, operator: Caller) -> None:
    """Neither the list of verifier keys nor anything else gives out what lies in proof/keys."""
    from sessauth.state.host.proof_keys import HostProofKeys

    answer = operator.call("KeyService/ListVerifierKeys", keys_pb.ListVerifierKeysRequest())

    for key in HostProofKeys.read(service.made.state_dir).keys:
        assert key.secret not in answer.SerializeToString()


def test_a_proof_made_before_a_rotation_counts_after_it(
    operator: Caller, service: Service, bound: Token, holder: HolderKey, host: VerifierKey
) -> None:
    """Both keys count; the new one is listed first once it does, and a key that is over is none."""
    before = holder.prove(bound, "read", "files/a", ARGUMENTS, host)
    age_keys(service, 1_800_001)
    assert check(operator, bound, before) == "ALLOWED"
    assert wait_until(lambda: len(verifier_keys(operator, operator)) == 2)
    new, old = verifier_keys(operator, operator)
    assert (new.key_id, old.key_id) != (host.key_id, host.key_id) and old.key_id == host.key_id
    assert service.control is not None

    def reason(key: VerifierKey) -> str:
        return check(operator, bound, holder.prove(bound, "read", "files/a", ARGUMENTS, key))

    assert wait_until(lambda: reason(new) == "ALLOWED")
    assert reason(old) == "ALLOWED"
    age_keys(service, 1_800_000)
    assert wait_until(lambda: reason(old) == "BAD_PROOF")
    assert reason(new) == "ALLOWED"


def test_an_open_token_is_bound_by_the_server(
    operator: Caller, session: sessions.Session, holder: HolderKey, host: VerifierKey
) -> None:
    """Attenuate binds for clients without a library; a bound token it can't extend."""
    opened = operator.call(
        "TokenService/Mint",
        tokens.MintRequest(
            session_id=session.id, scopes=["read:files/**"], audience=["gw"], ending=token_pb2.ENDING_OPEN
        ),
    )
    made = operator.call(
        "TokenService/Attenuate",
        tokens.AttenuateRequest(
            token=opened.token,
            next_key=holder.public.next_key,
            proof_key=holder.public.proof_key,
            may_seal=True,
        ),
    )
    child = Token.parse(made.token)

    assert check(operator, child, holder.prove(child, "read", "files/a", ARGUMENTS, host)) == "ALLOWED"
    assert check(operator, child.attenuate(key=holder)) == "ALLOWED"
    with pytest.raises(RpcError) as refused:
        operator.call("TokenService/Attenuate", tokens.AttenuateRequest(token=made.token))
    assert (refused.value.code, refused.value.word) == (grpc.StatusCode.FAILED_PRECONDITION, "NOT_EXTENDABLE")


def _issuer_key(operator: Caller) -> bytes:
    listed = operator.call("KeyService/ListKeys", keys_pb.ListKeysRequest()).keys
    return bytes(listed[0].public_key)


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"next_key": b"short"}, "next_key"),
        ({"next_key": b"\x01" + bytes(31)}, "next_key"),
        ({"proof_key": b"short"}, "proof_key"),
        ({"proof_key": bytes(32)}, "proof_key"),
        ({"next_key": b""}, "next_key"),
        ({"next_key": b"", "proof_key": b"", "may_seal": True}, "next_key"),
        ({"next_key": b"", "proof_key": b"", "ending": token_pb2.ENDING_BOUND}, "next_key"),
        ({"ending": token_pb2.ENDING_OPEN}, "ending"),
        ({"ending": token_pb2.ENDING_SEALED}, "ending"),
        ({"ending": 9}, "ending"),
    ],
)
def test_a_holders_key_that_is_none_is_refused_by_field(
    operator: Caller, session: sessions.Session, holder: HolderKey, given: dict[str, object], field: str
) -> None:
    """INVALID_ARGUMENT, with the field at fault, before anything is signed."""
    with pytest.raises(RpcError) as refused:
        operator.call("TokenService/Mint", mint_request(session, holder, **given))
    assert (refused.value.code, refused.value.field) == (grpc.StatusCode.INVALID_ARGUMENT, field)


def test_no_issuer_key_becomes_a_holders(
    operator: Caller, session: sessions.Session, holder: HolderKey
) -> None:
    """Not the one that signs, nor any other that the service lists."""
    other = IssuerKey.generate()
    operator.call("KeyService/AddKey", keys_pb.AddKeyRequest(public_key=other.public_key, owner="team"))

    for key in (_issuer_key(operator), other.public_key):
        with pytest.raises(RpcError) as refused:
            operator.call("TokenService/Mint", mint_request(session, holder, next_key=key))
        assert refused.value.field == "next_key"


def test_a_bound_token_needs_no_audience(
    operator: Caller, session: sessions.Session, holder: HolderKey
) -> None:
    """A proof names the host; any other token names its verifiers."""
    made = operator.call("TokenService/Mint", mint_request(session, holder, audience=[]))

    assert Token.parse(made.token).inspect().blocks[0].audience == ()
    with pytest.raises(RpcError):
        operator.call(
            "TokenService/Mint", mint_request(session, holder, audience=[], next_key=b"", proof_key=b"")
        )


@pytest.fixture
def keyless() -> Iterator[Service]:
    """A server of its own, to take its keys away."""
    with running() as started:
        yield started


def test_without_keys_only_bound_tokens_are_denied(keyless: Service) -> None:
    """Keys that others may read are no keys: bound tokens get PROOF_UNAVAILABLE, all else is judged."""
    operator, holder = keyless.operator, HolderKey.generate()
    request = sessions.OpenSessionRequest(subject="agent", ceiling=["read:files/**"])
    session = operator.call("SessionService/OpenSession", request).session
    host = current(verifier_keys(operator, operator))
    bound = Token.parse(operator.call("TokenService/Mint", mint_request(session, holder)).token)
    sealed = Token.parse(
        operator.call("TokenService/Mint", mint_request(session, holder, next_key=b"", proof_key=b"")).token
    )
    assert check(operator, bound, holder.prove(bound, "read", "files/a", ARGUMENTS, host)) == "ALLOWED"
    (keyless.made.state_dir / "proof" / "keys").chmod(0o644)

    def reason() -> str:
        return check(operator, bound, holder.prove(bound, "read", "files/a", ARGUMENTS, host))

    assert wait_until(lambda: reason() == "PROOF_UNAVAILABLE")
    assert check(operator, sealed) == "ALLOWED"
