from sessauth.v1 import record_pb2 as _record_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReceiptState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RECEIPT_STATE_UNSPECIFIED: _ClassVar[ReceiptState]
    RECEIPT_STATE_CLOSED: _ClassVar[ReceiptState]
    RECEIPT_STATE_PARTIAL: _ClassVar[ReceiptState]
    RECEIPT_STATE_UNKNOWN: _ClassVar[ReceiptState]

class VerifierState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERIFIER_STATE_UNSPECIFIED: _ClassVar[VerifierState]
    VERIFIER_STATE_ACKNOWLEDGED: _ClassVar[VerifierState]
    VERIFIER_STATE_OUTLIVED: _ClassVar[VerifierState]
    VERIFIER_STATE_WAITING: _ClassVar[VerifierState]
    VERIFIER_STATE_LEFT: _ClassVar[VerifierState]
RECEIPT_STATE_UNSPECIFIED: ReceiptState
RECEIPT_STATE_CLOSED: ReceiptState
RECEIPT_STATE_PARTIAL: ReceiptState
RECEIPT_STATE_UNKNOWN: ReceiptState
VERIFIER_STATE_UNSPECIFIED: VerifierState
VERIFIER_STATE_ACKNOWLEDGED: VerifierState
VERIFIER_STATE_OUTLIVED: VerifierState
VERIFIER_STATE_WAITING: VerifierState
VERIFIER_STATE_LEFT: VerifierState

class VerifierStatus(_message.Message):
    __slots__ = ("name", "state", "revision", "at_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    state: VerifierState
    revision: int
    at_ms: int
    def __init__(self, name: _Optional[str] = ..., state: _Optional[_Union[VerifierState, str]] = ..., revision: _Optional[int] = ..., at_ms: _Optional[int] = ...) -> None: ...

class Receipt(_message.Message):
    __slots__ = ("version", "cluster_id", "incarnation", "session_id", "epoch", "revision", "ended_at_ms", "cause", "reason", "made_at_ms", "state", "verifiers", "open_permits", "last_allow_ms", "record", "hosts", "observe")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    ENDED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    CAUSE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MADE_AT_MS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    VERIFIERS_FIELD_NUMBER: _ClassVar[int]
    OPEN_PERMITS_FIELD_NUMBER: _ClassVar[int]
    LAST_ALLOW_MS_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    OBSERVE_FIELD_NUMBER: _ClassVar[int]
    version: int
    cluster_id: bytes
    incarnation: bytes
    session_id: bytes
    epoch: int
    revision: int
    ended_at_ms: int
    cause: _record_pb2.EndCause
    reason: str
    made_at_ms: int
    state: ReceiptState
    verifiers: _containers.RepeatedCompositeFieldContainer[VerifierStatus]
    open_permits: int
    last_allow_ms: int
    record: int
    hosts: _containers.RepeatedCompositeFieldContainer[HostStatus]
    observe: bool
    def __init__(self, version: _Optional[int] = ..., cluster_id: _Optional[bytes] = ..., incarnation: _Optional[bytes] = ..., session_id: _Optional[bytes] = ..., epoch: _Optional[int] = ..., revision: _Optional[int] = ..., ended_at_ms: _Optional[int] = ..., cause: _Optional[_Union[_record_pb2.EndCause, str]] = ..., reason: _Optional[str] = ..., made_at_ms: _Optional[int] = ..., state: _Optional[_Union[ReceiptState, str]] = ..., verifiers: _Optional[_Iterable[_Union[VerifierStatus, _Mapping]]] = ..., open_permits: _Optional[int] = ..., last_allow_ms: _Optional[int] = ..., record: _Optional[int] = ..., hosts: _Optional[_Iterable[_Union[HostStatus, _Mapping]]] = ..., observe: bool = ...) -> None: ...

class HostStatus(_message.Message):
    __slots__ = ("name", "state", "record", "at_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    state: VerifierState
    record: int
    at_ms: int
    def __init__(self, name: _Optional[str] = ..., state: _Optional[_Union[VerifierState, str]] = ..., record: _Optional[int] = ..., at_ms: _Optional[int] = ...) -> None: ...

class SignedReceipt(_message.Message):
    __slots__ = ("payload", "issuer_key_id", "signature")
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    ISSUER_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    issuer_key_id: bytes
    signature: bytes
    def __init__(self, payload: _Optional[bytes] = ..., issuer_key_id: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class RegistrationRecord(_message.Message):
    __slots__ = ("name", "principal", "instance", "process_id", "process_started", "staleness_ms", "registered_revision", "registered_at_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    PROCESS_ID_FIELD_NUMBER: _ClassVar[int]
    PROCESS_STARTED_FIELD_NUMBER: _ClassVar[int]
    STALENESS_MS_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_REVISION_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    principal: str
    instance: bytes
    process_id: int
    process_started: int
    staleness_ms: int
    registered_revision: int
    registered_at_ms: int
    def __init__(self, name: _Optional[str] = ..., principal: _Optional[str] = ..., instance: _Optional[bytes] = ..., process_id: _Optional[int] = ..., process_started: _Optional[int] = ..., staleness_ms: _Optional[int] = ..., registered_revision: _Optional[int] = ..., registered_at_ms: _Optional[int] = ...) -> None: ...

class HostRecord(_message.Message):
    __slots__ = ("name", "principal", "instance", "staleness_ms", "registered_revision", "registered_at_ms", "instances", "leaving", "address")
    NAME_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    STALENESS_MS_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_REVISION_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    INSTANCES_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    name: str
    principal: str
    instance: bytes
    staleness_ms: int
    registered_revision: int
    registered_at_ms: int
    instances: int
    leaving: bool
    address: str
    def __init__(self, name: _Optional[str] = ..., principal: _Optional[str] = ..., instance: _Optional[bytes] = ..., staleness_ms: _Optional[int] = ..., registered_revision: _Optional[int] = ..., registered_at_ms: _Optional[int] = ..., instances: _Optional[int] = ..., leaving: bool = ..., address: _Optional[str] = ...) -> None: ...

class ServerBeat(_message.Message):
    __slots__ = ("cluster_id", "server", "number", "age_ms", "applied", "hosts", "reads", "at_ms", "not_leading", "clock_differs", "process", "listed")
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    SERVER_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    HOSTS_FIELD_NUMBER: _ClassVar[int]
    READS_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    NOT_LEADING_FIELD_NUMBER: _ClassVar[int]
    CLOCK_DIFFERS_FIELD_NUMBER: _ClassVar[int]
    PROCESS_FIELD_NUMBER: _ClassVar[int]
    LISTED_FIELD_NUMBER: _ClassVar[int]
    cluster_id: bytes
    server: str
    number: int
    age_ms: int
    applied: int
    hosts: _containers.RepeatedCompositeFieldContainer[HostApplied]
    reads: int
    at_ms: int
    not_leading: str
    clock_differs: str
    process: bytes
    listed: int
    def __init__(self, cluster_id: _Optional[bytes] = ..., server: _Optional[str] = ..., number: _Optional[int] = ..., age_ms: _Optional[int] = ..., applied: _Optional[int] = ..., hosts: _Optional[_Iterable[_Union[HostApplied, _Mapping]]] = ..., reads: _Optional[int] = ..., at_ms: _Optional[int] = ..., not_leading: _Optional[str] = ..., clock_differs: _Optional[str] = ..., process: _Optional[bytes] = ..., listed: _Optional[int] = ...) -> None: ...

class HostApplied(_message.Message):
    __slots__ = ("name", "instance", "applied", "reads")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    APPLIED_FIELD_NUMBER: _ClassVar[int]
    READS_FIELD_NUMBER: _ClassVar[int]
    name: str
    instance: bytes
    applied: int
    reads: int
    def __init__(self, name: _Optional[str] = ..., instance: _Optional[bytes] = ..., applied: _Optional[int] = ..., reads: _Optional[int] = ...) -> None: ...

class SignedBeat(_message.Message):
    __slots__ = ("payload", "key_id", "signature")
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    key_id: bytes
    signature: bytes
    def __init__(self, payload: _Optional[bytes] = ..., key_id: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...
