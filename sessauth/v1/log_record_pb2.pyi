from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class ChangeResult(_message.Message):
    __slots__ = ("revision", "rejection", "epoch", "incarnation", "purged_id")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    REJECTION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    PURGED_ID_FIELD_NUMBER: _ClassVar[int]
    revision: int
    rejection: str
    epoch: int
    incarnation: bytes
    purged_id: bytes
    def __init__(self, revision: _Optional[int] = ..., rejection: _Optional[str] = ..., epoch: _Optional[int] = ..., incarnation: _Optional[bytes] = ..., purged_id: _Optional[bytes] = ...) -> None: ...

class SessionTrace(_message.Message):
    __slots__ = ("owner", "ancestor_ids")
    OWNER_FIELD_NUMBER: _ClassVar[int]
    ANCESTOR_IDS_FIELD_NUMBER: _ClassVar[int]
    owner: str
    ancestor_ids: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, owner: _Optional[str] = ..., ancestor_ids: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Head(_message.Message):
    __slots__ = ("format", "min_reader_format", "cluster_id", "incarnation", "revision", "seq", "clock_floor_ms", "keys_generation", "digest", "incarnation_revision")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    MIN_READER_FORMAT_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FLOOR_MS_FIELD_NUMBER: _ClassVar[int]
    KEYS_GENERATION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_REVISION_FIELD_NUMBER: _ClassVar[int]
    format: int
    min_reader_format: int
    cluster_id: bytes
    incarnation: bytes
    revision: int
    seq: int
    clock_floor_ms: int
    keys_generation: int
    digest: bytes
    incarnation_revision: int
    def __init__(self, format: _Optional[int] = ..., min_reader_format: _Optional[int] = ..., cluster_id: _Optional[bytes] = ..., incarnation: _Optional[bytes] = ..., revision: _Optional[int] = ..., seq: _Optional[int] = ..., clock_floor_ms: _Optional[int] = ..., keys_generation: _Optional[int] = ..., digest: _Optional[bytes] = ..., incarnation_revision: _Optional[int] = ...) -> None: ...

class IncarnationRecord(_message.Message):
    __slots__ = ("at_ms", "reason", "previous_revision")
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_REVISION_FIELD_NUMBER: _ClassVar[int]
    at_ms: int
    reason: str
    previous_revision: int
    def __init__(self, at_ms: _Optional[int] = ..., reason: _Optional[str] = ..., previous_revision: _Optional[int] = ...) -> None: ...
