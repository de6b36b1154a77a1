from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReportSignalRequest(_message.Message):
    __slots__ = ("provider", "logout_token", "revocation", "security_event")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    LOGOUT_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REVOCATION_FIELD_NUMBER: _ClassVar[int]
    SECURITY_EVENT_FIELD_NUMBER: _ClassVar[int]
    provider: str
    logout_token: str
    revocation: GlobalRevocation
    security_event: str
    def __init__(self, provider: _Optional[str] = ..., logout_token: _Optional[str] = ..., revocation: _Optional[_Union[GlobalRevocation, _Mapping]] = ..., security_event: _Optional[str] = ...) -> None: ...

class GlobalRevocation(_message.Message):
    __slots__ = ("bearer", "body")
    BEARER_FIELD_NUMBER: _ClassVar[int]
    BODY_FIELD_NUMBER: _ClassVar[int]
    bearer: str
    body: bytes
    def __init__(self, bearer: _Optional[str] = ..., body: _Optional[bytes] = ...) -> None: ...

class ReportSignalResponse(_message.Message):
    __slots__ = ("revision", "ended", "suspended", "resumed", "narrowed")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    SUSPENDED_FIELD_NUMBER: _ClassVar[int]
    RESUMED_FIELD_NUMBER: _ClassVar[int]
    NARROWED_FIELD_NUMBER: _ClassVar[int]
    revision: int
    ended: int
    suspended: int
    resumed: int
    narrowed: int
    def __init__(self, revision: _Optional[int] = ..., ended: _Optional[int] = ..., suspended: _Optional[int] = ..., resumed: _Optional[int] = ..., narrowed: _Optional[int] = ...) -> None: ...

class AskStreamRequest(_message.Message):
    __slots__ = ("provider",)
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    provider: str
    def __init__(self, provider: _Optional[str] = ...) -> None: ...

class AskStreamResponse(_message.Message):
    __slots__ = ("state",)
    STATE_FIELD_NUMBER: _ClassVar[int]
    state: str
    def __init__(self, state: _Optional[str] = ...) -> None: ...

class CutLoginsRequest(_message.Message):
    __slots__ = ("provider", "subject", "sid", "reason", "enable")
    PROVIDER_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    SID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    ENABLE_FIELD_NUMBER: _ClassVar[int]
    provider: str
    subject: str
    sid: str
    reason: str
    enable: bool
    def __init__(self, provider: _Optional[str] = ..., subject: _Optional[str] = ..., sid: _Optional[str] = ..., reason: _Optional[str] = ..., enable: bool = ...) -> None: ...

class CutLoginsResponse(_message.Message):
    __slots__ = ("revision", "ended", "up_to_ms")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    UP_TO_MS_FIELD_NUMBER: _ClassVar[int]
    revision: int
    ended: int
    up_to_ms: int
    def __init__(self, revision: _Optional[int] = ..., ended: _Optional[int] = ..., up_to_ms: _Optional[int] = ...) -> None: ...

class GetIdentityStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetIdentityStatusResponse(_message.Message):
    __slots__ = ("providers", "cuts")
    PROVIDERS_FIELD_NUMBER: _ClassVar[int]
    CUTS_FIELD_NUMBER: _ClassVar[int]
    providers: _containers.RepeatedCompositeFieldContainer[ProviderStatus]
    cuts: int
    def __init__(self, providers: _Optional[_Iterable[_Union[ProviderStatus, _Mapping]]] = ..., cuts: _Optional[int] = ...) -> None: ...

class ProviderStatus(_message.Message):
    __slots__ = ("name", "issuer", "keys_age_ms", "logins", "stream")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    KEYS_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    LOGINS_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    name: str
    issuer: str
    keys_age_ms: int
    logins: int
    stream: EventStreamStatus
    def __init__(self, name: _Optional[str] = ..., issuer: _Optional[str] = ..., keys_age_ms: _Optional[int] = ..., logins: _Optional[int] = ..., stream: _Optional[_Union[EventStreamStatus, _Mapping]] = ...) -> None: ...

class EventStreamStatus(_message.Message):
    __slots__ = ("age_ms", "proven", "silent", "gap", "on_silence", "on_gap")
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    PROVEN_FIELD_NUMBER: _ClassVar[int]
    SILENT_FIELD_NUMBER: _ClassVar[int]
    GAP_FIELD_NUMBER: _ClassVar[int]
    ON_SILENCE_FIELD_NUMBER: _ClassVar[int]
    ON_GAP_FIELD_NUMBER: _ClassVar[int]
    age_ms: int
    proven: bool
    silent: bool
    gap: bool
    on_silence: str
    on_gap: str
    def __init__(self, age_ms: _Optional[int] = ..., proven: bool = ..., silent: bool = ..., gap: bool = ..., on_silence: _Optional[str] = ..., on_gap: _Optional[str] = ...) -> None: ...
