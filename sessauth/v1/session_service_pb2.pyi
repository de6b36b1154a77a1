from sessauth.v1 import receipt_pb2 as _receipt_pb2
from sessauth.v1 import record_pb2 as _record_pb2
from sessauth.v1 import token_service_pb2 as _token_service_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Session(_message.Message):
    __slots__ = ("id", "subject", "purpose", "owner", "parent_id", "status", "epoch", "ceilings", "facts", "labels", "opened_at_ms", "expires_at_ms", "lease_ms", "lease_deadline_ms", "issuer_key_ids", "revoked_count", "ended_at_ms", "end_cause", "reason", "revision", "open_permits", "open_approvals", "observe", "enforced_at_ms", "inherited_from")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    PARENT_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    CEILINGS_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    OPENED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    LEASE_DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    ISSUER_KEY_IDS_FIELD_NUMBER: _ClassVar[int]
    REVOKED_COUNT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    END_CAUSE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    OPEN_PERMITS_FIELD_NUMBER: _ClassVar[int]
    OPEN_APPROVALS_FIELD_NUMBER: _ClassVar[int]
    OBSERVE_FIELD_NUMBER: _ClassVar[int]
    ENFORCED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    INHERITED_FROM_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    subject: str
    purpose: str
    owner: str
    parent_id: bytes
    status: _record_pb2.SessionStatus
    epoch: int
    ceilings: _containers.RepeatedCompositeFieldContainer[_record_pb2.Ceiling]
    facts: _containers.RepeatedCompositeFieldContainer[_record_pb2.Fact]
    labels: _containers.ScalarMap[str, str]
    opened_at_ms: int
    expires_at_ms: int
    lease_ms: int
    lease_deadline_ms: int
    issuer_key_ids: _containers.RepeatedScalarFieldContainer[bytes]
    revoked_count: int
    ended_at_ms: int
    end_cause: _record_pb2.EndCause
    reason: str
    revision: int
    open_permits: int
    open_approvals: int
    observe: bool
    enforced_at_ms: int
    inherited_from: bytes
    def __init__(self, id: _Optional[bytes] = ..., subject: _Optional[str] = ..., purpose: _Optional[str] = ..., owner: _Optional[str] = ..., parent_id: _Optional[bytes] = ..., status: _Optional[_Union[_record_pb2.SessionStatus, str]] = ..., epoch: _Optional[int] = ..., ceilings: _Optional[_Iterable[_Union[_record_pb2.Ceiling, _Mapping]]] = ..., facts: _Optional[_Iterable[_Union[_record_pb2.Fact, _Mapping]]] = ..., labels: _Optional[_Mapping[str, str]] = ..., opened_at_ms: _Optional[int] = ..., expires_at_ms: _Optional[int] = ..., lease_ms: _Optional[int] = ..., lease_deadline_ms: _Optional[int] = ..., issuer_key_ids: _Optional[_Iterable[bytes]] = ..., revoked_count: _Optional[int] = ..., ended_at_ms: _Optional[int] = ..., end_cause: _Optional[_Union[_record_pb2.EndCause, str]] = ..., reason: _Optional[str] = ..., revision: _Optional[int] = ..., open_permits: _Optional[int] = ..., open_approvals: _Optional[int] = ..., observe: bool = ..., enforced_at_ms: _Optional[int] = ..., inherited_from: _Optional[bytes] = ...) -> None: ...

class OpenSessionRequest(_message.Message):
    __slots__ = ("request_id", "subject", "purpose", "ceiling", "facts", "labels", "ttl_ms", "lease_ms", "parent_id", "owner", "issuer_key_ids", "observe", "mint", "identity_token", "identity_proof")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    CEILING_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    PARENT_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    ISSUER_KEY_IDS_FIELD_NUMBER: _ClassVar[int]
    OBSERVE_FIELD_NUMBER: _ClassVar[int]
    MINT_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_PROOF_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    subject: str
    purpose: str
    ceiling: _containers.RepeatedScalarFieldContainer[str]
    facts: _containers.RepeatedCompositeFieldContainer[_record_pb2.Fact]
    labels: _containers.ScalarMap[str, str]
    ttl_ms: int
    lease_ms: int
    parent_id: bytes
    owner: str
    issuer_key_ids: _containers.RepeatedScalarFieldContainer[bytes]
    observe: bool
    mint: _token_service_pb2.MintRequest
    identity_token: str
    identity_proof: str
    def __init__(self, request_id: _Optional[str] = ..., subject: _Optional[str] = ..., purpose: _Optional[str] = ..., ceiling: _Optional[_Iterable[str]] = ..., facts: _Optional[_Iterable[_Union[_record_pb2.Fact, _Mapping]]] = ..., labels: _Optional[_Mapping[str, str]] = ..., ttl_ms: _Optional[int] = ..., lease_ms: _Optional[int] = ..., parent_id: _Optional[bytes] = ..., owner: _Optional[str] = ..., issuer_key_ids: _Optional[_Iterable[bytes]] = ..., observe: bool = ..., mint: _Optional[_Union[_token_service_pb2.MintRequest, _Mapping]] = ..., identity_token: _Optional[str] = ..., identity_proof: _Optional[str] = ...) -> None: ...

class OpenSessionResponse(_message.Message):
    __slots__ = ("session", "revision", "token")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    session: Session
    revision: int
    token: _token_service_pb2.MintResponse
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ..., revision: _Optional[int] = ..., token: _Optional[_Union[_token_service_pb2.MintResponse, _Mapping]] = ...) -> None: ...

class GetSessionRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: bytes
    def __init__(self, session_id: _Optional[bytes] = ...) -> None: ...

class GetSessionResponse(_message.Message):
    __slots__ = ("session",)
    SESSION_FIELD_NUMBER: _ClassVar[int]
    session: Session
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ...) -> None: ...

class ListSessionsRequest(_message.Message):
    __slots__ = ("page_size", "page_token", "status", "subject", "owner", "parent_id", "labels", "id_prefix")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    PARENT_ID_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ID_PREFIX_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    status: _record_pb2.SessionStatus
    subject: str
    owner: str
    parent_id: bytes
    labels: _containers.ScalarMap[str, str]
    id_prefix: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., status: _Optional[_Union[_record_pb2.SessionStatus, str]] = ..., subject: _Optional[str] = ..., owner: _Optional[str] = ..., parent_id: _Optional[bytes] = ..., labels: _Optional[_Mapping[str, str]] = ..., id_prefix: _Optional[str] = ...) -> None: ...

class ListSessionsResponse(_message.Message):
    __slots__ = ("sessions", "next_page_token")
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    sessions: _containers.RepeatedCompositeFieldContainer[Session]
    next_page_token: str
    def __init__(self, sessions: _Optional[_Iterable[_Union[Session, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...

class KeepAliveRequest(_message.Message):
    __slots__ = ("session_id", "identity_token", "identity_proof")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_TOKEN_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_PROOF_FIELD_NUMBER: _ClassVar[int]
    session_id: bytes
    identity_token: str
    identity_proof: str
    def __init__(self, session_id: _Optional[bytes] = ..., identity_token: _Optional[str] = ..., identity_proof: _Optional[str] = ...) -> None: ...

class KeepAliveResponse(_message.Message):
    __slots__ = ("lease_deadline_ms",)
    LEASE_DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    lease_deadline_ms: int
    def __init__(self, lease_deadline_ms: _Optional[int] = ...) -> None: ...

class NarrowSessionRequest(_message.Message):
    __slots__ = ("request_id", "session_id", "ceiling", "expected_epoch", "enforce")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    CEILING_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_EPOCH_FIELD_NUMBER: _ClassVar[int]
    ENFORCE_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    session_id: bytes
    ceiling: _containers.RepeatedScalarFieldContainer[str]
    expected_epoch: int
    enforce: bool
    def __init__(self, request_id: _Optional[str] = ..., session_id: _Optional[bytes] = ..., ceiling: _Optional[_Iterable[str]] = ..., expected_epoch: _Optional[int] = ..., enforce: bool = ...) -> None: ...

class NarrowSessionResponse(_message.Message):
    __slots__ = ("session", "revision")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    session: Session
    revision: int
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...

class UpdateFactsRequest(_message.Message):
    __slots__ = ("request_id", "session_id", "set", "remove", "expected_epoch")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SET_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_EPOCH_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    session_id: bytes
    set: _containers.RepeatedCompositeFieldContainer[_record_pb2.Fact]
    remove: _containers.RepeatedScalarFieldContainer[str]
    expected_epoch: int
    def __init__(self, request_id: _Optional[str] = ..., session_id: _Optional[bytes] = ..., set: _Optional[_Iterable[_Union[_record_pb2.Fact, _Mapping]]] = ..., remove: _Optional[_Iterable[str]] = ..., expected_epoch: _Optional[int] = ...) -> None: ...

class UpdateFactsResponse(_message.Message):
    __slots__ = ("session", "revision")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    session: Session
    revision: int
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...

class SuspendSessionRequest(_message.Message):
    __slots__ = ("request_id", "session_id", "reason", "expected_epoch")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_EPOCH_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    session_id: bytes
    reason: str
    expected_epoch: int
    def __init__(self, request_id: _Optional[str] = ..., session_id: _Optional[bytes] = ..., reason: _Optional[str] = ..., expected_epoch: _Optional[int] = ...) -> None: ...

class SuspendSessionResponse(_message.Message):
    __slots__ = ("session", "revision")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    session: Session
    revision: int
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...

class ResumeSessionRequest(_message.Message):
    __slots__ = ("request_id", "session_id", "reason", "expected_epoch")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_EPOCH_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    session_id: bytes
    reason: str
    expected_epoch: int
    def __init__(self, request_id: _Optional[str] = ..., session_id: _Optional[bytes] = ..., reason: _Optional[str] = ..., expected_epoch: _Optional[int] = ...) -> None: ...

class ResumeSessionResponse(_message.Message):
    __slots__ = ("session", "revision")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    session: Session
    revision: int
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...

class EndSessionRequest(_message.Message):
    __slots__ = ("request_id", "session_id", "reason")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    session_id: bytes
    reason: str
    def __init__(self, request_id: _Optional[str] = ..., session_id: _Optional[bytes] = ..., reason: _Optional[str] = ...) -> None: ...

class EndSessionResponse(_message.Message):
    __slots__ = ("session", "revision", "receipt")
    SESSION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    session: Session
    revision: int
    receipt: _receipt_pb2.SignedReceipt
    def __init__(self, session: _Optional[_Union[Session, _Mapping]] = ..., revision: _Optional[int] = ..., receipt: _Optional[_Union[_receipt_pb2.SignedReceipt, _Mapping]] = ...) -> None: ...
