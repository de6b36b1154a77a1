from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class CarriedRow(_message.Message):
    __slots__ = ("table", "key", "value", "removed")
    TABLE_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    table: str
    key: bytes
    value: bytes
    removed: bool
    def __init__(self, table: _Optional[str] = ..., key: _Optional[bytes] = ..., value: _Optional[bytes] = ..., removed: bool = ...) -> None: ...

class GroupRecord(_message.Message):
    __slots__ = ("format", "cluster_id", "incarnation", "term", "number", "previous", "server", "after_seq", "changes", "rows", "at_ms", "head_digest", "revision", "engine_id", "begins_engine")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    AFTER_SEQ_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    ROWS_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    HEAD_DIGEST_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ENGINE_ID_FIELD_NUMBER: _ClassVar[int]
    BEGINS_ENGINE_FIELD_NUMBER: _ClassVar[int]
    format: int
    cluster_id: bytes
    incarnation: bytes
    term: int
    number: int
    previous: bytes
    server: str
    after_seq: int
    changes: _containers.RepeatedScalarFieldContainer[bytes]
    rows: _containers.RepeatedCompositeFieldContainer[CarriedRow]
    at_ms: int
    head_digest: bytes
    revision: int
    engine_id: str
    begins_engine: bool
    def __init__(self, format: _Optional[int] = ..., cluster_id: _Optional[bytes] = ..., incarnation: _Optional[bytes] = ..., term: _Optional[int] = ..., number: _Optional[int] = ..., previous: _Optional[bytes] = ..., server: _Optional[str] = ..., after_seq: _Optional[int] = ..., changes: _Optional[_Iterable[bytes]] = ..., rows: _Optional[_Iterable[_Union[CarriedRow, _Mapping]]] = ..., at_ms: _Optional[int] = ..., head_digest: _Optional[bytes] = ..., revision: _Optional[int] = ..., engine_id: _Optional[str] = ..., begins_engine: bool = ...) -> None: ...

class SignedGroup(_message.Message):
    __slots__ = ("payload", "key_id", "signature")
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    key_id: bytes
    signature: bytes
    def __init__(self, payload: _Optional[bytes] = ..., key_id: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class CarriedPosition(_message.Message):
    __slots__ = ("number", "digest", "term", "engine_id", "format", "adopted")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    ENGINE_ID_FIELD_NUMBER: _ClassVar[int]
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    ADOPTED_FIELD_NUMBER: _ClassVar[int]
    number: int
    digest: bytes
    term: int
    engine_id: str
    format: int
    adopted: int
    def __init__(self, number: _Optional[int] = ..., digest: _Optional[bytes] = ..., term: _Optional[int] = ..., engine_id: _Optional[str] = ..., format: _Optional[int] = ..., adopted: _Optional[int] = ...) -> None: ...

class ClusterBrake(_message.Message):
    __slots__ = ("reason", "principal", "at_ms")
    REASON_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    principal: str
    at_ms: int
    def __init__(self, reason: _Optional[str] = ..., principal: _Optional[str] = ..., at_ms: _Optional[int] = ...) -> None: ...

class CredentialRecord(_message.Message):
    __slots__ = ("name", "role", "audiences", "secret_hash", "added_at_ms", "added_by")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    AUDIENCES_FIELD_NUMBER: _ClassVar[int]
    SECRET_HASH_FIELD_NUMBER: _ClassVar[int]
    ADDED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    ADDED_BY_FIELD_NUMBER: _ClassVar[int]
    name: str
    role: str
    audiences: _containers.RepeatedScalarFieldContainer[str]
    secret_hash: bytes
    added_at_ms: int
    added_by: str
    def __init__(self, name: _Optional[str] = ..., role: _Optional[str] = ..., audiences: _Optional[_Iterable[str]] = ..., secret_hash: _Optional[bytes] = ..., added_at_ms: _Optional[int] = ..., added_by: _Optional[str] = ...) -> None: ...
