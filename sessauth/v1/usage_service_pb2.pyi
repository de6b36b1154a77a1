from sessauth.v1 import record_pb2 as _record_pb2
from sessauth.v1 import session_service_pb2 as _session_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Missing(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    MISSING_UNSPECIFIED: _ClassVar[Missing]
    MISSING_LOST: _ClassVar[Missing]
    MISSING_BEFORE: _ClassVar[Missing]
    MISSING_USAGE: _ClassVar[Missing]
    MISSING_HOST: _ClassVar[Missing]

class ActivityOrder(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACTIVITY_ORDER_UNSPECIFIED: _ClassVar[ActivityOrder]
    ACTIVITY_ORDER_DENIED: _ClassVar[ActivityOrder]
    ACTIVITY_ORDER_CALLS: _ClassVar[ActivityOrder]
MISSING_UNSPECIFIED: Missing
MISSING_LOST: Missing
MISSING_BEFORE: Missing
MISSING_USAGE: Missing
MISSING_HOST: Missing
ACTIVITY_ORDER_UNSPECIFIED: ActivityOrder
ACTIVITY_ORDER_DENIED: ActivityOrder
ACTIVITY_ORDER_CALLS: ActivityOrder

class ReportObservationsRequest(_message.Message):
    __slots__ = ("sender_id", "number", "verifier", "lost", "sessions")
    SENDER_ID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    VERIFIER_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    sender_id: bytes
    number: int
    verifier: str
    lost: int
    sessions: _containers.RepeatedCompositeFieldContainer[SessionObservation]
    def __init__(self, sender_id: _Optional[bytes] = ..., number: _Optional[int] = ..., verifier: _Optional[str] = ..., lost: _Optional[int] = ..., sessions: _Optional[_Iterable[_Union[SessionObservation, _Mapping]]] = ...) -> None: ...

class ReportObservationsResponse(_message.Message):
    __slots__ = ("control_id", "wants_usage")
    CONTROL_ID_FIELD_NUMBER: _ClassVar[int]
    WANTS_USAGE_FIELD_NUMBER: _ClassVar[int]
    control_id: bytes
    wants_usage: bool
    def __init__(self, control_id: _Optional[bytes] = ..., wants_usage: bool = ...) -> None: ...

class SessionObservation(_message.Message):
    __slots__ = ("session_id", "allowed", "denied", "last_allow_ms", "blocks", "usage", "late", "lost", "observed")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    DENIED_FIELD_NUMBER: _ClassVar[int]
    LAST_ALLOW_MS_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    OBSERVED_FIELD_NUMBER: _ClassVar[int]
    session_id: bytes
    allowed: int
    denied: int
    last_allow_ms: int
    blocks: _containers.RepeatedCompositeFieldContainer[BlockObservation]
    usage: bytes
    late: _containers.RepeatedCompositeFieldContainer[UseAfterEnd]
    lost: int
    observed: int
    def __init__(self, session_id: _Optional[bytes] = ..., allowed: _Optional[int] = ..., denied: _Optional[int] = ..., last_allow_ms: _Optional[int] = ..., blocks: _Optional[_Iterable[_Union[BlockObservation, _Mapping]]] = ..., usage: _Optional[bytes] = ..., late: _Optional[_Iterable[_Union[UseAfterEnd, _Mapping]]] = ..., lost: _Optional[int] = ..., observed: _Optional[int] = ...) -> None: ...

class BlockObservation(_message.Message):
    __slots__ = ("block_id", "parent_id", "first_ms", "last_ms", "calls", "allowed", "payload", "index")
    BLOCK_ID_FIELD_NUMBER: _ClassVar[int]
    PARENT_ID_FIELD_NUMBER: _ClassVar[int]
    FIRST_MS_FIELD_NUMBER: _ClassVar[int]
    LAST_MS_FIELD_NUMBER: _ClassVar[int]
    CALLS_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    block_id: bytes
    parent_id: bytes
    first_ms: int
    last_ms: int
    calls: int
    allowed: int
    payload: bytes
    index: int
    def __init__(self, block_id: _Optional[bytes] = ..., parent_id: _Optional[bytes] = ..., first_ms: _Optional[int] = ..., last_ms: _Optional[int] = ..., calls: _Optional[int] = ..., allowed: _Optional[int] = ..., payload: _Optional[bytes] = ..., index: _Optional[int] = ...) -> None: ...

class UseAfterEnd(_message.Message):
    __slots__ = ("block_ids", "claimed", "count", "first_ms", "last_ms")
    BLOCK_IDS_FIELD_NUMBER: _ClassVar[int]
    CLAIMED_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    FIRST_MS_FIELD_NUMBER: _ClassVar[int]
    LAST_MS_FIELD_NUMBER: _ClassVar[int]
    block_ids: _containers.RepeatedScalarFieldContainer[bytes]
    claimed: bool
    count: int
    first_ms: int
    last_ms: int
    def __init__(self, block_ids: _Optional[_Iterable[bytes]] = ..., claimed: bool = ..., count: _Optional[int] = ..., first_ms: _Optional[int] = ..., last_ms: _Optional[int] = ...) -> None: ...

class GetReportRequest(_message.Message):
    __slots__ = ("session_id", "purpose", "page_size", "page_token", "session_ids")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SESSION_IDS_FIELD_NUMBER: _ClassVar[int]
    session_id: bytes
    purpose: str
    page_size: int
    page_token: str
    session_ids: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, session_id: _Optional[bytes] = ..., purpose: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., session_ids: _Optional[_Iterable[bytes]] = ...) -> None: ...

class GetReportResponse(_message.Message):
    __slots__ = ("reports", "next_page_token", "hosts")
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    reports: _containers.RepeatedCompositeFieldContainer[SessionReport]
    next_page_token: str
    hosts: _containers.RepeatedCompositeFieldContainer[HostUsage]
    def __init__(self, reports: _Optional[_Iterable[_Union[SessionReport, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., hosts: _Optional[_Iterable[_Union[HostUsage, _Mapping]]] = ...) -> None: ...

class HostUsage(_message.Message):
    __slots__ = ("name", "since_ms", "reported_at_ms", "waiting", "current", "removed_at_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    REPORTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    CURRENT_FIELD_NUMBER: _ClassVar[int]
    REMOVED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    since_ms: int
    reported_at_ms: int
    waiting: int
    current: bool
    removed_at_ms: int
    def __init__(self, name: _Optional[str] = ..., since_ms: _Optional[int] = ..., reported_at_ms: _Optional[int] = ..., waiting: _Optional[int] = ..., current: bool = ..., removed_at_ms: _Optional[int] = ...) -> None: ...

class SessionReport(_message.Message):
    __slots__ = ("session", "inherited", "observation", "verifiers", "missing")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    INHERITED_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    VERIFIERS_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    session: _session_service_pb2.Session
    inherited: _containers.RepeatedCompositeFieldContainer[_record_pb2.Ceiling]
    observation: SessionObservation
    verifiers: _containers.RepeatedCompositeFieldContainer[VerifierActivity]
    missing: _containers.RepeatedScalarFieldContainer[Missing]
    def __init__(self, session: _Optional[_Union[_session_service_pb2.Session, _Mapping]] = ..., inherited: _Optional[_Iterable[_Union[_record_pb2.Ceiling, _Mapping]]] = ..., observation: _Optional[_Union[SessionObservation, _Mapping]] = ..., verifiers: _Optional[_Iterable[_Union[VerifierActivity, _Mapping]]] = ..., missing: _Optional[_Iterable[_Union[Missing, str]]] = ...) -> None: ...

class VerifierActivity(_message.Message):
    __slots__ = ("name", "allowed", "denied", "reported_at_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    DENIED_FIELD_NUMBER: _ClassVar[int]
    REPORTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    allowed: int
    denied: int
    reported_at_ms: int
    def __init__(self, name: _Optional[str] = ..., allowed: _Optional[int] = ..., denied: _Optional[int] = ..., reported_at_ms: _Optional[int] = ...) -> None: ...

class GetCensusRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: bytes
    def __init__(self, session_id: _Optional[bytes] = ...) -> None: ...

class GetCensusResponse(_message.Message):
    __slots__ = ("blocks", "late", "missing", "hosts")
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    MISSING_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    blocks: _containers.RepeatedCompositeFieldContainer[BlockCensus]
    late: _containers.RepeatedCompositeFieldContainer[UseAfterEnd]
    missing: _containers.RepeatedScalarFieldContainer[Missing]
    hosts: _containers.RepeatedCompositeFieldContainer[HostUsage]
    def __init__(self, blocks: _Optional[_Iterable[_Union[BlockCensus, _Mapping]]] = ..., late: _Optional[_Iterable[_Union[UseAfterEnd, _Mapping]]] = ..., missing: _Optional[_Iterable[_Union[Missing, str]]] = ..., hosts: _Optional[_Iterable[_Union[HostUsage, _Mapping]]] = ...) -> None: ...

class BlockCensus(_message.Message):
    __slots__ = ("observation", "revoked")
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    REVOKED_FIELD_NUMBER: _ClassVar[int]
    observation: BlockObservation
    revoked: bool
    def __init__(self, observation: _Optional[_Union[BlockObservation, _Mapping]] = ..., revoked: bool = ...) -> None: ...

class ListActivityRequest(_message.Message):
    __slots__ = ("order", "limit", "words")
    ORDER_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    WORDS_FIELD_NUMBER: _ClassVar[int]
    order: ActivityOrder
    limit: int
    words: str
    def __init__(self, order: _Optional[_Union[ActivityOrder, str]] = ..., limit: _Optional[int] = ..., words: _Optional[str] = ...) -> None: ...

class ListActivityResponse(_message.Message):
    __slots__ = ("sessions", "allowed", "denied", "elapsed_ms", "since_ms", "hosts")
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    DENIED_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_MS_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedCompositeFieldContainer[SessionActivity]
    allowed: _containers.RepeatedScalarFieldContainer[int]
    denied: _containers.RepeatedScalarFieldContainer[int]
    elapsed_ms: int
    since_ms: int
    hosts: _containers.RepeatedCompositeFieldContainer[HostUsage]
    def __init__(self, sessions: _Optional[_Iterable[_Union[SessionActivity, _Mapping]]] = ..., allowed: _Optional[_Iterable[int]] = ..., denied: _Optional[_Iterable[int]] = ..., elapsed_ms: _Optional[int] = ..., since_ms: _Optional[int] = ..., hosts: _Optional[_Iterable[_Union[HostUsage, _Mapping]]] = ...) -> None: ...

class SessionActivity(_message.Message):
    __slots__ = ("session", "allowed", "denied")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    DENIED_FIELD_NUMBER: _ClassVar[int]
    session: _session_service_pb2.Session
    allowed: _containers.RepeatedScalarFieldContainer[int]
    denied: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, session: _Optional[_Union[_session_service_pb2.Session, _Mapping]] = ..., allowed: _Optional[_Iterable[int]] = ..., denied: _Optional[_Iterable[int]] = ...) -> None: ...

class ReportHostUsageRequest(_message.Message):
    __slots__ = ("host", "run_id", "number", "since_ms", "usage_since_ms", "lost_first_ms", "lost_last_ms", "sessions", "late", "first_late", "waiting", "after_late_number", "last", "term_id", "run_began_ms")
    HOST_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    USAGE_SINCE_MS_FIELD_NUMBER: _ClassVar[int]
    LOST_FIRST_MS_FIELD_NUMBER: _ClassVar[int]
    LOST_LAST_MS_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    FIRST_LATE_FIELD_NUMBER: _ClassVar[int]
    WAITING_FIELD_NUMBER: _ClassVar[int]
    AFTER_LATE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    TERM_ID_FIELD_NUMBER: _ClassVar[int]
    RUN_BEGAN_MS_FIELD_NUMBER: _ClassVar[int]
    host: str
    run_id: bytes
    number: int
    since_ms: int
    usage_since_ms: int
    lost_first_ms: int
    lost_last_ms: int
    sessions: _containers.RepeatedCompositeFieldContainer[HostSession]
    late: _containers.RepeatedCompositeFieldContainer[LateUse]
    first_late: int
    waiting: int
    after_late_number: int
    last: bool
    term_id: bytes
    run_began_ms: int
    def __init__(self, host: _Optional[str] = ..., run_id: _Optional[bytes] = ..., number: _Optional[int] = ..., since_ms: _Optional[int] = ..., usage_since_ms: _Optional[int] = ..., lost_first_ms: _Optional[int] = ..., lost_last_ms: _Optional[int] = ..., sessions: _Optional[_Iterable[_Union[HostSession, _Mapping]]] = ..., late: _Optional[_Iterable[_Union[LateUse, _Mapping]]] = ..., first_late: _Optional[int] = ..., waiting: _Optional[int] = ..., after_late_number: _Optional[int] = ..., last: bool = ..., term_id: _Optional[bytes] = ..., run_began_ms: _Optional[int] = ...) -> None: ...

class HostSession(_message.Message):
    __slots__ = ("observation", "verifiers")
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    VERIFIERS_FIELD_NUMBER: _ClassVar[int]
    observation: SessionObservation
    verifiers: _containers.RepeatedCompositeFieldContainer[VerifierActivity]
    def __init__(self, observation: _Optional[_Union[SessionObservation, _Mapping]] = ..., verifiers: _Optional[_Iterable[_Union[VerifierActivity, _Mapping]]] = ...) -> None: ...

class LateUse(_message.Message):
    __slots__ = ("session_id", "host", "verifier", "use")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    VERIFIER_FIELD_NUMBER: _ClassVar[int]
    USE_FIELD_NUMBER: _ClassVar[int]
    session_id: bytes
    host: str
    verifier: str
    use: UseAfterEnd
    def __init__(self, session_id: _Optional[bytes] = ..., host: _Optional[str] = ..., verifier: _Optional[str] = ..., use: _Optional[_Union[UseAfterEnd, _Mapping]] = ...) -> None: ...

class ReportHostUsageResponse(_message.Message):
    __slots__ = ("term_id", "pause_ms", "late", "late_number")
    TERM_ID_FIELD_NUMBER: _ClassVar[int]
    PAUSE_MS_FIELD_NUMBER: _ClassVar[int]
    LATE_FIELD_NUMBER: _ClassVar[int]
    LATE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    term_id: bytes
    pause_ms: int
    late: _containers.RepeatedCompositeFieldContainer[LateUse]
    late_number: int
    def __init__(self, term_id: _Optional[bytes] = ..., pause_ms: _Optional[int] = ..., late: _Optional[_Iterable[_Union[LateUse, _Mapping]]] = ..., late_number: _Optional[int] = ...) -> None: ...
