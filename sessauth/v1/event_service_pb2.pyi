from sessauth.v1 import record_pb2 as _record_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SessionEventKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SESSION_EVENT_KIND_UNSPECIFIED: _ClassVar[SessionEventKind]
    SESSION_EVENT_KIND_OPENED: _ClassVar[SessionEventKind]
    SESSION_EVENT_KIND_NARROWED: _ClassVar[SessionEventKind]
    SESSION_EVENT_KIND_FACTS_CHANGED: _ClassVar[SessionEventKind]
    SESSION_EVENT_KIND_SUSPENDED: _ClassVar[SessionEventKind]
    SESSION_EVENT_KIND_RESUMED: _ClassVar[SessionEventKind]
    SESSION_EVENT_KIND_ENDED: _ClassVar[SessionEventKind]
    SESSION_EVENT_KIND_LAPSED: _ClassVar[SessionEventKind]
    SESSION_EVENT_KIND_REVOKED: _ClassVar[SessionEventKind]
    SESSION_EVENT_KIND_PURGED: _ClassVar[SessionEventKind]
    SESSION_EVENT_KIND_RESTORED: _ClassVar[SessionEventKind]
    SESSION_EVENT_KIND_USED_AFTER_END: _ClassVar[SessionEventKind]
    SESSION_EVENT_KIND_SYNCED: _ClassVar[SessionEventKind]
SESSION_EVENT_KIND_UNSPECIFIED: SessionEventKind
SESSION_EVENT_KIND_OPENED: SessionEventKind
SESSION_EVENT_KIND_NARROWED: SessionEventKind
SESSION_EVENT_KIND_FACTS_CHANGED: SessionEventKind
SESSION_EVENT_KIND_SUSPENDED: SessionEventKind
SESSION_EVENT_KIND_RESUMED: SessionEventKind
SESSION_EVENT_KIND_ENDED: SessionEventKind
SESSION_EVENT_KIND_LAPSED: SessionEventKind
SESSION_EVENT_KIND_REVOKED: SessionEventKind
SESSION_EVENT_KIND_PURGED: SessionEventKind
SESSION_EVENT_KIND_RESTORED: SessionEventKind
SESSION_EVENT_KIND_USED_AFTER_END: SessionEventKind
SESSION_EVENT_KIND_SYNCED: SessionEventKind

class SessionEvent(_message.Message):
    __slots__ = ("kind", "session_id", "parent_id", "epoch", "revision", "seq", "at_ms", "actor", "reason", "cause", "subject", "purpose", "owner", "inherited_by", "block_ids", "claimed", "verifier", "count", "incarnation", "missed", "observe", "enforce")
    KIND_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    INHERITED_BY_FIELD_NUMBER: _ClassVar[int]
    BLOCK_IDS_FIELD_NUMBER: _ClassVar[int]
    CLAIMED_FIELD_NUMBER: _ClassVar[int]
    VERIFIER_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    MISSED_FIELD_NUMBER: _ClassVar[int]
    OBSERVE_FIELD_NUMBER: _ClassVar[int]
    ENFORCE_FIELD_NUMBER: _ClassVar[int]
    kind: SessionEventKind
    session_id: bytes
    parent_id: bytes
    epoch: int
    revision: int
    seq: int
    at_ms: int
    actor: str
    reason: str
    cause: _record_pb2.EndCause
    subject: str
    purpose: str
    owner: str
    inherited_by: _containers.RepeatedScalarFieldContainer[bytes]
    block_ids: _containers.RepeatedScalarFieldContainer[bytes]
    claimed: bool
    verifier: str
    count: int
    incarnation: bytes
    missed: int
    observe: bool
    enforce: bool
    def __init__(self, kind: _Optional[_Union[SessionEventKind, str]] = ..., session_id: _Optional[bytes] = ..., parent_id: _Optional[bytes] = ..., epoch: _Optional[int] = ..., revision: _Optional[int] = ..., seq: _Optional[int] = ..., at_ms: _Optional[int] = ..., actor: _Optional[str] = ..., reason: _Optional[str] = ..., cause: _Optional[_Union[_record_pb2.EndCause, str]] = ..., subject: _Optional[str] = ..., purpose: _Optional[str] = ..., owner: _Optional[str] = ..., inherited_by: _Optional[_Iterable[bytes]] = ..., block_ids: _Optional[_Iterable[bytes]] = ..., claimed: bool = ..., verifier: _Optional[str] = ..., count: _Optional[int] = ..., incarnation: _Optional[bytes] = ..., missed: _Optional[int] = ..., observe: bool = ..., enforce: bool = ...) -> None: ...

class WatchSessionsRequest(_message.Message):
    __slots__ = ("after_revision", "incarnation", "from_now", "session_ids", "include_children", "subject", "purpose", "owner", "kinds")
    AFTER_REVISION_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    FROM_NOW_FIELD_NUMBER: _ClassVar[int]
    SESSION_IDS_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_CHILDREN_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    after_revision: int
    incarnation: bytes
    from_now: bool
    session_ids: _containers.RepeatedScalarFieldContainer[bytes]
    include_children: bool
    subject: str
    purpose: str
    owner: str
    kinds: _containers.RepeatedScalarFieldContainer[SessionEventKind]
    def __init__(self, after_revision: _Optional[int] = ..., incarnation: _Optional[bytes] = ..., from_now: bool = ..., session_ids: _Optional[_Iterable[bytes]] = ..., include_children: bool = ..., subject: _Optional[str] = ..., purpose: _Optional[str] = ..., owner: _Optional[str] = ..., kinds: _Optional[_Iterable[_Union[SessionEventKind, str]]] = ...) -> None: ...

class WatchSessionsResponse(_message.Message):
    __slots__ = ("events",)
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[SessionEvent]
    def __init__(self, events: _Optional[_Iterable[_Union[SessionEvent, _Mapping]]] = ...) -> None: ...
