"""Identity providers, as ``[[identity_providers]]`` of ``sessauth.toml`` describes them.

A provider says whose tokens count (issuer, keys, algorithms, clients) and what a token gives: a subject,
labels, facts, and the scopes of each grant that fits. A rule is a claim and a literal, compared for equality.
There is no expression language, so a reader sees at once who gets what.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, get_type_hints
from urllib.parse import urlsplit

from ...errors import ConfigError, ScopeError
from ...model.session import LOGIN_LABELS
from ...scopes.scope import Scope
from ...state.layout import KEEP_ENDED_MS

ALGORITHMS: Final = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "Ed25519",
    "EdDSA",
)
KINDS: Final = ("oidc", "kubernetes", "ci", "spiffe")
ON_SILENCE: Final = ("log", "suspend", "end")
ON_GAP: Final = ("log", "end")
# Effects that an entry may state, by event. What is suspended needs an event that resumes it.
EVENT_EFFECTS: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(
        (
            "session-revoked",
            "sessions-revoked",
            "tokens-revoked",
            "credential-change",
            "credential-compromise",
            "account-purged",
            "account-disabled",
            "identifier-recycled",
            "assurance-level-change",
        ),
        ("end", "ignore"),
    ),
    **dict.fromkeys(("device-compliance-change", "risk-level-change"), ("end", "suspend", "ignore")),
    "token-claims-change": ("end", "narrow", "ignore"),
    "account-enabled": ("ignore",),
}
MAX_PROVIDERS: Final = 32
MAX_GRANTS: Final = 256
# A claim, or claims inside of each other: {kubernetes.io/namespace}.
PLACEHOLDER: Final = re.compile(r"\{([^{}]+)\}")
# The subject of a token that a client asked for itself.
CLIENT_SUBJECT: Final = "client:{client_id}"
# Claims that a user, or an administrator of a tenant, can change: they name nobody for ever.
MUTABLE_CLAIMS: Final = ("email", "preferred_username", "name", "nickname", "upn", "unique_name")
_PATHS: Final = ("jwks_file", "ca_file", "events_jwks_file")
_FACT: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,31}", re.ASCII)
Literal = str | int | bool


@dataclass(frozen=True, slots=True)
class Grant:
    """Scopes for the tokens whose claims have these values; without ``when`` for all of a provider."""

    ceiling: tuple[str, ...]
    when: Mapping[str, Literal] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IdentityProvider:
    """One ``[[identity_providers]]`` entry. Times are in ms.

    Of ``jwks_file`` and ``jwks_uri`` one may be stated; without both the keys are found below the issuer.
    """

    name: str
    issuer: str
    audience: str = ""
    kind: str = "oidc"
    clients: tuple[str, ...] = ()
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    jwks_uri: str = ""
    jwks_file: str = ""
    ca_file: str = ""
    insecure_http: bool = False
    subject: str = "user:{sub}"
    mutable_subject: bool = False
    shared_subjects: bool = False
    machines: bool = False
    require_auth_time: bool = True
    require_token: bool = True
    require: Mapping[str, Literal] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    facts: tuple[str, ...] = ()
    events_issuer: str = ""
    events_jwks_uri: str = ""
    events_jwks_file: str = ""
    silence_ms: int = 0
    on_silence: str = "log"
    on_gap: str = "log"
    on: Mapping[str, str] = field(default_factory=dict)
    critical_subject_members: tuple[str, ...] = ()
    max_age_ms: int = 43_200_000
    max_session_ms: int = 28_800_000
    lease_ms: int = 900_000
    proof_origin: str = ""
    grants: tuple[Grant, ...] = ()

    @classmethod
    def from_table(cls, where: str, table: object) -> IdentityProvider:
        """Read an entry. ``where`` names it in errors. Raises ConfigError, which names the key."""
        values = _values(where, cls, table)
        grants = values.get("grants", ())
        if not isinstance(grants, list | tuple) or len(grants) > MAX_GRANTS:
            raise ConfigError(f"{where}.grants: must be a list of at most {MAX_GRANTS} tables")
        read = (_values(f"{where}.grants[{number}]", Grant, each) for number, each in enumerate(grants))
        provider = cls(**{**values, "grants": tuple(Grant(**each) for each in read)})
        provider.check(where)
        return provider

    @property
    def transmitter(self) -> IdentityProvider:
        """The provider as the issuer of security events, whose name and keys may be others."""
        if not (self.events_issuer or self.events_jwks_uri or self.events_jwks_file):
            return self
        return dataclasses.replace(
            self,
            name=f"{self.name}.events",
            issuer=self.events_issuer or self.issuer,
            jwks_uri=self.events_jwks_uri,
            jwks_file=self.events_jwks_file,
        )

    @property
    def subjects(self) -> tuple[str, ...]:
        """The templates of all subjects that its tokens give."""
        return (self.subject, CLIENT_SUBJECT) if self.machines else (self.subject,)

    @property
    def needs_verification(self) -> bool:
        """True if more than a line in the log follows from silence, which then only a proof ends."""
        return self.on_silence != ON_SILENCE[0] or self.on_gap != ON_GAP[0]

    def check(self, where: str) -> None:
        """Refuse values out of range and contradictions."""
        if not _NAME.fullmatch(self.name):
            raise ConfigError(f"{where}.name: must be 1 to 32 of a-z, 0-9 and '-'")
        if self.kind not in KINDS:
            raise ConfigError(f"{where}.kind: must be one of {', '.join(KINDS)}")
        if not self.algorithms or not set(self.algorithms) <= set(ALGORITHMS):
            raise ConfigError(f"{where}.algorithms: each must be one of {', '.join(ALGORITHMS)}")
        if not self.audience and self.kind != "oidc":
            raise ConfigError(
                f"{where}.audience: is required: the audience that tokens for this service name"
            )
        if self.kind == "oidc" and not self.clients:
            raise ConfigError(f"{where}.clients: is required: the clients whose users may open sessions")
        for begin in ("", "events_"):
            if getattr(self, f"{begin}jwks_uri") and getattr(self, f"{begin}jwks_file"):
                raise ConfigError(f"{where}.{begin}jwks_uri, {begin}jwks_file: state one of them")
        if self.kind == "spiffe" and not (self.jwks_uri or self.jwks_file):
            raise ConfigError(f"{where}.jwks_file: is required: a trust domain has no discovery document")
        if self.events_issuer and not (self.events_jwks_uri or self.events_jwks_file):
            raise ConfigError(f"{where}.events_jwks_uri: is required beside events_issuer")
        for key in ("issuer", "jwks_uri", "events_issuer", "events_jwks_uri", "proof_origin"):
            self._check_address(where, key)
        origin = urlsplit(self.proof_origin)
        if self.proof_origin and self.proof_origin != f"{origin.scheme}://{origin.netloc}":
            raise ConfigError(f"{where}.proof_origin: must be https://HOST[:PORT] and no more")
        for key in ("max_age_ms", "max_session_ms"):
            if getattr(self, key) < 1000:
                raise ConfigError(f"{where}.{key}: must be at least 1000")
        # The row of an ended login refuses its tokens for as long as it stays.
        if self.max_age_ms > KEEP_ENDED_MS:
            raise ConfigError(f"{where}.max_age_ms: must be at most {KEEP_ENDED_MS}, seven days")
        if self.silence_ms and self.silence_ms < 1000:
            raise ConfigError(f"{where}.silence_ms: must be 0 or at least 1000")
        for key, known in (("on_silence", ON_SILENCE), ("on_gap", ON_GAP)):
            stated = getattr(self, key)
            if stated not in known:
                raise ConfigError(f"{where}.{key}: must be one of {', '.join(known)}")
            if stated != known[0] and not self.silence_ms:
                raise ConfigError(f"{where}.silence_ms: is required beside {key}")
        for name, effect in self.on.items():
            if name not in EVENT_EFFECTS:
                raise ConfigError(f"{where}.on.{name}: no such event; known: {', '.join(EVENT_EFFECTS)}")
            if effect not in EVENT_EFFECTS[name]:
                raise ConfigError(f"{where}.on.{name}: must be one of {', '.join(EVENT_EFFECTS[name])}")
        if self.lease_ms and self.lease_ms < 1000:
            raise ConfigError(f"{where}.lease_ms: must be 0 or at least 1000")
        self._check_templates(where)
        for number, grant in enumerate(self.grants):
            if not grant.ceiling:
                raise ConfigError(f"{where}.grants[{number}].ceiling: is required")
            for text in grant.ceiling:
                try:
                    Scope.parse(text)
                except ScopeError as error:
                    raise ConfigError(f"{where}.grants[{number}].ceiling: {error}") from None
        if not self.grants:
            raise ConfigError(f"{where}.grants: is required: without one no token opens a session")

    def _check_address(self, where: str, key: str) -> None:
        """Require https; http is for tests on this machine alone. A trust domain is its SPIFFE id."""
        text = getattr(self, key)
        if not text and key != "issuer":
            return
        try:
            address = urlsplit(text)
            host, _ = address.hostname or "", address.port
        except ValueError:
            raise ConfigError(f"{where}.{key}: is no URI") from None
        if self.kind == "spiffe" and key == "issuer":
            if address.scheme != "spiffe" or not host or address.path:
                raise ConfigError(f"{where}.issuer: must be a trust domain, spiffe://NAME")
            return
        loopback = host in ("localhost", "127.0.0.1", "::1")
        if address.scheme == "http" and self.insecure_http and loopback:
            return
        if address.scheme != "https" or not host or address.query or address.fragment or address.username:
            raise ConfigError(
                f"{where}.{key}: must be https://HOST/…; http is for loopback, with insecure_http = true"
            )

    def _check_templates(self, where: str) -> None:
        named = PLACEHOLDER.findall(self.subject)
        if not named or set(PLACEHOLDER.sub("", self.subject)) & set("{}"):
            raise ConfigError(f"{where}.subject: must name a claim in braces, as user:{{sub}}")
        mutable = [claim for claim in named if claim in MUTABLE_CLAIMS]
        if mutable and not self.mutable_subject:
            raise ConfigError(
                f"{where}.subject: {mutable[0]} can change, and then names another person; take {{sub}}, or "
                "set mutable_subject = true"
            )
        for name in self.facts:
            if not _FACT.fullmatch(name):
                raise ConfigError(f"{where}.facts: {name!r} is no name of a fact: letters, digits and _")
        for name, template in self.labels.items():
            if name in LOGIN_LABELS:
                raise ConfigError(f"{where}.labels.{name}: each login's session has this label already")
            if set(PLACEHOLDER.sub("", template)) & set("{}"):
                raise ConfigError(f"{where}.labels.{name}: a brace belongs to a claim, as {{tid}}")


def check_providers(providers: Sequence[IdentityProvider]) -> None:
    """Refuse providers of one name or issuer, and those that could give one subject. Raises ConfigError."""
    if len(providers) > MAX_PROVIDERS:
        raise ConfigError(f"identity_providers: at most {MAX_PROVIDERS}, not {len(providers)}")
    for key in ("name", "issuer"):
        stated: dict[str, int] = {}
        for number, each in enumerate(providers):
            other = stated.setdefault(getattr(each, key), number)
            if other != number:
                raise ConfigError(
                    f"identity_providers[{number}].{key}: is that of identity_providers[{other}] too"
                )
    for number, each in enumerate(providers):
        for other, earlier in enumerate(providers[:number]):
            agree = any(_may_agree(one, two) for one in each.subjects for two in earlier.subjects)
            if agree and not (each.shared_subjects and earlier.shared_subjects):
                raise ConfigError(
                    f"identity_providers[{number}].subject: could give one of identity_providers[{other}]; "
                    "begin them with different texts, or set shared_subjects = true in both"
                )


def settings_digest(providers: Sequence[IdentityProvider]) -> str:
    """Return a digest of providers' settings, to compare with another server's; ``none`` of none.

    Each server has files of its own, so their paths don't count. Nor does a value that is the default: a
    server of another version may lack the key.
    """
    if not providers:
        return "none"
    stated = [
        {
            key.name: bool(value) if key.name in _PATHS else value
            for key in dataclasses.fields(each)
            if (value := getattr(each, key.name)) != key.default
        }
        for each in sorted(providers, key=lambda each: each.name)
    ]
    text = json.dumps(stated, sort_keys=True, default=dataclasses.asdict)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def _may_agree(one: str, other: str) -> bool:
    """Return True unless two templates begin with different texts."""
    first, second = one.partition("{")[0], other.partition("{")[0]
    return first.startswith(second) or second.startswith(first)


_TYPE_NAMES: Final = {bool: "true or false", int: "a whole number", str: "a string"}


def _values(where: str, kind: type, table: object) -> dict[str, Any]:
    """Return the values of a table for a dataclass. Raises ConfigError that names the key."""
    if not isinstance(table, Mapping):
        raise ConfigError(f"{where}: must be a table, [[identity_providers]]")
    hints = get_type_hints(kind)
    values: dict[str, Any] = {}
    for key, value in table.items():
        expected = hints.get(key)
        if expected is None:
            raise ConfigError(f"{where}.{key}: no such key; known: {', '.join(hints)}")
        if key in ("when", "require", "labels", "on"):
            of = (str,) if key in ("labels", "on") else (str, int, bool)
            if not isinstance(value, Mapping) or not all(type(each) in of for each in value.values()):
                raise ConfigError(f"{where}.{key}: must be a table of claims and texts, numbers or truths")
            value = dict(value)
        elif expected in _TYPE_NAMES:
            if type(value) is not expected:
                raise ConfigError(f"{where}.{key}: must be {_TYPE_NAMES[expected]}, not {value!r}")
        elif key != "grants":
            if not isinstance(value, list | tuple) or not all(type(text) is str for text in value):
                raise ConfigError(f"{where}.{key}: must be a list of strings")
            value = tuple(value)
        values[key] = value
    for entry in dataclasses.fields(kind):
        required = entry.default is dataclasses.MISSING and entry.default_factory is dataclasses.MISSING
        if required and entry.name not in values:
            raise ConfigError(f"{where}.{entry.name}: is required")
    return values
