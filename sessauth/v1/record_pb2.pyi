from sessauth.v1 import token_pb2 as _token_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class SessionStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SESSION_STATUS_UNSPECIFIED: _ClassVar[SessionStatus]
    SESSION_STATUS_ACTIVE: _ClassVar[SessionStatus]
    SESSION_STATUS_SUSPENDED: _ClassVar[SessionStatus]
    SESSION_STATUS_ENDED: _ClassVar[SessionStatus]

class EndCause(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    END_CAUSE_UNSPECIFIED: _ClassVar[EndCause]
    END_CAUSE_ASKED: _ClassVar[EndCause]
    END_CAUSE_LEASE_LAPSED: _ClassVar[EndCause]
    END_CAUSE_EXPIRED: _ClassVar[EndCause]
    END_CAUSE_PARENT_ENDED: _ClassVar[EndCause]
    END_CAUSE_RESTORED: _ClassVar[EndCause]

class KeyStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    KEY_STATUS_UNSPECIFIED: _ClassVar[KeyStatus]
    KEY_STATUS_PREPARED: _ClassVar[KeyStatus]
    KEY_STATUS_ACTIVE: _ClassVar[KeyStatus]
    KEY_STATUS_RETIRED: _ClassVar[KeyStatus]
    KEY_STATUS_DISTRUSTED: _ClassVar[KeyStatus]

class Settlement(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SETTLEMENT_UNSPECIFIED: _ClassVar[Settlement]
    SETTLEMENT_COMMIT: _ClassVar[Settlement]
    SETTLEMENT_RELEASE: _ClassVar[Settlement]
    SETTLEMENT_EXPIRE: _ClassVar[Settlement]

class ApprovalStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    APPROVAL_STATUS_UNSPECIFIED: _ClassVar[ApprovalStatus]
    APPROVAL_STATUS_PENDING: _ClassVar[ApprovalStatus]
    APPROVAL_STATUS_GRANTED: _ClassVar[ApprovalStatus]
    APPROVAL_STATUS_DENIED: _ClassVar[ApprovalStatus]
    APPROVAL_STATUS_USED: _ClassVar[ApprovalStatus]
SESSION_STATUS_UNSPECIFIED: SessionStatus
SESSION_STATUS_ACTIVE: SessionStatus
SESSION_STATUS_SUSPENDED: SessionStatus
SESSION_STATUS_ENDED: SessionStatus
END_CAUSE_UNSPECIFIED: EndCause
END_CAUSE_ASKED: EndCause
END_CAUSE_LEASE_LAPSED: EndCause
END_CAUSE_EXPIRED: EndCause
END_CAUSE_PARENT_ENDED: EndCause
END_CAUSE_RESTORED: EndCause
KEY_STATUS_UNSPECIFIED: KeyStatus
KEY_STATUS_PREPARED: KeyStatus
KEY_STATUS_ACTIVE: KeyStatus
KEY_STATUS_RETIRED: KeyStatus
KEY_STATUS_DISTRUSTED: KeyStatus
SETTLEMENT_UNSPECIFIED: Settlement
SETTLEMENT_COMMIT: Settlement
SETTLEMENT_RELEASE: Settlement
SETTLEMENT_EXPIRE: Settlement
APPROVAL_STATUS_UNSPECIFIED: ApprovalStatus
APPROVAL_STATUS_PENDING: ApprovalStatus
APPROVAL_STATUS_GRANTED: ApprovalStatus
APPROVAL_STATUS_DENIED: ApprovalStatus
APPROVAL_STATUS_USED: ApprovalStatus

class Fact(_message.Message):
    __slots__ = ("name", "value", "visible")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    VISIBLE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: _token_pb2.Value
    visible: bool
    def __init__(self, name: _Optional[str] = ..., value: _Optional[_Union[_token_pb2.Value, _Mapping]] = ..., visible: bool = ...) -> None: ...

class Label(_message.Message):
    __slots__ = ("name", "value")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    name: str
    value: str
    def __init__(self, name: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class Ceiling(_message.Message):
    __slots__ = ("scopes",)
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    scopes: _containers.RepeatedCompositeFieldContainer[_token_pb2.Scope]
    def __init__(self, scopes: _Optional[_Iterable[_Union[_token_pb2.Scope, _Mapping]]] = ...) -> None: ...

class SessionRecord(_message.Message):
    __slots__ = ("id", "subject", "purpose", "owner", "parent_id", "status", "epoch", "ceilings", "facts", "labels", "opened_at_ms", "expires_at_ms", "lease_ms", "issuer_key_ids", "revoked_count", "ended_at_ms", "end_cause", "reason", "revision", "observe", "enforced_at_ms")
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
    ISSUER_KEY_IDS_FIELD_NUMBER: _ClassVar[int]
    REVOKED_COUNT_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    END_CAUSE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    OBSERVE_FIELD_NUMBER: _ClassVar[int]
    ENFORCED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    subject: str
    purpose: str
    owner: str
    parent_id: bytes
    status: SessionStatus
    epoch: int
    ceilings: _containers.RepeatedCompositeFieldContainer[Ceiling]
    facts: _containers.RepeatedCompositeFieldContainer[Fact]
    labels: _containers.RepeatedCompositeFieldContainer[Label]
    opened_at_ms: int
    expires_at_ms: int
    lease_ms: int
    issuer_key_ids: _containers.RepeatedScalarFieldContainer[bytes]
    revoked_count: int
    ended_at_ms: int
    end_cause: EndCause
    reason: str
    revision: int
    observe: bool
    enforced_at_ms: int
    def __init__(self, id: _Optional[bytes] = ..., subject: _Optional[str] = ..., purpose: _Optional[str] = ..., owner: _Optional[str] = ..., parent_id: _Optional[bytes] = ..., status: _Optional[_Union[SessionStatus, str]] = ..., epoch: _Optional[int] = ..., ceilings: _Optional[_Iterable[_Union[Ceiling, _Mapping]]] = ..., facts: _Optional[_Iterable[_Union[Fact, _Mapping]]] = ..., labels: _Optional[_Iterable[_Union[Label, _Mapping]]] = ..., opened_at_ms: _Optional[int] = ..., expires_at_ms: _Optional[int] = ..., lease_ms: _Optional[int] = ..., issuer_key_ids: _Optional[_Iterable[bytes]] = ..., revoked_count: _Optional[int] = ..., ended_at_ms: _Optional[int] = ..., end_cause: _Optional[_Union[EndCause, str]] = ..., reason: _Optional[str] = ..., revision: _Optional[int] = ..., observe: bool = ..., enforced_at_ms: _Optional[int] = ...) -> None: ...

class SessionCounts(_message.Message):
    __slots__ = ("open_permits", "open_approvals", "approvals_epoch", "counters")
    OPEN_PERMITS_FIELD_NUMBER: _ClassVar[int]
    OPEN_APPROVALS_FIELD_NUMBER: _ClassVar[int]
    APPROVALS_EPOCH_FIELD_NUMBER: _ClassVar[int]
    COUNTERS_FIELD_NUMBER: _ClassVar[int]
    open_permits: int
    open_approvals: int
    approvals_epoch: int
    counters: int
    def __init__(self, open_permits: _Optional[int] = ..., open_approvals: _Optional[int] = ..., approvals_epoch: _Optional[int] = ..., counters: _Optional[int] = ...) -> None: ...

class KeyRecord(_message.Message):
    __slots__ = ("id", "public_key", "status", "owner", "added_at_ms", "activated_at_ms", "retired_at_ms", "distrusted_at_ms", "revision")
    ID_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    ADDED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    ACTIVATED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    RETIRED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    DISTRUSTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    public_key: bytes
    status: KeyStatus
    owner: str
    added_at_ms: int
    activated_at_ms: int
    retired_at_ms: int
    distrusted_at_ms: int
    revision: int
    def __init__(self, id: _Optional[bytes] = ..., public_key: _Optional[bytes] = ..., status: _Optional[_Union[KeyStatus, str]] = ..., owner: _Optional[str] = ..., added_at_ms: _Optional[int] = ..., activated_at_ms: _Optional[int] = ..., retired_at_ms: _Optional[int] = ..., distrusted_at_ms: _Optional[int] = ..., revision: _Optional[int] = ...) -> None: ...

class Change(_message.Message):
    __slots__ = ("format", "id", "session_id", "actor", "at_ms", "expected_epoch", "open_session", "narrow_session", "update_facts", "suspend_session", "resume_session", "end_session", "revoke", "add_key", "set_key_status", "purge_session", "new_incarnation", "consume", "settle_permit", "request_approval", "answer_approval", "add_credential", "remove_credential", "ban_sessions", "cut_logins")
    FORMAT_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_EPOCH_FIELD_NUMBER: _ClassVar[int]
    OPEN_SESSION_FIELD_NUMBER: _ClassVar[int]
    NARROW_SESSION_FIELD_NUMBER: _ClassVar[int]
    UPDATE_FACTS_FIELD_NUMBER: _ClassVar[int]
    SUSPEND_SESSION_FIELD_NUMBER: _ClassVar[int]
    RESUME_SESSION_FIELD_NUMBER: _ClassVar[int]
    END_SESSION_FIELD_NUMBER: _ClassVar[int]
    REVOKE_FIELD_NUMBER: _ClassVar[int]
    ADD_KEY_FIELD_NUMBER: _ClassVar[int]
    SET_KEY_STATUS_FIELD_NUMBER: _ClassVar[int]
    PURGE_SESSION_FIELD_NUMBER: _ClassVar[int]
    NEW_INCARNATION_FIELD_NUMBER: _ClassVar[int]
    CONSUME_FIELD_NUMBER: _ClassVar[int]
    SETTLE_PERMIT_FIELD_NUMBER: _ClassVar[int]
    REQUEST_APPROVAL_FIELD_NUMBER: _ClassVar[int]
    ANSWER_APPROVAL_FIELD_NUMBER: _ClassVar[int]
    ADD_CREDENTIAL_FIELD_NUMBER: _ClassVar[int]
    REMOVE_CREDENTIAL_FIELD_NUMBER: _ClassVar[int]
    BAN_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    CUT_LOGINS_FIELD_NUMBER: _ClassVar[int]
    format: int
    id: str
    session_id: bytes
    actor: str
    at_ms: int
    expected_epoch: int
    open_session: OpenSession
    narrow_session: NarrowSession
    update_facts: UpdateFacts
    suspend_session: SuspendSession
    resume_session: ResumeSession
    end_session: EndSession
    revoke: Revoke
    add_key: AddKey
    set_key_status: SetKeyStatus
    purge_session: PurgeSession
    new_incarnation: NewIncarnation
    consume: Consume
    settle_permit: SettlePermit
    request_approval: RequestApproval
    answer_approval: AnswerApproval
    add_credential: AddCredential
    remove_credential: RemoveCredential
    ban_sessions: BanSessions
    cut_logins: CutLogins
    def __init__(self, format: _Optional[int] = ..., id: _Optional[str] = ..., session_id: _Optional[bytes] = ..., actor: _Optional[str] = ..., at_ms: _Optional[int] = ..., expected_epoch: _Optional[int] = ..., open_session: _Optional[_Union[OpenSession, _Mapping]] = ..., narrow_session: _Optional[_Union[NarrowSession, _Mapping]] = ..., update_facts: _Optional[_Union[UpdateFacts, _Mapping]] = ..., suspend_session: _Optional[_Union[SuspendSession, _Mapping]] = ..., resume_session: _Optional[_Union[ResumeSession, _Mapping]] = ..., end_session: _Optional[_Union[EndSession, _Mapping]] = ..., revoke: _Optional[_Union[Revoke, _Mapping]] = ..., add_key: _Optional[_Union[AddKey, _Mapping]] = ..., set_key_status: _Optional[_Union[SetKeyStatus, _Mapping]] = ..., purge_session: _Optional[_Union[PurgeSession, _Mapping]] = ..., new_incarnation: _Optional[_Union[NewIncarnation, _Mapping]] = ..., consume: _Optional[_Union[Consume, _Mapping]] = ..., settle_permit: _Optional[_Union[SettlePermit, _Mapping]] = ..., request_approval: _Optional[_Union[RequestApproval, _Mapping]] = ..., answer_approval: _Optional[_Union[AnswerApproval, _Mapping]] = ..., add_credential: _Optional[_Union[AddCredential, _Mapping]] = ..., remove_credential: _Optional[_Union[RemoveCredential, _Mapping]] = ..., ban_sessions: _Optional[_Union[BanSessions, _Mapping]] = ..., cut_logins: _Optional[_Union[CutLogins, _Mapping]] = ...) -> None: ...

class OpenSession(_message.Message):
    __slots__ = ("subject", "purpose", "owner", "parent_id", "ceiling", "facts", "labels", "expires_at_ms", "lease_ms", "issuer_key_ids", "ttl_ms", "observe", "mint_digest")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    PURPOSE_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    PARENT_ID_FIELD_NUMBER: _ClassVar[int]
    CEILING_FIELD_NUMBER: _ClassVar[int]
    FACTS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    LEASE_MS_FIELD_NUMBER: _ClassVar[int]
    ISSUER_KEY_IDS_FIELD_NUMBER: _ClassVar[int]
    TTL_MS_FIELD_NUMBER: _ClassVar[int]
    OBSERVE_FIELD_NUMBER: _ClassVar[int]
    MINT_DIGEST_FIELD_NUMBER: _ClassVar[int]
    subject: str
    purpose: str
    owner: str
    parent_id: bytes
    ceiling: Ceiling
    facts: _containers.RepeatedCompositeFieldContainer[Fact]
    labels: _containers.RepeatedCompositeFieldContainer[Label]
    expires_at_ms: int
    lease_ms: int
    issuer_key_ids: _containers.RepeatedScalarFieldContainer[bytes]
    ttl_ms: int
    observe: bool
    mint_digest: bytes
    def __init__(self, subject: _Optional[str] = ..., purpose: _Optional[str] = ..., owner: _Optional[str] = ..., parent_id: _Optional[bytes] = ..., ceiling: _Optional[_Union[Ceiling, _Mapping]] = ..., facts: _Optional[_Iterable[_Union[Fact, _Mapping]]] = ..., labels: _Optional[_Iterable[_Union[Label, _Mapping]]] = ..., expires_at_ms: _Optional[int] = ..., lease_ms: _Optional[int] = ..., issuer_key_ids: _Optional[_Iterable[bytes]] = ..., ttl_ms: _Optional[int] = ..., observe: bool = ..., mint_digest: _Optional[bytes] = ...) -> None: ...

class NarrowSession(_message.Message):
    __slots__ = ("ceiling", "enforce")
    CEILING_FIELD_NUMBER: _ClassVar[int]
    ENFORCE_FIELD_NUMBER: _ClassVar[int]
    ceiling: Ceiling
    enforce: bool
    def __init__(self, ceiling: _Optional[_Union[Ceiling, _Mapping]] = ..., enforce: bool = ...) -> None: ...

class UpdateFacts(_message.Message):
    __slots__ = ("set", "remove")
    SET_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    set: _containers.RepeatedCompositeFieldContainer[Fact]
    remove: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, set: _Optional[_Iterable[_Union[Fact, _Mapping]]] = ..., remove: _Optional[_Iterable[str]] = ...) -> None: ...

class SuspendSession(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class ResumeSession(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class EndSession(_message.Message):
    __slots__ = ("reason", "cause")
    REASON_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    reason: str
    cause: EndCause
    def __init__(self, reason: _Optional[str] = ..., cause: _Optional[_Union[EndCause, str]] = ...) -> None: ...

class Revoke(_message.Message):
    __slots__ = ("block_ids", "reason")
    BLOCK_IDS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    block_ids: _containers.RepeatedScalarFieldContainer[bytes]
    reason: str
    def __init__(self, block_ids: _Optional[_Iterable[bytes]] = ..., reason: _Optional[str] = ...) -> None: ...

class AddKey(_message.Message):
    __slots__ = ("public_key", "owner", "status")
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    public_key: bytes
    owner: str
    status: KeyStatus
    def __init__(self, public_key: _Optional[bytes] = ..., owner: _Optional[str] = ..., status: _Optional[_Union[KeyStatus, str]] = ...) -> None: ...

class SetKeyStatus(_message.Message):
    __slots__ = ("key_id", "status")
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    key_id: bytes
    status: KeyStatus
    def __init__(self, key_id: _Optional[bytes] = ..., status: _Optional[_Union[KeyStatus, str]] = ...) -> None: ...

class PurgeSession(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class NewIncarnation(_message.Message):
    __slots__ = ("incarnation", "clock_floor_ms", "reason")
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    CLOCK_FLOOR_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    incarnation: bytes
    clock_floor_ms: int
    reason: str
    def __init__(self, incarnation: _Optional[bytes] = ..., clock_floor_ms: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class Consume(_message.Message):
    __slots__ = ("gateway", "token_digest", "request_digest", "uses", "budgets", "approval_ids", "permit")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    TOKEN_DIGEST_FIELD_NUMBER: _ClassVar[int]
    REQUEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    USES_FIELD_NUMBER: _ClassVar[int]
    BUDGETS_FIELD_NUMBER: _ClassVar[int]
    APPROVAL_IDS_FIELD_NUMBER: _ClassVar[int]
    PERMIT_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    token_digest: bytes
    request_digest: bytes
    uses: _containers.RepeatedCompositeFieldContainer[UseClaim]
    budgets: _containers.RepeatedCompositeFieldContainer[BudgetClaim]
    approval_ids: _containers.RepeatedScalarFieldContainer[bytes]
    permit: PermitGrant
    def __init__(self, gateway: _Optional[str] = ..., token_digest: _Optional[bytes] = ..., request_digest: _Optional[bytes] = ..., uses: _Optional[_Iterable[_Union[UseClaim, _Mapping]]] = ..., budgets: _Optional[_Iterable[_Union[BudgetClaim, _Mapping]]] = ..., approval_ids: _Optional[_Iterable[bytes]] = ..., permit: _Optional[_Union[PermitGrant, _Mapping]] = ...) -> None: ...

class UseClaim(_message.Message):
    __slots__ = ("block_id", "scope", "limit")
    BLOCK_ID_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    block_id: bytes
    scope: int
    limit: int
    def __init__(self, block_id: _Optional[bytes] = ..., scope: _Optional[int] = ..., limit: _Optional[int] = ...) -> None: ...

class BudgetClaim(_message.Message):
    __slots__ = ("ledger", "amount", "limit")
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    ledger: bytes
    amount: _token_pb2.Number
    limit: _token_pb2.Number
    def __init__(self, ledger: _Optional[bytes] = ..., amount: _Optional[_Union[_token_pb2.Number, _Mapping]] = ..., limit: _Optional[_Union[_token_pb2.Number, _Mapping]] = ...) -> None: ...

class PermitGrant(_message.Message):
    __slots__ = ("id", "deadline_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    deadline_ms: int
    def __init__(self, id: _Optional[bytes] = ..., deadline_ms: _Optional[int] = ...) -> None: ...

class PermitRecord(_message.Message):
    __slots__ = ("id", "session_id", "gateway", "epoch", "token_digest", "request_digest", "deadline_ms", "reserved")
    ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    TOKEN_DIGEST_FIELD_NUMBER: _ClassVar[int]
    REQUEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    RESERVED_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    session_id: bytes
    gateway: str
    epoch: int
    token_digest: bytes
    request_digest: bytes
    deadline_ms: int
    reserved: _containers.RepeatedCompositeFieldContainer[BudgetClaim]
    def __init__(self, id: _Optional[bytes] = ..., session_id: _Optional[bytes] = ..., gateway: _Optional[str] = ..., epoch: _Optional[int] = ..., token_digest: _Optional[bytes] = ..., request_digest: _Optional[bytes] = ..., deadline_ms: _Optional[int] = ..., reserved: _Optional[_Iterable[_Union[BudgetClaim, _Mapping]]] = ...) -> None: ...

class LedgerRecord(_message.Message):
    __slots__ = ("spent", "reserved")
    SPENT_FIELD_NUMBER: _ClassVar[int]
    RESERVED_FIELD_NUMBER: _ClassVar[int]
    spent: _token_pb2.Number
    reserved: _token_pb2.Number
    def __init__(self, spent: _Optional[_Union[_token_pb2.Number, _Mapping]] = ..., reserved: _Optional[_Union[_token_pb2.Number, _Mapping]] = ...) -> None: ...

class SettlePermit(_message.Message):
    __slots__ = ("permit_id", "gateway", "settlement")
    PERMIT_ID_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    SETTLEMENT_FIELD_NUMBER: _ClassVar[int]
    permit_id: bytes
    gateway: str
    settlement: Settlement
    def __init__(self, permit_id: _Optional[bytes] = ..., gateway: _Optional[str] = ..., settlement: _Optional[_Union[Settlement, str]] = ...) -> None: ...

class ApprovalRecord(_message.Message):
    __slots__ = ("id", "session_id", "block_id", "block", "scope", "epoch", "request_digest", "threshold", "keys", "action", "resource", "arguments", "labels", "gateway", "requested_at_ms", "expires_at_ms", "status", "statements", "denied_by", "reason", "revision", "scope_text", "charges")
    ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    BLOCK_ID_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REQUEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    REQUESTED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    STATEMENTS_FIELD_NUMBER: _ClassVar[int]
    DENIED_BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SCOPE_TEXT_FIELD_NUMBER: _ClassVar[int]
    CHARGES_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    session_id: bytes
    block_id: bytes
    block: int
    scope: int
    epoch: int
    request_digest: bytes
    threshold: int
    keys: _containers.RepeatedScalarFieldContainer[bytes]
    action: str
    resource: str
    arguments: bytes
    labels: _containers.RepeatedScalarFieldContainer[str]
    gateway: str
    requested_at_ms: int
    expires_at_ms: int
    status: ApprovalStatus
    statements: _containers.RepeatedCompositeFieldContainer[_token_pb2.SignedApproval]
    denied_by: str
    reason: str
    revision: int
    scope_text: str
    charges: _containers.RepeatedCompositeFieldContainer[ApprovalCharge]
    def __init__(self, id: _Optional[bytes] = ..., session_id: _Optional[bytes] = ..., block_id: _Optional[bytes] = ..., block: _Optional[int] = ..., scope: _Optional[int] = ..., epoch: _Optional[int] = ..., request_digest: _Optional[bytes] = ..., threshold: _Optional[int] = ..., keys: _Optional[_Iterable[bytes]] = ..., action: _Optional[str] = ..., resource: _Optional[str] = ..., arguments: _Optional[bytes] = ..., labels: _Optional[_Iterable[str]] = ..., gateway: _Optional[str] = ..., requested_at_ms: _Optional[int] = ..., expires_at_ms: _Optional[int] = ..., status: _Optional[_Union[ApprovalStatus, str]] = ..., statements: _Optional[_Iterable[_Union[_token_pb2.SignedApproval, _Mapping]]] = ..., denied_by: _Optional[str] = ..., reason: _Optional[str] = ..., revision: _Optional[int] = ..., scope_text: _Optional[str] = ..., charges: _Optional[_Iterable[_Union[ApprovalCharge, _Mapping]]] = ...) -> None: ...

class ApprovalCharge(_message.Message):
    __slots__ = ("name", "unit", "ledger", "amount", "limit")
    NAME_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    LEDGER_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    name: str
    unit: str
    ledger: bytes
    amount: _token_pb2.Number
    limit: _token_pb2.Number
    def __init__(self, name: _Optional[str] = ..., unit: _Optional[str] = ..., ledger: _Optional[bytes] = ..., amount: _Optional[_Union[_token_pb2.Number, _Mapping]] = ..., limit: _Optional[_Union[_token_pb2.Number, _Mapping]] = ...) -> None: ...

class RequestApproval(_message.Message):
    __slots__ = ("approval",)
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    approval: ApprovalRecord
    def __init__(self, approval: _Optional[_Union[ApprovalRecord, _Mapping]] = ...) -> None: ...

class AnswerApproval(_message.Message):
    __slots__ = ("approval_id", "statement", "deny", "reason", "expire")
    APPROVAL_ID_FIELD_NUMBER: _ClassVar[int]
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    DENY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EXPIRE_FIELD_NUMBER: _ClassVar[int]
    approval_id: bytes
    statement: _token_pb2.SignedApproval
    deny: bool
    reason: str
    expire: bool
    def __init__(self, approval_id: _Optional[bytes] = ..., statement: _Optional[_Union[_token_pb2.SignedApproval, _Mapping]] = ..., deny: bool = ..., reason: _Optional[str] = ..., expire: bool = ...) -> None: ...

class AddCredential(_message.Message):
    __slots__ = ("name", "role", "audiences", "secret_hash")
    NAME_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    AUDIENCES_FIELD_NUMBER: _ClassVar[int]
    SECRET_HASH_FIELD_NUMBER: _ClassVar[int]
    name: str
    role: str
    audiences: _containers.RepeatedScalarFieldContainer[str]
    secret_hash: bytes
    def __init__(self, name: _Optional[str] = ..., role: _Optional[str] = ..., audiences: _Optional[_Iterable[str]] = ..., secret_hash: _Optional[bytes] = ...) -> None: ...

class RemoveCredential(_message.Message):
    __slots__ = ("name",)
    NAME_FIELD_NUMBER: _ClassVar[int]
    name: str
    def __init__(self, name: _Optional[str] = ...) -> None: ...

class SessionSelector(_message.Message):
    __slots__ = ("subject", "owner", "labels", "all")
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    ALL_FIELD_NUMBER: _ClassVar[int]
    subject: str
    owner: str
    labels: _containers.RepeatedCompositeFieldContainer[Label]
    all: bool
    def __init__(self, subject: _Optional[str] = ..., owner: _Optional[str] = ..., labels: _Optional[_Iterable[_Union[Label, _Mapping]]] = ..., all: bool = ...) -> None: ...

class BanSessions(_message.Message):
    __slots__ = ("selector", "for_ms", "reason")
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    FOR_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    selector: SessionSelector
    for_ms: int
    reason: str
    def __init__(self, selector: _Optional[_Union[SessionSelector, _Mapping]] = ..., for_ms: _Optional[int] = ..., reason: _Optional[str] = ...) -> None: ...

class CutLogins(_message.Message):
    __slots__ = ("issuer", "subject", "sid", "up_to_ms", "keep_ms", "reason", "without_sid", "disabled_ms", "enabled_ms", "noncompliant_ms", "compliant_ms", "high_risk_ms", "low_risk_ms", "claims_ms")
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    SID_FIELD_NUMBER: _ClassVar[int]
    UP_TO_MS_FIELD_NUMBER: _ClassVar[int]
    KEEP_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_SID_FIELD_NUMBER: _ClassVar[int]
    DISABLED_MS_FIELD_NUMBER: _ClassVar[int]
    ENABLED_MS_FIELD_NUMBER: _ClassVar[int]
    NONCOMPLIANT_MS_FIELD_NUMBER: _ClassVar[int]
    COMPLIANT_MS_FIELD_NUMBER: _ClassVar[int]
    HIGH_RISK_MS_FIELD_NUMBER: _ClassVar[int]
    LOW_RISK_MS_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_MS_FIELD_NUMBER: _ClassVar[int]
    issuer: str
    subject: str
    sid: str
    up_to_ms: int
    keep_ms: int
    reason: str
    without_sid: bool
    disabled_ms: int
    enabled_ms: int
    noncompliant_ms: int
    compliant_ms: int
    high_risk_ms: int
    low_risk_ms: int
    claims_ms: int
    def __init__(self, issuer: _Optional[str] = ..., subject: _Optional[str] = ..., sid: _Optional[str] = ..., up_to_ms: _Optional[int] = ..., keep_ms: _Optional[int] = ..., reason: _Optional[str] = ..., without_sid: bool = ..., disabled_ms: _Optional[int] = ..., enabled_ms: _Optional[int] = ..., noncompliant_ms: _Optional[int] = ..., compliant_ms: _Optional[int] = ..., high_risk_ms: _Optional[int] = ..., low_risk_ms: _Optional[int] = ..., claims_ms: _Optional[int] = ...) -> None: ...

class LoginCut(_message.Message):
    __slots__ = ("issuer", "subject", "sid", "up_to_ms", "keep_until_ms", "reason", "cut_by", "cut_at_ms", "place", "without_sid", "disabled_ms", "enabled_ms", "noncompliant_ms", "compliant_ms", "high_risk_ms", "low_risk_ms", "claims_ms")
    ISSUER_FIELD_NUMBER: _ClassVar[int]
    SUBJECT_FIELD_NUMBER: _ClassVar[int]
    SID_FIELD_NUMBER: _ClassVar[int]
    UP_TO_MS_FIELD_NUMBER: _ClassVar[int]
    KEEP_UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CUT_BY_FIELD_NUMBER: _ClassVar[int]
    CUT_AT_MS_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    WITHOUT_SID_FIELD_NUMBER: _ClassVar[int]
    DISABLED_MS_FIELD_NUMBER: _ClassVar[int]
    ENABLED_MS_FIELD_NUMBER: _ClassVar[int]
    NONCOMPLIANT_MS_FIELD_NUMBER: _ClassVar[int]
    COMPLIANT_MS_FIELD_NUMBER: _ClassVar[int]
    HIGH_RISK_MS_FIELD_NUMBER: _ClassVar[int]
    LOW_RISK_MS_FIELD_NUMBER: _ClassVar[int]
    CLAIMS_MS_FIELD_NUMBER: _ClassVar[int]
    issuer: str
    subject: str
    sid: str
    up_to_ms: int
    keep_until_ms: int
    reason: str
    cut_by: str
    cut_at_ms: int
    place: int
    without_sid: bool
    disabled_ms: int
    enabled_ms: int
    noncompliant_ms: int
    compliant_ms: int
    high_risk_ms: int
    low_risk_ms: int
    claims_ms: int
    def __init__(self, issuer: _Optional[str] = ..., subject: _Optional[str] = ..., sid: _Optional[str] = ..., up_to_ms: _Optional[int] = ..., keep_until_ms: _Optional[int] = ..., reason: _Optional[str] = ..., cut_by: _Optional[str] = ..., cut_at_ms: _Optional[int] = ..., place: _Optional[int] = ..., without_sid: bool = ..., disabled_ms: _Optional[int] = ..., enabled_ms: _Optional[int] = ..., noncompliant_ms: _Optional[int] = ..., compliant_ms: _Optional[int] = ..., high_risk_ms: _Optional[int] = ..., low_risk_ms: _Optional[int] = ..., claims_ms: _Optional[int] = ...) -> None: ...

class SessionBan(_message.Message):
    __slots__ = ("selector", "until_ms", "reason", "set_by", "set_at_ms")
    SELECTOR_FIELD_NUMBER: _ClassVar[int]
    UNTIL_MS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SET_BY_FIELD_NUMBER: _ClassVar[int]
    SET_AT_MS_FIELD_NUMBER: _ClassVar[int]
    selector: SessionSelector
    until_ms: int
    reason: str
    set_by: str
    set_at_ms: int
    def __init__(self, selector: _Optional[_Union[SessionSelector, _Mapping]] = ..., until_ms: _Optional[int] = ..., reason: _Optional[str] = ..., set_by: _Optional[str] = ..., set_at_ms: _Optional[int] = ...) -> None: ...

class SessionBans(_message.Message):
    __slots__ = ("bans",)
    BANS_FIELD_NUMBER: _ClassVar[int]
    bans: _containers.RepeatedCompositeFieldContainer[SessionBan]
    def __init__(self, bans: _Optional[_Iterable[_Union[SessionBan, _Mapping]]] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("change_id", "digest", "rejection", "detail", "revision", "seq", "session_id", "epoch", "at_ms", "permit_id", "permit_deadline_ms")
    CHANGE_ID_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    REJECTION_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    PERMIT_ID_FIELD_NUMBER: _ClassVar[int]
    PERMIT_DEADLINE_MS_FIELD_NUMBER: _ClassVar[int]
    change_id: str
    digest: bytes
    rejection: str
    detail: str
    revision: int
    seq: int
    session_id: bytes
    epoch: int
    at_ms: int
    permit_id: bytes
    permit_deadline_ms: int
    def __init__(self, change_id: _Optional[str] = ..., digest: _Optional[bytes] = ..., rejection: _Optional[str] = ..., detail: _Optional[str] = ..., revision: _Optional[int] = ..., seq: _Optional[int] = ..., session_id: _Optional[bytes] = ..., epoch: _Optional[int] = ..., at_ms: _Optional[int] = ..., permit_id: _Optional[bytes] = ..., permit_deadline_ms: _Optional[int] = ...) -> None: ...
