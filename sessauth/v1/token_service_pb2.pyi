from sessauth.v1 import authorization_service_pb2 as _authorization_service_pb2
from sessauth.v1 import token_pb2 as _token_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class MintRequest(_message.Message):
    __slots__ = ("session_id", "scopes", "audience", "ttl_ms", "ending", "where", "source", "peer", "not_before_ms", "max_blocks", "label", "next_key", "proof_key", "may_seal", "strict")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    ENDING_FIELD_NUMBER: _ClassVar[int]
    WHERE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    NEXT_KEY_FIELD_NUMBER: _ClassVar[int]
    PROOF_KEY_FIELD_NUMBER: _ClassVar[int]
    MAY_SEAL_FIELD_NUMBER: _ClassVar[int]
    STRICT_FIELD_NUMBER: _ClassVar[int]
    session_id: bytes
    scopes: _containers.RepeatedScalarFieldContainer[str]
    audience: _containers.RepeatedScalarFieldContainer[str]
    ttl_ms: int
    ending: _token_pb2.Ending
    where: _containers.RepeatedScalarFieldContainer[str]
    source: _containers.RepeatedScalarFieldContainer[str]
    peer: _containers.RepeatedScalarFieldContainer[str]
    not_before_ms: int
    max_blocks: int
    label: str
    next_key: bytes
    proof_key: bytes
    may_seal: bool
    strict: bool
    def __init__(self, session_id: _Optional[bytes] = ..., scopes: _Optional[_Iterable[str]] = ..., audience: _Optional[_Iterable[str]] = ..., ttl_ms: _Optional[int] = ..., ending: _Optional[_Union[_token_pb2.Ending, str]] = ..., where: _Optional[_Iterable[str]] = ..., source: _Optional[_Iterable[str]] = ..., peer: _Optional[_Iterable[str]] = ..., not_before_ms: _Optional[int] = ..., max_blocks: _Optional[int] = ..., label: _Optional[str] = ..., next_key: _Optional[bytes] = ..., proof_key: _Optional[bytes] = ..., may_seal: bool = ..., strict: bool = ...) -> None: ...

class MintResponse(_message.Message):
    __slots__ = ("token", "token_id", "block_id", "expires_at_ms", "warnings")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    BLOCK_ID_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    token: str
    token_id: bytes
    block_id: bytes
    expires_at_ms: int
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, token: _Optional[str] = ..., token_id: _Optional[bytes] = ..., block_id: _Optional[bytes] = ..., expires_at_ms: _Optional[int] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class AttenuateRequest(_message.Message):
    __slots__ = ("token", "scopes", "audience", "ttl_ms", "ending", "where", "source", "peer", "not_before_ms", "max_blocks", "label", "strict", "next_key", "proof_key", "may_seal")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    ENDING_FIELD_NUMBER: _ClassVar[int]
    WHERE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_MS_FIELD_NUMBER: _ClassVar[int]
    MAX_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    STRICT_FIELD_NUMBER: _ClassVar[int]
    NEXT_KEY_FIELD_NUMBER: _ClassVar[int]
    PROOF_KEY_FIELD_NUMBER: _ClassVar[int]
    MAY_SEAL_FIELD_NUMBER: _ClassVar[int]
    token: str
    scopes: _containers.RepeatedScalarFieldContainer[str]
    audience: _containers.RepeatedScalarFieldContainer[str]
    ttl_ms: int
    ending: _token_pb2.Ending
    where: _containers.RepeatedScalarFieldContainer[str]
    source: _containers.RepeatedScalarFieldContainer[str]
    peer: _containers.RepeatedScalarFieldContainer[str]
    not_before_ms: int
    max_blocks: int
    label: str
    strict: bool
    next_key: bytes
    proof_key: bytes
    may_seal: bool
    def __init__(self, token: _Optional[str] = ..., scopes: _Optional[_Iterable[str]] = ..., audience: _Optional[_Iterable[str]] = ..., ttl_ms: _Optional[int] = ..., ending: _Optional[_Union[_token_pb2.Ending, str]] = ..., where: _Optional[_Iterable[str]] = ..., source: _Optional[_Iterable[str]] = ..., peer: _Optional[_Iterable[str]] = ..., not_before_ms: _Optional[int] = ..., max_blocks: _Optional[int] = ..., label: _Optional[str] = ..., strict: bool = ..., next_key: _Optional[bytes] = ..., proof_key: _Optional[bytes] = ..., may_seal: bool = ...) -> None: ...

class AttenuateResponse(_message.Message):
    __slots__ = ("token", "block_id", "expires_at_ms", "warnings")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    BLOCK_ID_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    WARNINGS_FIELD_NUMBER: _ClassVar[int]
    token: str
    block_id: bytes
    expires_at_ms: int
    warnings: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, token: _Optional[str] = ..., block_id: _Optional[bytes] = ..., expires_at_ms: _Optional[int] = ..., warnings: _Optional[_Iterable[str]] = ...) -> None: ...

class InspectRequest(_message.Message):
    __slots__ = ("token",)
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    token: str
    def __init__(self, token: _Optional[str] = ...) -> None: ...

class InspectedBlock(_message.Message):
    __slots__ = ("block_id", "block", "scopes", "where", "revoked")
    BLOCK_ID_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    WHERE_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    block_id: bytes
    block: _token_pb2.Block
    scopes: _containers.RepeatedScalarFieldContainer[str]
    where: _containers.RepeatedScalarFieldContainer[str]
    revoked: bool
    def __init__(self, block_id: _Optional[bytes] = ..., block: _Optional[_Union[_token_pb2.Block, _Mapping]] = ..., scopes: _Optional[_Iterable[str]] = ..., where: _Optional[_Iterable[str]] = ..., revoked: bool = ...) -> None: ...

class InspectResponse(_message.Message):
    __slots__ = ("verified", "detail", "blocks")
    VERIFIED_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    verified: bool
    detail: str
    blocks: _containers.RepeatedCompositeFieldContainer[InspectedBlock]
    def __init__(self, verified: bool = ..., detail: _Optional[str] = ..., blocks: _Optional[_Iterable[_Union[InspectedBlock, _Mapping]]] = ...) -> None: ...

class RevokeRequest(_message.Message):
    __slots__ = ("request_id", "session_id", "block_ids", "reason")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    BLOCK_IDS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    session_id: bytes
    block_ids: _containers.RepeatedScalarFieldContainer[bytes]
    reason: str
    def __init__(self, request_id: _Optional[str] = ..., session_id: _Optional[bytes] = ..., block_ids: _Optional[_Iterable[bytes]] = ..., reason: _Optional[str] = ...) -> None: ...

class RevokeResponse(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: int
    def __init__(self, revision: _Optional[int] = ...) -> None: ...

class ExchangeRequest(_message.Message):
    __slots__ = ("check", "trust_domain")
    CHECK_FIELD_NUMBER: _ClassVar[int]
    TRUST_DOMAIN_FIELD_NUMBER: _ClassVar[int]
    check: _authorization_service_pb2.CheckRequest
    trust_domain: str
    def __init__(self, check: _Optional[_Union[_authorization_service_pb2.CheckRequest, _Mapping]] = ..., trust_domain: _Optional[str] = ...) -> None: ...

class ExchangeResponse(_message.Message):
    __slots__ = ("decision", "transaction_token", "expires_at_ms")
    DECISION_FIELD_NUMBER: _ClassVar[int]
    TRANSACTION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    decision: _authorization_service_pb2.Decision
    transaction_token: str
    expires_at_ms: int
    def __init__(self, decision: _Optional[_Union[_authorization_service_pb2.Decision, _Mapping]] = ..., transaction_token: _Optional[str] = ..., expires_at_ms: _Optional[int] = ...) -> None: ...

class GetTransactionKeysRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetTransactionKeysResponse(_message.Message):
    __slots__ = ("jwks",)
    JWKS_FIELD_NUMBER: _ClassVar[int]
    jwks: bytes
    def __init__(self, jwks: _Optional[bytes] = ...) -> None: ...
