from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Ending(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENDING_UNSPECIFIED: _ClassVar[Ending]
    ENDING_SEALED: _ClassVar[Ending]
    ENDING_OPEN: _ClassVar[Ending]
    ENDING_BOUND: _ClassVar[Ending]

class SegmentKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SEGMENT_KIND_UNSPECIFIED: _ClassVar[SegmentKind]
    SEGMENT_KIND_LITERAL: _ClassVar[SegmentKind]
    SEGMENT_KIND_ANY: _ClassVar[SegmentKind]
    SEGMENT_KIND_PREFIX: _ClassVar[SegmentKind]
    SEGMENT_KIND_ONE_OF: _ClassVar[SegmentKind]
    SEGMENT_KIND_REST: _ClassVar[SegmentKind]

class Source(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SOURCE_UNSPECIFIED: _ClassVar[Source]
    SOURCE_ARGS: _ClassVar[Source]
    SOURCE_SESSION: _ClassVar[Source]
    SOURCE_TOOL: _ClassVar[Source]
    SOURCE_ELEMENTS: _ClassVar[Source]

class Operator(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OPERATOR_UNSPECIFIED: _ClassVar[Operator]
    OPERATOR_EQUAL: _ClassVar[Operator]
    OPERATOR_NOT_EQUAL: _ClassVar[Operator]
    OPERATOR_IN: _ClassVar[Operator]
    OPERATOR_NOT_IN: _ClassVar[Operator]
    OPERATOR_LESS: _ClassVar[Operator]
    OPERATOR_LESS_EQUAL: _ClassVar[Operator]
    OPERATOR_GREATER: _ClassVar[Operator]
    OPERATOR_GREATER_EQUAL: _ClassVar[Operator]
    OPERATOR_STARTS_WITH: _ClassVar[Operator]
    OPERATOR_GLOB: _ClassVar[Operator]
    OPERATOR_UNDER: _ClassVar[Operator]
    OPERATOR_CIDR: _ClassVar[Operator]
    OPERATOR_SUBSET_OF: _ClassVar[Operator]
    OPERATOR_PRESENT: _ClassVar[Operator]
    OPERATOR_ABSENT: _ClassVar[Operator]
    OPERATOR_NOT_STARTS_WITH: _ClassVar[Operator]
    OPERATOR_NOT_GLOB: _ClassVar[Operator]
    OPERATOR_NOT_UNDER: _ClassVar[Operator]
    OPERATOR_NOT_CIDR: _ClassVar[Operator]

class Accessor(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ACCESSOR_UNSPECIFIED: _ClassVar[Accessor]
    ACCESSOR_COUNT: _ClassVar[Accessor]
    ACCESSOR_HOST: _ClassVar[Accessor]
    ACCESSOR_SCHEME: _ClassVar[Accessor]
    ACCESSOR_PORT: _ClassVar[Accessor]
    ACCESSOR_PATH: _ClassVar[Accessor]
    ACCESSOR_DOMAIN: _ClassVar[Accessor]
    ACCESSOR_LENGTH: _ClassVar[Accessor]

class ProofKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PROOF_KIND_UNSPECIFIED: _ClassVar[ProofKind]
    PROOF_KIND_ED25519: _ClassVar[ProofKind]
    PROOF_KIND_MAC: _ClassVar[ProofKind]
ENDING_UNSPECIFIED: Ending
ENDING_SEALED: Ending
ENDING_OPEN: Ending
ENDING_BOUND: Ending
SEGMENT_KIND_UNSPECIFIED: SegmentKind
SEGMENT_KIND_LITERAL: SegmentKind
SEGMENT_KIND_ANY: SegmentKind
SEGMENT_KIND_PREFIX: SegmentKind
SEGMENT_KIND_ONE_OF: SegmentKind
SEGMENT_KIND_REST: SegmentKind
SOURCE_UNSPECIFIED: Source
SOURCE_ARGS: Source
SOURCE_SESSION: Source
SOURCE_TOOL: Source
SOURCE_ELEMENTS: Source
OPERATOR_UNSPECIFIED: Operator
OPERATOR_EQUAL: Operator
OPERATOR_NOT_EQUAL: Operator
OPERATOR_IN: Operator
OPERATOR_NOT_IN: Operator
OPERATOR_LESS: Operator
OPERATOR_LESS_EQUAL: Operator
OPERATOR_GREATER: Operator
OPERATOR_GREATER_EQUAL: Operator
OPERATOR_STARTS_WITH: Operator
OPERATOR_GLOB: Operator
OPERATOR_UNDER: Operator
OPERATOR_CIDR: Operator
OPERATOR_SUBSET_OF: Operator
OPERATOR_PRESENT: Operator
OPERATOR_ABSENT: Operator
OPERATOR_NOT_STARTS_WITH: Operator
OPERATOR_NOT_GLOB: Operator
OPERATOR_NOT_UNDER: Operator
OPERATOR_NOT_CIDR: Operator
ACCESSOR_UNSPECIFIED: Accessor
ACCESSOR_COUNT: Accessor
ACCESSOR_HOST: Accessor
ACCESSOR_SCHEME: Accessor
ACCESSOR_PORT: Accessor
ACCESSOR_PATH: Accessor
ACCESSOR_DOMAIN: Accessor
ACCESSOR_LENGTH: Accessor
PROOF_KIND_UNSPECIFIED: ProofKind
PROOF_KIND_ED25519: ProofKind
PROOF_KIND_MAC: ProofKind

class Token(_message.Message):
    __slots__ = ("version", "blocks")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BLOCKS_FIELD_NUMBER: _ClassVar[int]
    version: int
    blocks: _containers.RepeatedCompositeFieldContainer[SignedBlock]
    def __init__(self, version: _Optional[int] = ..., blocks: _Optional[_Iterable[_Union[SignedBlock, _Mapping]]] = ...) -> None: ...

class SignedBlock(_message.Message):
    __slots__ = ("signature", "payload")
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    signature: bytes
    payload: bytes
    def __init__(self, signature: _Optional[bytes] = ..., payload: _Optional[bytes] = ...) -> None: ...

class StoredToken(_message.Message):
    __slots__ = ("token", "next_secret")
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    NEXT_SECRET_FIELD_NUMBER: _ClassVar[int]
    token: bytes
    next_secret: bytes
    def __init__(self, token: _Optional[bytes] = ..., next_secret: _Optional[bytes] = ...) -> None: ...

class Block(_message.Message):
    __slots__ = ("root", "issued_at_ms", "expires_at_ms", "not_before_ms", "audience", "scopes", "where", "source", "peer", "max_blocks", "ending", "next_key", "proof_key", "may_seal", "label")
    ROOT_FIELD_NUMBER: _ClassVar[int]
    ISSUED_AT_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_MS_FIELD_NUMBER: _ClassVar[int]
    AUDIENCE_FIELD_NUMBER: _ClassVar[int]
    SCOPES_FIELD_NUMBER: _ClassVar[int]
    WHERE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PEER_FIELD_NUMBER: _ClassVar[int]
    MAX_BLOCKS_FIELD_NUMBER: _ClassVar[int]
    ENDING_FIELD_NUMBER: _ClassVar[int]
    NEXT_KEY_FIELD_NUMBER: _ClassVar[int]
    PROOF_KEY_FIELD_NUMBER: _ClassVar[int]
    MAY_SEAL_FIELD_NUMBER: _ClassVar[int]
    LABEL_FIELD_NUMBER: _ClassVar[int]
    root: Root
    issued_at_ms: int
    expires_at_ms: int
    not_before_ms: int
    audience: _containers.RepeatedScalarFieldContainer[str]
    scopes: _containers.RepeatedCompositeFieldContainer[Scope]
    where: _containers.RepeatedCompositeFieldContainer[Condition]
    source: _containers.RepeatedScalarFieldContainer[str]
    peer: _containers.RepeatedScalarFieldContainer[str]
    max_blocks: int
    ending: Ending
    next_key: bytes
    proof_key: bytes
    may_seal: bool
    label: str
    def __init__(self, root: _Optional[_Union[Root, _Mapping]] = ..., issued_at_ms: _Optional[int] = ..., expires_at_ms: _Optional[int] = ..., not_before_ms: _Optional[int] = ..., audience: _Optional[_Iterable[str]] = ..., scopes: _Optional[_Iterable[_Union[Scope, _Mapping]]] = ..., where: _Optional[_Iterable[_Union[Condition, _Mapping]]] = ..., source: _Optional[_Iterable[str]] = ..., peer: _Optional[_Iterable[str]] = ..., max_blocks: _Optional[int] = ..., ending: _Optional[_Union[Ending, str]] = ..., next_key: _Optional[bytes] = ..., proof_key: _Optional[bytes] = ..., may_seal: bool = ..., label: _Optional[str] = ...) -> None: ...

class Root(_message.Message):
    __slots__ = ("issuer_key_id", "session_id", "token_id", "min_revision")
    ISSUER_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_ID_FIELD_NUMBER: _ClassVar[int]
    MIN_REVISION_FIELD_NUMBER: _ClassVar[int]
    issuer_key_id: bytes
    session_id: bytes
    token_id: bytes
    min_revision: int
    def __init__(self, issuer_key_id: _Optional[bytes] = ..., session_id: _Optional[bytes] = ..., token_id: _Optional[bytes] = ..., min_revision: _Optional[int] = ...) -> None: ...

class Scope(_message.Message):
    __slots__ = ("actions", "resource", "where", "free", "free_all", "needs", "exception")
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    WHERE_FIELD_NUMBER: _ClassVar[int]
    FREE_FIELD_NUMBER: _ClassVar[int]
    FREE_ALL_FIELD_NUMBER: _ClassVar[int]
    NEEDS_FIELD_NUMBER: _ClassVar[int]
    EXCEPTION_FIELD_NUMBER: _ClassVar[int]
    actions: _containers.RepeatedScalarFieldContainer[str]
    resource: _containers.RepeatedCompositeFieldContainer[Segment]
    where: _containers.RepeatedCompositeFieldContainer[Condition]
    free: _containers.RepeatedCompositeFieldContainer[Path]
    free_all: bool
    needs: Needs
    exception: bool
    def __init__(self, actions: _Optional[_Iterable[str]] = ..., resource: _Optional[_Iterable[_Union[Segment, _Mapping]]] = ..., where: _Optional[_Iterable[_Union[Condition, _Mapping]]] = ..., free: _Optional[_Iterable[_Union[Path, _Mapping]]] = ..., free_all: bool = ..., needs: _Optional[_Union[Needs, _Mapping]] = ..., exception: bool = ...) -> None: ...

class Segment(_message.Message):
    __slots__ = ("kind", "texts")
    KIND_FIELD_NUMBER: _ClassVar[int]
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    kind: SegmentKind
    texts: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, kind: _Optional[_Union[SegmentKind, str]] = ..., texts: _Optional[_Iterable[str]] = ...) -> None: ...

class Path(_message.Message):
    __slots__ = ("source", "segments")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    SEGMENTS_FIELD_NUMBER: _ClassVar[int]
    source: Source
    segments: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, source: _Optional[_Union[Source, str]] = ..., segments: _Optional[_Iterable[str]] = ...) -> None: ...

class Condition(_message.Message):
    __slots__ = ("path", "operator", "values", "fact", "accessor", "each", "optional", "any")
    PATH_FIELD_NUMBER: _ClassVar[int]
    OPERATOR_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    FACT_FIELD_NUMBER: _ClassVar[int]
    ACCESSOR_FIELD_NUMBER: _ClassVar[int]
    EACH_FIELD_NUMBER: _ClassVar[int]
    OPTIONAL_FIELD_NUMBER: _ClassVar[int]
    ANY_FIELD_NUMBER: _ClassVar[int]
    path: Path
    operator: Operator
    values: _containers.RepeatedCompositeFieldContainer[Value]
    fact: str
    accessor: Accessor
    each: bool
    optional: bool
    any: bool
    def __init__(self, path: _Optional[_Union[Path, _Mapping]] = ..., operator: _Optional[_Union[Operator, str]] = ..., values: _Optional[_Iterable[_Union[Value, _Mapping]]] = ..., fact: _Optional[str] = ..., accessor: _Optional[_Union[Accessor, str]] = ..., each: bool = ..., optional: bool = ..., any: bool = ...) -> None: ...

class Value(_message.Message):
    __slots__ = ("text", "number", "truth", "decimal", "json", "digest")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    TRUTH_FIELD_NUMBER: _ClassVar[int]
    DECIMAL_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    text: str
    number: Number
    truth: bool
    decimal: str
    json: str
    digest: bytes
    def __init__(self, text: _Optional[str] = ..., number: _Optional[_Union[Number, _Mapping]] = ..., truth: bool = ..., decimal: _Optional[str] = ..., json: _Optional[str] = ..., digest: _Optional[bytes] = ...) -> None: ...

class Number(_message.Message):
    __slots__ = ("units", "nanos")
    UNITS_FIELD_NUMBER: _ClassVar[int]
    NANOS_FIELD_NUMBER: _ClassVar[int]
    units: int
    nanos: int
    def __init__(self, units: _Optional[int] = ..., nanos: _Optional[int] = ...) -> None: ...

class Proof(_message.Message):
    __slots__ = ("kind", "verifier_id", "key_id", "time_ms", "nonce", "tag")
    KIND_FIELD_NUMBER: _ClassVar[int]
    VERIFIER_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    TIME_MS_FIELD_NUMBER: _ClassVar[int]
    NONCE_FIELD_NUMBER: _ClassVar[int]
    TAG_FIELD_NUMBER: _ClassVar[int]
    kind: ProofKind
    verifier_id: bytes
    key_id: bytes
    time_ms: int
    nonce: bytes
    tag: bytes
    def __init__(self, kind: _Optional[_Union[ProofKind, str]] = ..., verifier_id: _Optional[bytes] = ..., key_id: _Optional[bytes] = ..., time_ms: _Optional[int] = ..., nonce: _Optional[bytes] = ..., tag: _Optional[bytes] = ...) -> None: ...

class VerifierKey(_message.Message):
    __slots__ = ("verifier_id", "public_key", "not_before_ms", "expires_at_ms", "cluster_id")
    VERIFIER_ID_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    NOT_BEFORE_MS_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_ID_FIELD_NUMBER: _ClassVar[int]
    verifier_id: bytes
    public_key: bytes
    not_before_ms: int
    expires_at_ms: int
    cluster_id: bytes
    def __init__(self, verifier_id: _Optional[bytes] = ..., public_key: _Optional[bytes] = ..., not_before_ms: _Optional[int] = ..., expires_at_ms: _Optional[int] = ..., cluster_id: _Optional[bytes] = ...) -> None: ...

class SignedVerifierKey(_message.Message):
    __slots__ = ("payload", "issuer_key_id", "signature")
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    ISSUER_KEY_ID_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    issuer_key_id: bytes
    signature: bytes
    def __init__(self, payload: _Optional[bytes] = ..., issuer_key_id: _Optional[bytes] = ..., signature: _Optional[bytes] = ...) -> None: ...

class ApprovalStatement(_message.Message):
    __slots__ = ("id", "session_id", "block_id", "block", "scope", "epoch", "request_digest", "expires_at_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    BLOCK_ID_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REQUEST_DIGEST_FIELD_NUMBER: _ClassVar[int]
    EXPIRES_AT_MS_FIELD_NUMBER: _ClassVar[int]
    id: bytes
    session_id: bytes
    block_id: bytes
    block: int
    scope: int
    epoch: int
    request_digest: bytes
    expires_at_ms: int
    def __init__(self, id: _Optional[bytes] = ..., session_id: _Optional[bytes] = ..., block_id: _Optional[bytes] = ..., block: _Optional[int] = ..., scope: _Optional[int] = ..., epoch: _Optional[int] = ..., request_digest: _Optional[bytes] = ..., expires_at_ms: _Optional[int] = ...) -> None: ...

class SignedApproval(_message.Message):
    __slots__ = ("public_key", "signature", "statement")
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    public_key: bytes
    signature: bytes
    statement: bytes
    def __init__(self, public_key: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., statement: _Optional[bytes] = ...) -> None: ...

class Needs(_message.Message):
    __slots__ = ("approval", "uses", "budget")
    APPROVAL_FIELD_NUMBER: _ClassVar[int]
    USES_FIELD_NUMBER: _ClassVar[int]
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    approval: Approval
    uses: int
    budget: Budget
    def __init__(self, approval: _Optional[_Union[Approval, _Mapping]] = ..., uses: _Optional[int] = ..., budget: _Optional[_Union[Budget, _Mapping]] = ...) -> None: ...

class Approval(_message.Message):
    __slots__ = ("threshold", "keys")
    THRESHOLD_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    threshold: int
    keys: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, threshold: _Optional[int] = ..., keys: _Optional[_Iterable[bytes]] = ...) -> None: ...

class Budget(_message.Message):
    __slots__ = ("name", "limit", "unit", "amount")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    UNIT_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    name: str
    limit: Number
    unit: str
    amount: Path
    def __init__(self, name: _Optional[str] = ..., limit: _Optional[_Union[Number, _Mapping]] = ..., unit: _Optional[str] = ..., amount: _Optional[_Union[Path, _Mapping]] = ...) -> None: ...
