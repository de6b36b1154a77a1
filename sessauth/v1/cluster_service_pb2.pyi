from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GetStandingRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStandingResponse(_message.Message):
    __slots__ = ("cluster_id", "incarnation", "host", "number", "digest", "term", "revision", "leading", "fresh", "alarm", "alarm_message", "brake", "cluster_brake", "hosts", "refused_by")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    TERM_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    LEADING_FIELD_NUMBER: _ClassVar[int]
    FRESH_FIELD_NUMBER: _ClassVar[int]
    ALARM_FIELD_NUMBER: _ClassVar[int]
    ALARM_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    BRAKE_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_BRAKE_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_BY_FIELD_NUMBER: _ClassVar[int]
    cluster_id: bytes
    incarnation: bytes
    host: str
    number: int
    digest: bytes
    term: int
    revision: int
    leading: bool
    fresh: bool
    alarm: str
    alarm_message: str
    brake: str
    cluster_brake: str
    hosts: _containers.RepeatedCompositeFieldContainer[HostStanding]
    refused_by: str
    def __init__(self, cluster_id: _Optional[bytes] = ..., incarnation: _Optional[bytes] = ..., host: _Optional[str] = ..., number: _Optional[int] = ..., digest: _Optional[bytes] = ..., term: _Optional[int] = ..., revision: _Optional[int] = ..., leading: bool = ..., fresh: bool = ..., alarm: _Optional[str] = ..., alarm_message: _Optional[str] = ..., brake: _Optional[str] = ..., cluster_brake: _Optional[str] = ..., hosts: _Optional[_Iterable[_Union[HostStanding, _Mapping]]] = ..., refused_by: _Optional[str] = ...) -> None: ...

class HostStanding(_message.Message):
    __slots__ = ("name", "address", "reported", "age_ms", "number", "alarm")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    REPORTED_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    ALARM_FIELD_NUMBER: _ClassVar[int]
    name: str
    address: str
    reported: bool
    age_ms: int
    number: int
    alarm: str
    def __init__(self, name: _Optional[str] = ..., address: _Optional[str] = ..., reported: bool = ..., age_ms: _Optional[int] = ..., number: _Optional[int] = ..., alarm: _Optional[str] = ...) -> None: ...
