from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class GetStatusRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class GetStatusResponse(_message.Message):
    __slots__ = ("version", "uptime_ms", "role", "host", "revision", "not_ready", "workers", "ready_workers", "worker_restarts", "active_sessions", "suspended_sessions", "ended_sessions", "minute_ms", "checks", "denials", "brake", "cluster_brake", "clock_suspect", "fresh", "record", "alarm", "state_used_bytes", "state_map_bytes", "disk_free_bytes", "disk_bytes", "certificate_ends_at_ms", "audit_stream", "audit_lines", "audit_head", "audit_fault", "identity_settings")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    UPTIME_MS_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    HOST_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    NOT_READY_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    READY_WORKERS_FIELD_NUMBER: _ClassVar[int]
    WORKER_RESTARTS_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    SUSPENDED_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    ENDED_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    MINUTE_MS_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    DENIALS_FIELD_NUMBER: _ClassVar[int]
    BRAKE_FIELD_NUMBER: _ClassVar[int]
    CLUSTER_BRAKE_FIELD_NUMBER: _ClassVar[int]
    CLOCK_SUSPECT_FIELD_NUMBER: _ClassVar[int]
    FRESH_FIELD_NUMBER: _ClassVar[int]
    RECORD_FIELD_NUMBER: _ClassVar[int]
    ALARM_FIELD_NUMBER: _ClassVar[int]
    STATE_USED_BYTES_FIELD_NUMBER: _ClassVar[int]
    STATE_MAP_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DISK_BYTES_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_ENDS_AT_MS_FIELD_NUMBER: _ClassVar[int]
    AUDIT_STREAM_FIELD_NUMBER: _ClassVar[int]
    AUDIT_LINES_FIELD_NUMBER: _ClassVar[int]
    AUDIT_HEAD_FIELD_NUMBER: _ClassVar[int]
    AUDIT_FAULT_FIELD_NUMBER: _ClassVar[int]
    IDENTITY_SETTINGS_FIELD_NUMBER: _ClassVar[int]
    version: str
    uptime_ms: int
    role: str
    host: str
    revision: int
    not_ready: str
    workers: int
    ready_workers: int
    worker_restarts: int
    active_sessions: int
    suspended_sessions: int
    ended_sessions: int
    minute_ms: int
    checks: int
    denials: int
    brake: str
    cluster_brake: str
    clock_suspect: str
    fresh: bool
    record: int
    alarm: str
    state_used_bytes: int
    state_map_bytes: int
    disk_free_bytes: int
    disk_bytes: int
    certificate_ends_at_ms: int
    audit_stream: str
    audit_lines: int
    audit_head: str
    audit_fault: str
    identity_settings: str
    def __init__(self, version: _Optional[str] = ..., uptime_ms: _Optional[int] = ..., role: _Optional[str] = ..., host: _Optional[str] = ..., revision: _Optional[int] = ..., not_ready: _Optional[str] = ..., workers: _Optional[int] = ..., ready_workers: _Optional[int] = ..., worker_restarts: _Optional[int] = ..., active_sessions: _Optional[int] = ..., suspended_sessions: _Optional[int] = ..., ended_sessions: _Optional[int] = ..., minute_ms: _Optional[int] = ..., checks: _Optional[int] = ..., denials: _Optional[int] = ..., brake: _Optional[str] = ..., cluster_brake: _Optional[str] = ..., clock_suspect: _Optional[str] = ..., fresh: bool = ..., record: _Optional[int] = ..., alarm: _Optional[str] = ..., state_used_bytes: _Optional[int] = ..., state_map_bytes: _Optional[int] = ..., disk_free_bytes: _Optional[int] = ..., disk_bytes: _Optional[int] = ..., certificate_ends_at_ms: _Optional[int] = ..., audit_stream: _Optional[str] = ..., audit_lines: _Optional[int] = ..., audit_head: _Optional[str] = ..., audit_fault: _Optional[str] = ..., identity_settings: _Optional[str] = ...) -> None: ...
