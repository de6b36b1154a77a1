from sessauth.v1 import record_pb2 as _record_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Stage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STAGE_UNSPECIFIED: _ClassVar[Stage]
    STAGE_DECODE: _ClassVar[Stage]
    STAGE_SESSION: _ClassVar[Stage]
    STAGE_ISSUER: _ClassVar[Stage]
    STAGE_SIGNATURE: _ClassVar[Stage]
    STAGE_TIME: _ClassVar[Stage]
    STAGE_AUDIENCE: _ClassVar[Stage]
    STAGE_REVOCATION: _ClassVar[Stage]
    STAGE_SCOPE: _ClassVar[Stage]
    STAGE_PROOF: _ClassVar[Stage]
    STAGE_NEEDS: _ClassVar[Stage]

class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    REASON_UNSPECIFIED: _ClassVar[Reason]
    REASON_ALLOWED: _ClassVar[Reason]
    REASON_INTERNAL_ERROR: _ClassVar[Reason]
    REASON_AUDIT_UNAVAILABLE: _ClassVar[Reason]
    REASON_MALFORMED_TOKEN: _ClassVar[Reason]
    REASON_TOKEN_TOO_LARGE: _ClassVar[Reason]
    REASON_UNSUPPORTED_VERSION: _ClassVar[Reason]
    REASON_OPEN_TOKEN: _ClassVar[Reason]
    REASON_CHAIN_TOO_LONG: _ClassVar[Reason]
    REASON_UNKNOWN_SESSION: _ClassVar[Reason]
    REASON_SESSION_ENDED: _ClassVar[Reason]
    REASON_SESSION_SUSPENDED: _ClassVar[Reason]
    REASON_LEASE_LAPSED: _ClassVar[Reason]
    REASON_WRONG_SESSION: _ClassVar[Reason]
    REASON_STALE_STATE: _ClassVar[Reason]
    REASON_SESSION_EXPIRED: _ClassVar[Reason]
    REASON_STATE_BRAKED: _ClassVar[Reason]
    REASON_UNKNOWN_ISSUER: _ClassVar[Reason]
    REASON_ISSUER_RETIRED: _ClassVar[Reason]
    REASON_ISSUER_NOT_OF_SESSION: _ClassVar[Reason]
    REASON_ISSUER_DISTRUSTED: _ClassVar[Reason]
    REASON_ISSUER_PREPARED: _ClassVar[Reason]
    REASON_BAD_SIGNATURE: _ClassVar[Reason]
    REASON_EXPIRED: _ClassVar[Reason]
    REASON_NOT_YET_VALID: _ClassVar[Reason]
    REASON_CLOCK_SUSPECT: _ClassVar[Reason]
    REASON_WRONG_AUDIENCE: _ClassVar[Reason]
    REASON_WRONG_SOURCE: _ClassVar[Reason]
    REASON_WRONG_PEER: _ClassVar[Reason]
    REASON_REVOKED: _ClassVar[Reason]
    REASON_OUT_OF_SCOPE: _ClassVar[Reason]
    REASON_CONDITION_FAILED: _ClassVar[Reason]
    REASON_UNKNOWN_KIND: _ClassVar[Reason]
    REASON_MALFORMED_REQUEST: _ClassVar[Reason]
    REASON_UNKNOWN_TOOL: _ClassVar[Reason]
    REASON_PROOF_REQUIRED: _ClassVar[Reason]
    REASON_BAD_PROOF: _ClassVar[Reason]
    REASON_REPLAYED: _ClassVar[Reason]
    REASON_STALE_PROOF: _ClassVar[Reason]
    REASON_PROOF_UNAVAILABLE: _ClassVar[Reason]
    REASON_APPROVAL_REQUIRED: _ClassVar[Reason]
    REASON_USES_EXHAUSTED: _ClassVar[Reason]
    REASON_BUDGET_EXHAUSTED: _ClassVar[Reason]
    REASON_NEEDS_SERVER: _ClassVar[Reason]
    REASON_BAD_APPROVAL: _ClassVar[Reason]
    REASON_APPROVAL_DENIED: _ClassVar[Reason]
    REASON_BAD_PERMIT: _ClassVar[Reason]

class Verdict(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERDICT_UNSPECIFIED: _ClassVar[Verdict]
    VERDICT_YES: _ClassVar[Verdict]
    VERDICT_NO: _ClassVar[Verdict]
    VERDICT_MAYBE: _ClassVar[Verdict]

class Level(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    LEVEL_UNSPECIFIED: _ClassVar[Level]
    LEVEL_CEILING: _ClassVar[Level]
    LEVEL_BLOCK: _ClassVar[Level]
STAGE_UNSPECIFIED: Stage
STAGE_DECODE: Stage
STAGE_SESSION: Stage
STAGE_ISSUER: Stage
STAGE_SIGNATURE: Stage
STAGE_TIME: Stage
STAGE_AUDIENCE: Stage
STAGE_REVOCATION: Stage
STAGE_SCOPE: Stage
STAGE_PROOF: Stage
STAGE_NEEDS: Stage
REASON_UNSPECIFIED: Reason
REASON_ALLOWED: Reason
REASON_INTERNAL_ERROR: Reason
REASON_AUDIT_UNAVAILABLE: Reason
REASON_MALFORMED_TOKEN: Reason
REASON_TOKEN_TOO_LARGE: Reason
REASON_UNSUPPORTED_VERSION: Reason
REASON_OPEN_TOKEN: Reason
REASON_CHAIN_TOO_LONG: Reason
REASON_UNKNOWN_SESSION: Reason
REASON_SESSION_ENDED: Reason
REASON_SESSION_SUSPENDED: Reason
REASON_LEASE_LAPSED: Reason
REASON_WRONG_SESSION: Reason
REASON_STALE_STATE: Reason
REASON_SESSION_EXPIRED: Reason
REASON_STATE_BRAKED: Reason
REASON_UNKNOWN_ISSUER: Reason
REASON_ISSUER_RETIRED: Reason
REASON_ISSUER_NOT_OF_SESSION: Reason
REASON_ISSUER_DISTRUSTED: Reason
REASON_ISSUER_PREPARED: Reason
REASON_BAD_SIGNATURE: Reason
REASON_EXPIRED: Reason
REASON_NOT_YET_VALID: Reason
REASON_CLOCK_SUSPECT: Reason
REASON_WRONG_AUDIENCE: Reason
REASON_WRONG_SOURCE: Reason
REASON_WRONG_PEER: Reason
REASON_REVOKED: Reason
REASON_OUT_OF_SCOPE: Reason
REASON_CONDITION_FAILED: Reason
REASON_UNKNOWN_KIND: Reason
REASON_MALFORMED_REQUEST: Reason
REASON_UNKNOWN_TOOL: Reason
REASON_PROOF_REQUIRED: Reason
REASON_BAD_PROOF: Reason
REASON_REPLAYED: Reason
REASON_STALE_PROOF: Reason
REASON_PROOF_UNAVAILABLE: Reason
REASON_APPROVAL_REQUIRED: Reason
REASON_USES_EXHAUSTED: Reason
REASON_BUDGET_EXHAUSTED: Reason
REASON_NEEDS_SERVER: Reason
REASON_BAD_APPROVAL: Reason
REASON_APPROVAL_DENIED: Reason
REASON_BAD_PERMIT: Reason
VERDICT_UNSPECIFIED: Verdict
VERDICT_YES: Verdict
VERDICT_NO: Verdict
VERDICT_MAYBE: Verdict
LEVEL_UNSPECIFIED: Level
LEVEL_CEILING: Level
LEVEL_BLOCK: Level

class CheckItem(_message.Message):
    __slots__ = ("token", "action", "resource", "arguments", "tool", "session_id", "source", "peer", "token_index", "proof", "approvals", "retry_id", "permit_ms", "token_only")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    TOOL_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    TOKEN_INDEX_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    APPROVALS_FIELD_NUMBER: _ClassVar[int]
    RETRY_ID_FIELD_NUMBER: _ClassVar[int]
    PERMIT_MS_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ONLY_FIELD_NUMBER: _ClassVar[int]
    token: bytes
    action: bytes
    resource: bytes
    arguments: bytes
    tool: bytes
    session_id: bytes
    source: str
    peer: _containers.RepeatedScalarFieldContainer[str]
    token_index: int
    proof: bytes
    approvals: _containers.RepeatedScalarFieldContainer[bytes]
    retry_id: bytes
    permit_ms: int
    token_only: bool
    def __init__(self, token: _Optional[bytes] = ..., action: _Optional[bytes] = ..., resource: _Optional[bytes] = ..., arguments: _Optional[bytes] = ..., tool: _Optional[bytes] = ..., session_id: _Optional[bytes] = ..., source: _Optional[str] = ..., peer: _Optional[_Iterable[str]] = ..., token_index: _Optional[int] = ..., proof: _Optional[bytes] = ..., approvals: _Optional[_Iterable[bytes]] = ..., retry_id: _Optional[bytes] = ..., permit_ms: _Optional[int] = ..., token_only: bool = ...) -> None: ...

class CheckRequest(_message.Message):
    __slots__ = ("item", "audience", "at_least_revision")
    ITEM_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    AT_LEAST_REVISION_FIELD_NUMBER: _ClassVar[int]
    item: CheckItem
    audience: str
    at_least_revision: int
    def __init__(self, item: _Optional[_Union[CheckItem, _Mapping]] = ..., audience: _Optional[str] = ..., at_least_revision: _Optional[int] = ...) -> None: ...

class CheckResponse(_message.Message):
    __slots__ = ("decision",)
    DECISION_FIELD_NUMBER: _ClassVar[int]
    decision: Decision
    def __init__(self, decision: _Optional[_Union[Decision, _Mapping]] = ...) -> None: ...

class CheckBatchRequest(_message.Message):
    __slots__ = ("items", "audience", "at_least_revision", "tokens")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    AT_LEAST_REVISION_FIELD_NUMBER: _ClassVar[int]
    TOKENS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[CheckItem]
    audience: str
    at_least_revision: int
    tokens: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, items: _Optional[_Iterable[_Union[CheckItem, _Mapping]]] = ..., audience: _Optional[str] = ..., at_least_revision: _Optional[int] = ..., tokens: _Optional[_Iterable[bytes]] = ...) -> None: ...

class CheckBatchResponse(_message.Message):
    __slots__ = ("decisions",)
    DECISIONS_FIELD_NUMBER: _ClassVar[int]
    decisions: _containers.RepeatedCompositeFieldContainer[Decision]
    def __init__(self, decisions: _Optional[_Iterable[_Union[Decision, _Mapping]]] = ...) -> None: ...

class CommitRequest(_message.Message):
    __slots__ = ("permit", "item", "audience", "at_least_revision")
    PERMIT_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    AT_LEAST_REVISION_FIELD_NUMBER: _ClassVar[int]
    permit: bytes
    item: CheckItem
    audience: str
    at_least_revision: int
    def __init__(self, permit: _Optional[bytes] = ..., item: _Optional[_Union[CheckItem, _Mapping]] = ..., audience: _Optional[str] = ..., at_least_revision: _Optional[int] = ...) -> None: ...

class CommitResponse(_message.Message):
    __slots__ = ("decision",)
    DECISION_FIELD_NUMBER: _ClassVar[int]
    decision: Decision
    def __init__(self, decision: _Optional[_Union[Decision, _Mapping]] = ...) -> None: ...

class ReleaseRequest(_message.Message):
    __slots__ = ("permit",)
    PERMIT_FIELD_NUMBER: _ClassVar[int]
    permit: bytes
    def __init__(self, permit: _Optional[bytes] = ...) -> None: ...

class ReleaseResponse(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: int
    def __init__(self, revision: _Optional[int] = ...) -> None: ...

class Candidate(_message.Message):
    __slots__ = ("action", "resource", "has_arguments", "arguments", "tool")
    ACTION_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    HAS_ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    TOOL_FIELD_NUMBER: _ClassVar[int]
    action: bytes
    resource: bytes
    has_arguments: bool
    arguments: bytes
    tool: bytes
    def __init__(self, action: _Optional[bytes] = ..., resource: _Optional[bytes] = ..., has_arguments: bool = ..., arguments: _Optional[bytes] = ..., tool: _Optional[bytes] = ...) -> None: ...

class ListAllowedRequest(_message.Message):
    __slots__ = ("token", "candidates", "audience", "at_least_revision", "session_id", "source", "peer")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    AT_LEAST_REVISION_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    token: bytes
    candidates: _containers.RepeatedCompositeFieldContainer[Candidate]
    audience: str
    at_least_revision: int
    session_id: bytes
    source: str
    peer: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, token: _Optional[bytes] = ..., candidates: _Optional[_Iterable[_Union[Candidate, _Mapping]]] = ..., audience: _Optional[str] = ..., at_least_revision: _Optional[int] = ..., session_id: _Optional[bytes] = ..., source: _Optional[str] = ..., peer: _Optional[_Iterable[str]] = ...) -> None: ...

class ListAllowedResponse(_message.Message):
    __slots__ = ("verdicts", "reason", "stage", "revision")
    VERDICTS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    verdicts: _containers.RepeatedScalarFieldContainer[Verdict]
    reason: Reason
    stage: Stage
    revision: int
    def __init__(self, verdicts: _Optional[_Iterable[_Union[Verdict, str]]] = ..., reason: _Optional[_Union[Reason, str]] = ..., stage: _Optional[_Union[Stage, str]] = ..., revision: _Optional[int] = ...) -> None: ...

class CheckStreamRequest(_message.Message):
    __slots__ = ("id", "item", "audience", "at_least_revision", "watch")
    ID_FIELD_NUMBER: _ClassVar[int]
    ITEM_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    AT_LEAST_REVISION_FIELD_NUMBER: _ClassVar[int]
    WATCH_FIELD_NUMBER: _ClassVar[int]
    id: int
    item: CheckItem
    audience: str
    at_least_revision: int
    watch: bool
    def __init__(self, id: _Optional[int] = ..., item: _Optional[_Union[CheckItem, _Mapping]] = ..., audience: _Optional[str] = ..., at_least_revision: _Optional[int] = ..., watch: bool = ...) -> None: ...

class CheckStreamResponse(_message.Message):
    __slots__ = ("id", "decision", "withdrawn")
    ID_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    id: int
    decision: Decision
    withdrawn: bool
    def __init__(self, id: _Optional[int] = ..., decision: _Optional[_Union[Decision, _Mapping]] = ..., withdrawn: bool = ...) -> None: ...

class Position(_message.Message):
    __slots__ = ("level", "index", "scope", "clause", "argument")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    CLAUSE_FIELD_NUMBER: _ClassVar[int]
    ARGUMENT_FIELD_NUMBER: _ClassVar[int]
    level: Level
    index: int
    scope: int
    clause: int
    argument: str
    def __init__(self, level: _Optional[_Union[Level, str]] = ..., index: _Optional[int] = ..., scope: _Optional[int] = ..., clause: _Optional[int] = ..., argument: _Optional[str] = ...) -> None: ...

class Decision(_message.Message):
    __slots__ = ("allowed", "reason", "stage", "failed", "matched", "session_id", "epoch", "block_ids", "revision", "view_age_ms", "expires_at_ms", "decision_id", "explanation", "permit", "permit_expires_at_ms", "approval")
    ALLOWED_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    MATCHED_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    BLOCK_IDS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    VIEW_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    DECISION_ID_FIELD_NUMBER: _ClassVar[int]
    EXPLANATION_FIELD_NUMBER: _ClassVar[int]
    PERMIT_FIELD_NUMBER: _ClassVar[int]
    PERMIT_EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    allowed: bool
    reason: Reason
    stage: Stage
    failed: Position
    matched: Position
    session_id: bytes
    epoch: int
    block_ids: _containers.RepeatedScalarFieldContainer[bytes]
    revision: int
    view_age_ms: int
    expires_at_ms: int
    decision_id: bytes
    explanation: str
    permit: bytes
    permit_expires_at_ms: int
    approval: _record_pb2.ApprovalRecord
    def __init__(self, allowed: bool = ..., reason: _Optional[_Union[Reason, str]] = ..., stage: _Optional[_Union[Stage, str]] = ..., failed: _Optional[_Union[Position, _Mapping]] = ..., matched: _Optional[_Union[Position, _Mapping]] = ..., session_id: _Optional[bytes] = ..., epoch: _Optional[int] = ..., block_ids: _Optional[_Iterable[bytes]] = ..., revision: _Optional[int] = ..., view_age_ms: _Optional[int] = ..., expires_at_ms: _Optional[int] = ..., decision_id: _Optional[bytes] = ..., explanation: _Optional[str] = ..., permit: _Optional[bytes] = ..., permit_expires_at_ms: _Optional[int] = ..., approval: _Optional[_Union[_record_pb2.ApprovalRecord, _Mapping]] = ...) -> None: ...
