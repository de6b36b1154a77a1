from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class FollowRequest(_message.Message):
    __slots__ = ("after",)
    AFTER_FIELD_NUMBER: _ClassVar[int]
    after: int
    def __init__(self, after: _Optional[int] = ...) -> None: ...

class NumberedRecord(_message.Message):
    __slots__ = ("number", "record")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    number: int
    record: bytes
    def __init__(self, number: _Optional[int] = ..., record: _Optional[bytes] = ...) -> None: ...

class FollowResponse(_message.Message):
    __slots__ = ("records",)
    RECORDS_FIELD_NUMBER: _ClassVar[int]
    records: _containers.RepeatedCompositeFieldContainer[NumberedRecord]
    def __init__(self, records: _Optional[_Iterable[_Union[NumberedRecord, _Mapping]]] = ...) -> None: ...

class BarrierRequest(_message.Message):
    __slots__ = ("host", "instance", "applied", "staleness_ms", "reads", "alarm")
    HOST_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    STALENESS_MS_FIELD_NUMBER: _ClassVar[int]
    READS_FIELD_NUMBER: _ClassVar[int]
    ALARM_FIELD_NUMBER: _ClassVar[int]
    host: str
    instance: bytes
    applied: int
    staleness_ms: int
    reads: int
    alarm: str
    def __init__(self, host: _Optional[str] = ..., instance: _Optional[bytes] = ..., applied: _Optional[int] = ..., staleness_ms: _Optional[int] = ..., reads: _Optional[int] = ..., alarm: _Optional[str] = ...) -> None: ...

class BarrierResponse(_message.Message):
    __slots__ = ("number", "digest", "server_ms", "engine_id", "engine_revision")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    SERVER_MS_FIELD_NUMBER: _ClassVar[int]
    ENGINE_ID_FIELD_NUMBER: _ClassVar[int]
    ENGINE_REVISION_FIELD_NUMBER: _ClassVar[int]
    number: int
    digest: bytes
    server_ms: int
    engine_id: str
    engine_revision: int
    def __init__(self, number: _Optional[int] = ..., digest: _Optional[bytes] = ..., server_ms: _Optional[int] = ..., engine_id: _Optional[str] = ..., engine_revision: _Optional[int] = ...) -> None: ...

class SnapshotRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class SnapshotResponse(_message.Message):
    __slots__ = ("header", "data")
    HEADER_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    header: SnapshotHeader
    data: bytes
    def __init__(self, header: _Optional[_Union[SnapshotHeader, _Mapping]] = ..., data: _Optional[bytes] = ...) -> None: ...

class SnapshotHeader(_message.Message):
    __slots__ = ("number", "record", "bytes", "digest")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    BYTES_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    number: int
    record: bytes
    bytes: int
    digest: bytes
    def __init__(self, number: _Optional[int] = ..., record: _Optional[bytes] = ..., bytes: _Optional[int] = ..., digest: _Optional[bytes] = ...) -> None: ...

class RegisterHostRequest(_message.Message):
    __slots__ = ("host", "instance", "staleness_ms")
    HOST_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    STALENESS_MS_FIELD_NUMBER: _ClassVar[int]
    host: str
    instance: bytes
    staleness_ms: int
    def __init__(self, host: _Optional[str] = ..., instance: _Optional[bytes] = ..., staleness_ms: _Optional[int] = ...) -> None: ...

class RegisterHostResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class RemoveHostRequest(_message.Message):
    __slots__ = ("host",)
    HOST_FIELD_NUMBER: _ClassVar[int]
    host: str
    def __init__(self, host: _Optional[str] = ...) -> None: ...

class RemoveHostResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
