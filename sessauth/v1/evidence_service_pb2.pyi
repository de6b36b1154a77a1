from sessauth.v1 import receipt_pb2 as _receipt_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class VerifierKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERIFIER_KIND_UNSPECIFIED: _ClassVar[VerifierKind]
    VERIFIER_KIND_CONTROL: _ClassVar[VerifierKind]
    VERIFIER_KIND_WORKER: _ClassVar[VerifierKind]
    VERIFIER_KIND_EMBEDDED: _ClassVar[VerifierKind]
VERIFIER_KIND_UNSPECIFIED: VerifierKind
VERIFIER_KIND_CONTROL: VerifierKind
VERIFIER_KIND_WORKER: VerifierKind
VERIFIER_KIND_EMBEDDED: VerifierKind

class RegisterVerifierRequest(_message.Message):
    __slots__ = ("name", "instance", "staleness_ms", "cluster_id", "incarnation", "revision", "process_id", "process_started", "leave")
    NAME_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_FIELD_NUMBER: _ClassVar[int]
    STALENESS_MS_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    PROCESS_ID_FIELD_NUMBER: _ClassVar[int]
    PROCESS_STARTED_FIELD_NUMBER: _ClassVar[int]
    LEAVE_FIELD_NUMBER: _ClassVar[int]
    name: str
    instance: bytes
    staleness_ms: int
    cluster_id: bytes
    incarnation: bytes
    revision: int
    process_id: int
    process_started: int
    leave: bool
    def __init__(self, name: _Optional[str] = ..., instance: _Optional[bytes] = ..., staleness_ms: _Optional[int] = ..., cluster_id: _Optional[bytes] = ..., incarnation: _Optional[bytes] = ..., revision: _Optional[int] = ..., process_id: _Optional[int] = ..., process_started: _Optional[int] = ..., leave: bool = ...) -> None: ...

class RegisterVerifierResponse(_message.Message):
    __slots__ = ("revision",)
    REVISION_FIELD_NUMBER: _ClassVar[int]
    revision: int
    def __init__(self, revision: _Optional[int] = ...) -> None: ...

class GetReceiptRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: bytes
    def __init__(self, session_id: _Optional[bytes] = ...) -> None: ...

class GetReceiptResponse(_message.Message):
    __slots__ = ("receipt",)
    RECEIPT_FIELD_NUMBER: _ClassVar[int]
    receipt: _receipt_pb2.SignedReceipt
    def __init__(self, receipt: _Optional[_Union[_receipt_pb2.SignedReceipt, _Mapping]] = ...) -> None: ...

class ListVerifiersRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListVerifiersResponse(_message.Message):
    __slots__ = ("verifiers",)
    VERIFIERS_FIELD_NUMBER: _ClassVar[int]
    verifiers: _containers.RepeatedCompositeFieldContainer[Verifier]
    def __init__(self, verifiers: _Optional[_Iterable[_Union[Verifier, _Mapping]]] = ...) -> None: ...

class Verifier(_message.Message):
    __slots__ = ("name", "kind", "principal", "state", "revision", "staleness_ms", "registered_at_ms", "renewed_at_ms")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    PRINCIPAL_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    STALENESS_MS_FIELD_NUMBER: _ClassVar[int]
    REGISTERED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    RENEWED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    name: str
    kind: VerifierKind
    principal: str
    state: _receipt_pb2.VerifierState
    revision: int
    staleness_ms: int
    registered_at_ms: int
    renewed_at_ms: int
    def __init__(self, name: _Optional[str] = ..., kind: _Optional[_Union[VerifierKind, str]] = ..., principal: _Optional[str] = ..., state: _Optional[_Union[_receipt_pb2.VerifierState, str]] = ..., revision: _Optional[int] = ..., staleness_ms: _Optional[int] = ..., registered_at_ms: _Optional[int] = ..., renewed_at_ms: _Optional[int] = ...) -> None: ...
