"""TokenService: mints, revokes and exchanges; attenuates and inspects for clients without a library."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ... import limits
from ...clock import Clock
from ...model import change as changes
from ...model.session import Session, SessionStatus, lineage
from ...state.writer.state_writer import StateWriter
from ...tokens.token import Token
from ...v1 import token_pb2
from ...v1 import token_service_pb2 as pb
from .. import request_fields
from ..rpc.call import CallContext
from ..rpc.finisher import Steps
from ..status import invalid, refused
from ..writer.port import change_from, submitted
from .base import Service, require_owner_visible, require_visible
from .exchange import TransactionTokens
from .minting import CeilingOf, Minter, token_text


@dataclass(eq=False)
class TokenService(Service):
    """Answers TokenService from the log and the key folder.

    ``require_grants`` raises while no authority may be granted.
    """

    descriptor = pb.DESCRIPTOR.services_by_name["TokenService"]

    writer: StateWriter
    minter: Minter
    clock: Clock
    require_grants: Callable[[], None]
    exchanger: TransactionTokens

    def mint(self, request: pb.MintRequest, call: CallContext) -> pb.MintResponse:
        """Sign a root block for a live session that the caller sees."""
        self.require_grants()
        session = require_visible(
            self.writer.get_session(request_fields.session_id(request.session_id)), call
        )
        now_ms = self.writer.now_ms()
        members = self._live_lineage(session, now_ms)
        ceilings = map(CeilingOf.session, members)
        ends_at_ms = session.expires_at_ms
        minting = self.minter.read(request, ceilings, session.issuer_key_ids, ends_at_ms, now_ms)
        return minting.sign(session.id, ends_at_ms, session.revision, now_ms)

    def attenuate(self, request: pb.AttenuateRequest, call: CallContext) -> pb.AttenuateResponse:
        """Add a block to an open token, as a holder with the library can do without the server."""
        terms = self.minter.terms(request)
        child = Token.parse(request.token).attenuate(
            scopes=request_fields.scopes(request.scopes, "scopes") if request.scopes else (),
            audience=list(request.audience),
            ttl_ms=request.ttl_ms,
            strict=request.strict,
            clock=self.clock,
            **terms,
        )
        return pb.AttenuateResponse(
            token=token_text(child),
            block_id=child.block_ids[-1],
            expires_at_ms=child.expires_at_ms,
            warnings=list(child.warnings),
        )

    def inspect(self, request: pb.InspectRequest, call: CallContext) -> pb.InspectResponse:
        """Return a token's contents, the validity of its signatures, and its revoked blocks."""
        token = Token.parse(request.token)
        verified, detail = self._verified(token)
        blocks = [
            pb.InspectedBlock(
                block_id=block.block_id,
                block=token_pb2.Block.FromString(payload),
                scopes=[str(scope) for scope in block.scopes],
                where=[str(condition) for condition in block.where],
                revoked=self.writer.is_revoked(token.session_id, block.block_id),
            )
            for block, payload in zip(token.inspect().blocks, token.payloads, strict=True)
        ]
        return pb.InspectResponse(verified=verified, detail=detail, blocks=blocks)

    def revoke(self, request: pb.RevokeRequest, call: CallContext) -> Steps[pb.RevokeResponse]:
        """Revoke blocks, and with each all below it."""
        session_id = request_fields.session_id(request.session_id)
        require_owner_visible(self.writer.owner(session_id), call)
        if not request.block_ids:
            raise invalid("block_ids", "at least one is needed")
        block_ids = request_fields.digests(request.block_ids, "block_ids", limits.MAX_REVOKE_BLOCK_IDS)
        reason = request_fields.text(request.reason, "reason")
        change = change_from(request, call, changes.revoke, session_id, block_ids, reason)
        outcome = yield from submitted(self.writer, change, call)
        return pb.RevokeResponse(revision=outcome.revision)

    def exchange(self, request: pb.ExchangeRequest, call: CallContext) -> pb.ExchangeResponse:
        """Check a call, and sign a transaction token of one that is allowed."""
        return self.exchanger.exchange(request, call)

    def get_transaction_keys(
        self, request: pb.GetTransactionKeysRequest, call: CallContext
    ) -> pb.GetTransactionKeysResponse:
        """Return the public keys of this server's transaction tokens as a JWK set."""
        return pb.GetTransactionKeysResponse(jwks=self.exchanger.jwks())

    def _live_lineage(self, session: Session, now_ms: int) -> list[Session]:
        """Return the session and its ancestors. Raises NOT_LIVE unless all of them are alive."""
        members = list(lineage(session, self.writer.get_session))
        dead = [
            member
            for member in members
            if member.status != SessionStatus.ACTIVE or member.ends_at_ms() <= now_ms
        ]
        if dead or members[-1].parent_id:
            which = "the session" if session in dead else "an ancestor of the session"
            raise refused("NOT_LIVE", f"session_id: {which} is suspended or has ended")
        return members

    def _verified(self, token: Token) -> tuple[bool, str]:
        for key in self.writer.keys():
            if key.id == token.issuer_key_id:
                wrong = token.first_invalid_block(key.public_key)
                if wrong < 0:
                    return True, f"signed by issuer key {key.id.hex()}, which is {key.status.name}"
                return False, f"the signature of block {wrong} is wrong"
        return False, "the issuer key that the token names is not known here"
