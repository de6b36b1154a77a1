"""The roles that may call each RPC, and its pool: one line per RPC.

A method that is served but not listed here stops the server at startup. The services check ownership of
sessions: an issuer reaches only its own, and another's looks like none at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from ...errors import ConfigError
from . import pool as pools

OPERATOR: Final = "operator"
ISSUER: Final = "issuer"
GATEWAY: Final = "gateway"
AUDITOR: Final = "auditor"
# Reads and answers approvals; its keys decide which it may grant.
APPROVER: Final = "approver"
# Carries statements of identity providers, which the server verifies.
SECURITY_EVENTS: Final = "security-events"
# A host that follows a cluster's log: it gets all of it, and nothing else.
FOLLOWER: Final = "follower"
# A check worker of this server: forwards calls that need the writer. No credential file can give it.
WORKER: Final = "worker"
# In the metadata of a forwarded call: the name of the worker's caller, whose share of the pool is used.
ORIGINAL_CALLER: Final = "sessauth-asked-by-bin"
# In the metadata of a call that another host of the cluster forwards: its statement of the caller.
STATEMENT: Final = "sessauth-statement-bin"
# Needs no credential.
ANYONE: Final = "anyone"


@dataclass(frozen=True, slots=True)
class Rule:
    """The roles that may call an RPC, its pool, and whether it changes anything."""

    pool: str
    roles: frozenset[str]
    changes: bool = False
    streams: bool = False


def _rule(pool: str, *roles: str, changes: bool = False, streams: bool = False) -> Rule:
    return Rule(pool, frozenset(roles), changes, streams)


_S = "/sessauth.v1.SessionService/"
_T = "/sessauth.v1.TokenService/"
_A = "/sessauth.v1.AuthorizationService/"
_K = "/sessauth.v1.KeyService/"
_P = "/sessauth.v1.ApprovalService/"
_E = "/sessauth.v1.EventService/"
_R = "/sessauth.v1.EvidenceService/"
_F = "/sessauth.v1.ForwardService/"
_U = "/sessauth.v1.UsageService/"
_C = "/sessauth.v1.FeedService/"
_L = "/sessauth.v1.ClusterService/"
_Y = "/sessauth.v1.CredentialService/"
_O = "/sessauth.v1.StatusService/"
_D = "/sessauth.v1.CutOffService/"
_I = "/sessauth.v1.IdentityService/"
_H = "/grpc.health.v1.Health/"

RULES: Final[Mapping[str, Rule]] = {
    _S + "OpenSession": _rule(pools.CHANGE, OPERATOR, ISSUER, changes=True),
    # An approver reads the session that a call is in.
    _S + "GetSession": _rule(pools.READ, OPERATOR, ISSUER, GATEWAY, AUDITOR, APPROVER),
    _S + "ListSessions": _rule(pools.READ, OPERATOR, ISSUER, GATEWAY, AUDITOR),
    _S + "KeepAlive": _rule(pools.CHANGE, OPERATOR, ISSUER),
    _S + "NarrowSession": _rule(pools.CHANGE, OPERATOR, ISSUER, changes=True),
    _S + "UpdateFacts": _rule(pools.CHANGE, OPERATOR, ISSUER, changes=True),
    _S + "SuspendSession": _rule(pools.RESERVED, OPERATOR, ISSUER, changes=True),
    _S + "ResumeSession": _rule(pools.CHANGE, OPERATOR, ISSUER, changes=True),
    _S + "EndSession": _rule(pools.RESERVED, OPERATOR, ISSUER, changes=True),
    _T + "Mint": _rule(pools.CHANGE, OPERATOR, ISSUER, changes=True),
    _T + "Attenuate": _rule(pools.READ, OPERATOR, ISSUER),
    _T + "Inspect": _rule(pools.READ, OPERATOR, ISSUER, GATEWAY, AUDITOR),
    _T + "Revoke": _rule(pools.RESERVED, OPERATOR, ISSUER, changes=True),
    _T + "Exchange": _rule(pools.CHECK, OPERATOR, GATEWAY),
    _T + "GetTransactionKeys": _rule(pools.READ, OPERATOR, ISSUER, GATEWAY, AUDITOR),
    _A + "Check": _rule(pools.CHECK, OPERATOR, GATEWAY),
    _A + "CheckBatch": _rule(pools.CHECK, OPERATOR, GATEWAY),
    _A + "CheckStream": _rule(pools.STREAM, OPERATOR, GATEWAY, streams=True),
    _A + "Commit": _rule(pools.CHANGE, OPERATOR, GATEWAY, changes=True),
    _A + "Release": _rule(pools.CHANGE, OPERATOR, GATEWAY, changes=True),
    _A + "ListAllowed": _rule(pools.READ, OPERATOR, GATEWAY),
    _P + "ListApprovals": _rule(pools.READ, OPERATOR, APPROVER, GATEWAY, AUDITOR),
    _P + "GetApproval": _rule(pools.READ, OPERATOR, APPROVER, GATEWAY, AUDITOR),
    _P + "GrantApproval": _rule(pools.CHANGE, OPERATOR, APPROVER, changes=True),
    _P + "DenyApproval": _rule(pools.CHANGE, OPERATOR, APPROVER, changes=True),
    # An issuer gets events of its own sessions.
    _E + "WatchSessions": _rule(pools.EVENT, OPERATOR, ISSUER, GATEWAY, AUDITOR, streams=True),
    _R + "RegisterVerifier": _rule(pools.EVIDENCE, OPERATOR, GATEWAY, WORKER),
    _R + "GetReceipt": _rule(pools.READ, OPERATOR, ISSUER, AUDITOR),
    _R + "ListVerifiers": _rule(pools.READ, OPERATOR, AUDITOR),
    _F + "Forward": _rule(pools.CHANGE, WORKER, changes=True),
    _U + "ReportObservations": _rule(pools.READ, WORKER, GATEWAY),
    _U + "GetReport": _rule(pools.READ, OPERATOR, ISSUER, AUDITOR),
    _U + "GetCensus": _rule(pools.READ, OPERATOR, AUDITOR),
    _U + "ListActivity": _rule(pools.READ, OPERATOR, ISSUER, AUDITOR),
    _U + "ReportHostUsage": _rule(pools.READ, FOLLOWER),
    _C + "Follow": _rule(pools.FEED, FOLLOWER, streams=True),
    _C + "Barrier": _rule(pools.BARRIER, FOLLOWER),
    _C + "Snapshot": _rule(pools.FEED, FOLLOWER, streams=True),
    _C + "RegisterHost": _rule(pools.BARRIER, FOLLOWER),
    _C + "RemoveHost": _rule(pools.CHANGE, OPERATOR, changes=True),
    _L + "GetStanding": _rule(pools.READ, OPERATOR, AUDITOR),
    _K + "ListVerifierKeys": _rule(pools.OPEN, ANYONE),
    _K + "SignVerifierKey": _rule(pools.READ, FOLLOWER),
    _K + "ListKeys": _rule(pools.READ, OPERATOR, ISSUER, GATEWAY, AUDITOR),
    _K + "GetJwks": _rule(pools.READ, OPERATOR, ISSUER, GATEWAY, AUDITOR),
    _K + "AddKey": _rule(pools.CHANGE, OPERATOR, changes=True),
    _K + "ActivateKey": _rule(pools.CHANGE, OPERATOR, changes=True),
    _K + "RetireKey": _rule(pools.CHANGE, OPERATOR, changes=True),
    # Distrust takes authority away from every token of a key, so it has the reserved pool too.
    _K + "DistrustKey": _rule(pools.RESERVED, OPERATOR, changes=True),
    _K + "AdmitServer": _rule(pools.CHANGE, OPERATOR, changes=True),
    _Y + "ListCredentials": _rule(pools.READ, OPERATOR),
    _Y + "AddCredential": _rule(pools.CHANGE, OPERATOR, changes=True),
    # It takes authority away, as a distrusted key does.
    _Y + "RemoveCredential": _rule(pools.RESERVED, OPERATOR, changes=True),
    _O + "GetStatus": _rule(pools.READ, OPERATOR, AUDITOR),
    # They take authority away, from many sessions or from all.
    _D + "EndSessions": _rule(pools.RESERVED, OPERATOR, ISSUER, changes=True),
    _D + "Freeze": _rule(pools.RESERVED, OPERATOR, changes=True),
    _D + "Thaw": _rule(pools.CHANGE, OPERATOR, changes=True),
    _D + "LiftBan": _rule(pools.CHANGE, OPERATOR, changes=True),
    _D + "ListBans": _rule(pools.READ, OPERATOR, AUDITOR),
    _D + "GetFreeze": _rule(pools.READ, OPERATOR, AUDITOR),
    _I + "ReportSignal": _rule(pools.RESERVED, OPERATOR, SECURITY_EVENTS, changes=True),
    _I + "AskStream": _rule(pools.READ, OPERATOR, SECURITY_EVENTS),
    _I + "GetIdentityStatus": _rule(pools.READ, OPERATOR, AUDITOR),
    _I + "CutLogins": _rule(pools.RESERVED, OPERATOR, changes=True),
    _H + "Check": _rule(pools.HEALTH, ANYONE),
    _H + "List": _rule(pools.READ, OPERATOR, ISSUER, GATEWAY, AUDITOR),
    _H + "Watch": _rule(pools.STREAM, OPERATOR, ISSUER, GATEWAY, AUDITOR, streams=True),
}


def pool_of(rule: Rule, role: str) -> str:
    """Return the name of the pool for a call by ``role``, empty for a stranger."""
    if role == OPERATOR and rule.pool == pools.RESERVED:
        return pools.OPERATOR
    # Forwarded changes share the pools of the workers' callers.
    if role == WORKER and not rule.changes:
        return pools.WORKER
    return rule.pool


def require_rules(methods: Iterable[str]) -> None:
    """Refuse to serve a method that has no rule. Raises :class:`ConfigError` that names it."""
    missing = sorted(set(methods) - set(RULES))
    if missing:
        raise ConfigError(f"{missing[0]}: has no rule in server/rpc/access.py, so nobody may call it")
