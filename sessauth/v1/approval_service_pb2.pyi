from sessauth.v1 import record_pb2 as _record_pb2
from sessauth.v1 import token_pb2 as _token_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListApprovalsRequest(_message.Message):
    __slots__ = ("session_id", "status", "public_key", "page_size", "page_token")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    session_id: bytes
    status: _record_pb2.ApprovalStatus
    public_key: bytes
    page_size: int
    page_token: str
    def __init__(self, session_id: _Optional[bytes] = ..., status: _Optional[_Union[_record_pb2.ApprovalStatus, str]] = ..., public_key: _Optional[bytes] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListApprovalsResponse(_message.Message):
    __slots__ = ("approvals", "next_page_token", "sessions")
    APPROVALS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SESSIONS_FIELD_NUMBER: _ClassVar[int]
    approvals: _containers.RepeatedCompositeFieldContainer[_record_pb2.ApprovalRecord]
    next_page_token: str
    sessions: _containers.RepeatedCompositeFieldContainer[ApprovalSession]
    def __init__(self, approvals: _Optional[_Iterable[_Union[_record_pb2.ApprovalRecord, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., sessions: _Optional[_Iterable[_Union[ApprovalSession, _Mapping]]] = ...) -> None: ...

class ApprovalSession(_message.Message):
    __slots__ = ("subject", "purpose", "remaining")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    REMAINING_FIELD_NUMBER: _ClassVar[int]
    subject: str
    purpose: str
    remaining: _containers.RepeatedCompositeFieldContainer[_token_pb2.Number]
    def __init__(self, subject: _Optional[str] = ..., purpose: _Optional[str] = ..., remaining: _Optional[_Iterable[_Union[_token_pb2.Number, _Mapping]]] = ...) -> None: ...

class GetApprovalRequest(_message.Message):
    __slots__ = ("session_id", "approval_id")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: bytes
    approval_id: bytes
    def __init__(self, session_id: _Optional[bytes] = ..., approval_id: _Optional[bytes] = ...) -> None: ...

class GetApprovalResponse(_message.Message):
    __slots__ = ("approval", "session")
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    approval: _record_pb2.ApprovalRecord
    session: ApprovalSession
    def __init__(self, approval: _Optional[_Union[_record_pb2.ApprovalRecord, _Mapping]] = ..., session: _Optional[_Union[ApprovalSession, _Mapping]] = ...) -> None: ...

class GrantApprovalRequest(_message.Message):
    __slots__ = ("request_id", "session_id", "approval_id", "statement")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    session_id: bytes
    approval_id: bytes
    statement: _token_pb2.SignedApproval
    def __init__(self, request_id: _Optional[str] = ..., session_id: _Optional[bytes] = ..., approval_id: _Optional[bytes] = ..., statement: _Optional[_Union[_token_pb2.SignedApproval, _Mapping]] = ...) -> None: ...

class GrantApprovalResponse(_message.Message):
    __slots__ = ("approval", "revision", "session")
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    approval: _record_pb2.ApprovalRecord
    revision: int
    session: ApprovalSession
    def __init__(self, approval: _Optional[_Union[_record_pb2.ApprovalRecord, _Mapping]] = ..., revision: _Optional[int] = ..., session: _Optional[_Union[ApprovalSession, _Mapping]] = ...) -> None: ...

class DenyApprovalRequest(_message.Message):
    __slots__ = ("request_id", "session_id", "approval_id", "reason")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    session_id: bytes
    approval_id: bytes
    reason: str
    def __init__(self, request_id: _Optional[str] = ..., session_id: _Optional[bytes] = ..., approval_id: _Optional[bytes] = ..., reason: _Optional[str] = ...) -> None: ...

class DenyApprovalResponse(_message.Message):
    __slots__ = ("approval", "revision", "session")
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SESSION_FIELD_NUMBER: _ClassVar[int]
    approval: _record_pb2.ApprovalRecord
    revision: int
    session: ApprovalSession
    def __init__(self, approval: _Optional[_Union[_record_pb2.ApprovalRecord, _Mapping]] = ..., revision: _Optional[int] = ..., session: _Optional[_Union[ApprovalSession, _Mapping]] = ...) -> None: ...
