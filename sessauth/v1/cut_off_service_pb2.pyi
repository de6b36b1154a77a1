from sessauth.v1 import record_pb2 as _record_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class EndSessionsRequest(_message.Message):
    __slots__ = ("selector", "reason", "dry_run", "refuse_new_ms", "page_token")
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    REFUSE_NEW_MS_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    selector: _record_pb2.SessionSelector
    reason: str
    dry_run: bool
    refuse_new_ms: int
    page_token: str
    def __init__(self, selector: _Optional[_Union[_record_pb2.SessionSelector, _Mapping]] = ..., reason: _Optional[str] = ..., dry_run: bool = ..., refuse_new_ms: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class EndSessionsResponse(_message.Message):
    __slots__ = ("matched", "ended", "remaining", "revision", "sessions", "refused_until_ms", "next_page_token")
    MATCHED_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    REFUSED_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    matched: int
    ended: int
    remaining: int
    revision: int
    sessions: _containers.RepeatedCompositeFieldContainer[SelectedSession]
    refused_until_ms: int
    next_page_token: str
    def __init__(self, matched: _Optional[int] = ..., ended: _Optional[int] = ..., remaining: _Optional[int] = ..., revision: _Optional[int] = ..., sessions: _Optional[_Iterable[_Union[SelectedSession, _Mapping]]] = ..., refused_until_ms: _Optional[int] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class SelectedSession(_message.Message):
    __slots__ = ("id", "epoch", "subject", "owner")
    ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    epoch: int
    subject: str
    owner: str
    def __init__(self, id: _Optional[bytes] = ..., epoch: _Optional[int] = ..., subject: _Optional[str] = ..., owner: _Optional[str] = ...) -> None: ...

class ListBansRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListBansResponse(_message.Message):
    __slots__ = ("bans",)
    BANS_FIELD_NUMBER: _ClassVar[int]
    bans: _containers.RepeatedCompositeFieldContainer[_record_pb2.SessionBan]
    def __init__(self, bans: _Optional[_Iterable[_Union[_record_pb2.SessionBan, _Mapping]]] = ...) -> None: ...

class LiftBanRequest(_message.Message):
    __slots__ = ("selector",)
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    selector: _record_pb2.SessionSelector
    def __init__(self, selector: _Optional[_Union[_record_pb2.SessionSelector, _Mapping]] = ...) -> None: ...

class LiftBanResponse(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: int
    def __init__(self, revision: _Optional[int] = ...) -> None: ...

class FreezeRequest(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class FreezeResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ThawRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ThawResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetFreezeResponse(_message.Message):
    __slots__ = ("brake", "host", "cluster", "in_cluster")
    BRAKE_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_FIELD_NUMBER: _ClassVar[int]
    IN_CLUSTER_FIELD_NUMBER: _ClassVar[int]
    brake: str
    host: str
    cluster: str
    in_cluster: bool
    def __init__(self, brake: _Optional[str] = ..., host: _Optional[str] = ..., cluster: _Optional[str] = ..., in_cluster: bool = ...) -> None: ...

class GetFreezeRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
