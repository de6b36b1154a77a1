from sessauth.v1 import record_pb2 as _record_pb2
from sessauth.v1 import token_pb2 as _token_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ListKeysRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListKeysResponse(_message.Message):
    __slots__ = ("keys",)
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[_record_pb2.KeyRecord]
    def __init__(self, keys: _Optional[_Iterable[_Union[_record_pb2.KeyRecord, _Mapping]]] = ...) -> None: ...

class GetJwksRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetJwksResponse(_message.Message):
    __slots__ = ("jwks",)
    JWKS_FIELD_NUMBER: _ClassVar[int]
    jwks: bytes
    def __init__(self, jwks: _Optional[bytes] = ...) -> None: ...

class AddKeyRequest(_message.Message):
    __slots__ = ("request_id", "public_key", "owner")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    OWNER_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    public_key: bytes
    owner: str
    def __init__(self, request_id: _Optional[str] = ..., public_key: _Optional[bytes] = ..., owner: _Optional[str] = ...) -> None: ...

class AddKeyResponse(_message.Message):
    __slots__ = ("key", "revision")
    KEY_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    key: _record_pb2.KeyRecord
    revision: int
    def __init__(self, key: _Optional[_Union[_record_pb2.KeyRecord, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...

class ActivateKeyRequest(_message.Message):
    __slots__ = ("request_id", "key_id")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    key_id: bytes
    def __init__(self, request_id: _Optional[str] = ..., key_id: _Optional[bytes] = ...) -> None: ...

class ActivateKeyResponse(_message.Message):
    __slots__ = ("key", "revision")
    KEY_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    key: _record_pb2.KeyRecord
    revision: int
    def __init__(self, key: _Optional[_Union[_record_pb2.KeyRecord, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...

class RetireKeyRequest(_message.Message):
    __slots__ = ("request_id", "key_id")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    key_id: bytes
    def __init__(self, request_id: _Optional[str] = ..., key_id: _Optional[bytes] = ...) -> None: ...

class RetireKeyResponse(_message.Message):
    __slots__ = ("key", "revision")
    KEY_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    key: _record_pb2.KeyRecord
    revision: int
    def __init__(self, key: _Optional[_Union[_record_pb2.KeyRecord, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...

class DistrustKeyRequest(_message.Message):
    __slots__ = ("request_id", "key_id")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    KEY_ID_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    key_id: bytes
    def __init__(self, request_id: _Optional[str] = ..., key_id: _Optional[bytes] = ...) -> None: ...

class DistrustKeyResponse(_message.Message):
    __slots__ = ("key", "revision")
    KEY_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    key: _record_pb2.KeyRecord
    revision: int
    def __init__(self, key: _Optional[_Union[_record_pb2.KeyRecord, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...

class AdmitServerRequest(_message.Message):
    __slots__ = ("request_id", "name", "server_key", "issuer_key", "address")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    SERVER_KEY_FIELD_NUMBER: _ClassVar[int]
    ISSUER_KEY_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    name: str
    server_key: bytes
    issuer_key: bytes
    address: str
    def __init__(self, request_id: _Optional[str] = ..., name: _Optional[str] = ..., server_key: _Optional[bytes] = ..., issuer_key: _Optional[bytes] = ..., address: _Optional[str] = ...) -> None: ...

class AdmitServerResponse(_message.Message):
    __slots__ = ("server_key", "issuer_key", "revision")
    SERVER_KEY_FIELD_NUMBER: _ClassVar[int]
    ISSUER_KEY_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    server_key: _record_pb2.KeyRecord
    issuer_key: _record_pb2.KeyRecord
    revision: int
    def __init__(self, server_key: _Optional[_Union[_record_pb2.KeyRecord, _Mapping]] = ..., issuer_key: _Optional[_Union[_record_pb2.KeyRecord, _Mapping]] = ..., revision: _Optional[int] = ...) -> None: ...

class ListVerifierKeysRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListVerifierKeysResponse(_message.Message):
    __slots__ = ("keys",)
    KEYS_FIELD_NUMBER: _ClassVar[int]
    keys: _containers.RepeatedCompositeFieldContainer[_token_pb2.SignedVerifierKey]
    def __init__(self, keys: _Optional[_Iterable[_Union[_token_pb2.SignedVerifierKey, _Mapping]]] = ...) -> None: ...

class SignVerifierKeyRequest(_message.Message):
    __slots__ = ("payload",)
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    def __init__(self, payload: _Optional[bytes] = ...) -> None: ...

class SignVerifierKeyResponse(_message.Message):
    __slots__ = ("key",)
    KEY_FIELD_NUMBER: _ClassVar[int]
    key: _token_pb2.SignedVerifierKey
    def __init__(self, key: _Optional[_Union[_token_pb2.SignedVerifierKey, _Mapping]] = ...) -> None: ...
