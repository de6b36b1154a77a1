from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class CallerStatement(_message.Message):
    __slots__ = ("cluster_id", "host", "term", "method", "request_digest", "principal", "role", "audiences", "issued_at_ms", "id", "proven", "replayed", "credential")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    REQUEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    AUDIENCES_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    PROVEN_FIELD_NUMBER: _ClassVar[int]
    REPLAYED_FIELD_NUMBER: _ClassVar[int]
    CREDENTIAL_FIELD_NUMBER: _ClassVar[int]
    cluster_id: bytes
    host: str
    term: int
    method: str
    request_digest: bytes
    principal: str
    role: str
    audiences: _containers.RepeatedScalarFieldContainer[str]
    issued_at_ms: int
    id: bytes
    proven: bytes
    replayed: bytes
    credential: bytes
    def __init__(self, cluster_id: _Optional[bytes] = ..., host: _Optional[str] = ..., term: _Optional[int] = ..., method: _Optional[str] = ..., request_digest: _Optional[bytes] = ..., principal: _Optional[str] = ..., role: _Optional[str] = ..., audiences: _Optional[_Iterable[str]] = ..., issued_at_ms: _Optional[int] = ..., id: _Optional[bytes] = ..., proven: _Optional[bytes] = ..., replayed: _Optional[bytes] = ..., credential: _Optional[bytes] = ...) -> None: ...

class SignedStatement(_message.Message):
    __slots__ = ("payload", "public_key", "signature")
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    public_key: bytes
    signature: bytes
    def __init__(self, payload: _Optional[bytes] = ..., public_key: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...
