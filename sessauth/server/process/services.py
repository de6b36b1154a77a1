"""The services of a control process, and their RPCs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2

from ...clock import Clock
from ...state.lmdb.environment import LmdbSource
from ...state.writer.state_writer import StateWriter
from ...verifier.verifier import Verifier
from ..cluster.host_usage import HostUsagePart
from ..cluster.part import ClusterPart
from ..config.config import Config
from ..keys.issuer_keyring import KeyRing
from ..keys.proof_key_rotation import ProofKeyRotator
from ..rpc.authenticate import Authenticator
from ..rpc.failed_signatures import FailedSignatures
from ..rpc.method import Method, RawHandler, methods_of
from ..rpc.tracing import Tracing
from ..services.approval import ApprovalService
from ..services.authorization import AuthorizationService
from ..services.cluster import ClusterService
from ..services.credential import CredentialService
from ..services.cut_off import CutOffService
from ..services.event import EventService
from ..services.evidence import EvidenceService
from ..services.feed import FeedService
from ..services.forward import ForwardService
from ..services.health import HealthService
from ..services.host_status import StatusService
from ..services.key import KeyService
from ..services.session import SessionService
from ..services.token import TokenService
from ..services.usage import UsageService
from ..watch.recheck import Watching
from ..writer.cluster_writer import ClusterWriter
from ..writer.local import LocalWriter
from .subsystems import ControlSubsystems


class RpcService(Protocol):
    """A service with a handler for each of its RPCs."""

    descriptor: ClassVar[ServiceDescriptor]

    def methods(self) -> Mapping[str, Callable[..., object] | RawHandler]:
        """Return the handlers by the name of the RPC."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceParts:
    """The parts of a control process that its services need."""

    config: Config
    log: StateWriter
    clock: Clock
    part: ClusterPart
    subsystems: ControlSubsystems
    keyring: KeyRing
    host_keys: ProofKeyRotator
    verifier: Verifier
    source: LmdbSource
    authenticator: Authenticator
    watching: Watching
    tracing: Tracing | None
    host_usage: HostUsagePart | None
    # Raises FROZEN or AUDIT_UNAVAILABLE while no authority may be given.
    require_grants: Callable[[], None]


class Services:
    """One implementation of each service. ``status`` answers when its ``read`` was set."""

    def __init__(self, parts: ServiceParts) -> None:
        """Compose the services."""
        self.status = StatusService()
        self.checks = _checks(parts)
        self._services = _services(parts, self.status, self.checks)
        self.health = HealthService([service.descriptor.full_name for service in self._services])

    def methods(self) -> list[Method]:
        """Return the RPCs of all services, with those of the health service."""
        methods = methods_of(health_pb2.DESCRIPTOR.services_by_name["Health"], self.health.methods())
        for service in self._services:
            methods += methods_of(service.descriptor, service.methods())
        return methods


def _checks(parts: ServiceParts) -> AuthorizationService:
    config, log, part = parts.config, parts.log, parts.part
    failures = FailedSignatures(
        config.limits.failed_signatures_burst, config.limits.failed_signatures_per_second
    )
    local = LocalWriter(log, parts.verifier, cache_bytes=config.limits.writer_cache_bytes)
    writer = local if part.hand_on is None else ClusterWriter(local, part.hand_on)
    return AuthorizationService(parts.verifier, parts.source, failures, writer, parts.watching, parts.tracing)


def _services(
    parts: ServiceParts, status: StatusService, checks: AuthorizationService
) -> Sequence[RpcService]:
    config, log, clock, subsystems, part = parts.config, parts.log, parts.clock, parts.subsystems, parts.part
    registry, receipts = subsystems.registry, subsystems.receipts
    receipts.hosts = part.hosts
    cluster_usage = None if parts.host_usage is None else parts.host_usage.cluster
    feed_parts = None if part.feed is None else part.feed.parts
    return (
        SessionService(log, config.sessions, receipts, parts.require_grants),
        TokenService(log, parts.keyring, clock, parts.require_grants),
        checks,
        KeyService(log, parts.keyring, parts.host_keys, config.proofs, feed_parts, part.hosts),
        CredentialService(log, parts.authenticator),
        ApprovalService(log, parts.require_grants),
        ClusterService(log, part, clock),
        CutOffService(log, subsystems.local.brake_by),
        EventService(log, subsystems.events, clock),
        EvidenceService(log, registry, receipts),
        FeedService(part.feed, clock, evidence=part.hosts, refusal=part.refusal),
        ForwardService(checks.methods()),
        UsageService(log, subsystems.usage, clock, cluster_usage, usage=config.usage.enabled),
        status,
    )
