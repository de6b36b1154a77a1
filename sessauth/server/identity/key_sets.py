"""Public keys of identity providers: a JWK set of a file, of an address, or found below the issuer.

A set is untrusted until it was read: at most 32 keys in 256 KiB, none private, symmetric, weak, or without a
name. Keys that don't count are dropped, each with its cause, and the others stand.

:class:`KeySets` keeps the sets of a server: in memory, and in the home folder, so that a start needs no
provider. A call waits for a set no longer than :data:`WAIT_SECONDS`.
"""

from __future__ import annotations

import json
import logging
import ssl
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.error import URLError
from urllib.parse import urlsplit
from urllib.request import (
    HTTPRedirectHandler,
    HTTPSHandler,
    OpenerDirector,
    ProxyHandler,
    Request,
    build_opener,
)

from ...clock import Clock
from ...errors import StateError, UsageError
from ...scopes.call_arguments import canonical
from ...state.host.folder import make_folder, read_file, replace_file
from ..log import event, fault
from ..rpc.pool import blocking_section
from ..status import refused
from .providers import IdentityProvider

if TYPE_CHECKING:
    from joserfc.jwk import ECKey, OKPKey, RSAKey

MAX_BYTES: Final = 256 * 1024
MAX_KEYS: Final = 32
MIN_RSA_BITS: Final = 2048
FETCH_SECONDS: Final = 5.0
# A set is fetched again after the first, and at most once in the second, whatever the causes are.
REFRESH_MS: Final = 600_000
RETRY_MS: Final = 30_000
# How long a call waits for a set that is being fetched.
WAIT_SECONDS: Final = 2.0
# A set that was fetched longer ago verifies nothing.
MAX_STALE_MS: Final = 24 * 3_600_000
FOLDER: Final = "identity-keys"
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_TEXTS: Final = ("alg", "crv", "x", "y", "n", "e")
# The types and curves that an algorithm takes.
_FITTING: Final = {
    "RS": ("RSA", ()),
    "PS": ("RSA", ()),
    "ES256": ("EC", ("P-256",)),
    "ES384": ("EC", ("P-384",)),
    "ES512": ("EC", ("P-521",)),
    "Ed": ("OKP", ("Ed25519",)),
}


@dataclass(frozen=True, slots=True)
class PublicKeys:
    """The keys of a provider by their names, and why others don't count."""

    keys: Mapping[str, Mapping[str, Any]]
    dropped: tuple[str, ...] = ()

    @classmethod
    def read(cls, data: bytes) -> PublicKeys:
        """Read a JWK set. Raises StateError if it is none."""
        found = read_object(data, MAX_BYTES).get("keys")
        if not isinstance(found, list):
            raise StateError("no JWK set: it has no list of keys")
        keys: dict[str, Mapping[str, Any]] = {}
        dropped = [f"{len(found) - MAX_KEYS} more keys than {MAX_KEYS}"] if len(found) > MAX_KEYS else []
        doubled: set[str] = set()
        for number, key in enumerate(found[:MAX_KEYS]):
            fault = _fault(key)
            if fault:
                dropped.append(f"keys[{number}]: {fault}")
            elif key["kid"] in keys:
                doubled.add(key["kid"])
            else:
                keys[key["kid"]] = key
        # Of two keys of one name nobody knows which is meant.
        dropped += [f"{len(doubled)} names that several keys have"] if doubled else []
        return cls({name: key for name, key in keys.items() if name not in doubled}, tuple(dropped))

    def key(self, name: str, algorithm: str) -> RSAKey | ECKey | OKPKey | None:
        """Return the key of a name if it is one for an algorithm, else None."""
        from joserfc.errors import JoseError
        from joserfc.jwk import ECKey, OKPKey, RSAKey

        found = self.keys.get(name)
        kind, curves = _FITTING.get(algorithm) or _FITTING[algorithm[:2]]
        if found is None or found["kty"] != kind or (curves and found.get("crv") not in curves):
            return None
        # Ed25519 is the newer name of EdDSA with this curve.
        names = {algorithm, "EdDSA", "Ed25519"} if kind == "OKP" else {algorithm}
        if found.get("alg", algorithm) not in names:
            return None
        # The library knows no other use, as SPIFFE's.
        stated = {**found, "use": "sig"}
        try:
            if kind == "RSA":
                return RSAKey.import_key(stated)
            return ECKey.import_key(stated) if kind == "EC" else OKPKey.import_key(stated)
        except (JoseError, ValueError):
            return None


def _fault(key: object) -> str:
    """Return why a key of a set does not count, empty if it does."""
    if not isinstance(key, dict) or key.get("kty") not in ("RSA", "EC", "OKP"):
        return "no key of RSA, EC or OKP"
    if _PRIVATE & key.keys():
        return "a private key, which whoever published it must replace"
    if not isinstance(key.get("kid"), str) or not 1 <= len(key["kid"]) <= 256:
        return "it has no name (kid)"
    if not all(isinstance(key.get(name, ""), str) for name in _TEXTS):
        return f"one of {', '.join(_TEXTS)} is no text"
    uses = key.get("key_ops", ["verify"])
    # SPIFFE's bundles say what a key signs (SPIFFE JWT-SVID, section 4).
    if key.get("use", "sig") not in ("sig", "jwt-svid") or not isinstance(uses, list) or "verify" not in uses:
        return "it is not for signatures"
    # Four characters are three bytes; leading zeros would hide a small modulus.
    if key["kty"] == "RSA" and len(str(key.get("n", "")).lstrip("A")) * 6 < MIN_RSA_BITS - 6:
        return f"an RSA key below {MIN_RSA_BITS} bits"
    return ""


def read_object(data: bytes, most: int) -> dict[str, Any]:
    """Return a JSON object; strict: no name twice, no NaN, nothing beside it. Raises StateError."""
    if len(data) > most:
        raise StateError(f"more than {most} bytes")
    try:
        value: dict[str, Any] = json.loads(canonical(data) or b"{}")
    except UsageError:
        raise StateError("no JSON object, or one with a name twice") from None
    return value


def fetch_keys(provider: IdentityProvider, home: Path) -> PublicKeys:
    """Return a provider's keys, read from its file or fetched now. Raises StateError."""
    if provider.jwks_file:
        file = home / provider.jwks_file
        try:
            return PublicKeys.read(file.read_bytes())
        except (OSError, StateError) as error:
            raise StateError(
                f"identity_providers, {provider.name}: jwks_file: {file}: {cause_of(error)}"
            ) from None
    address = provider.jwks_uri
    try:
        if not address:
            found = read_object(_fetch(provider, discovery_address(provider.issuer), home), MAX_BYTES)
            # The document is believed for the issuer that it was asked about, and for no other.
            if found.get("issuer") != provider.issuer:
                raise StateError("its discovery document names another issuer")
            stated = found.get("jwks_uri")
            if not isinstance(stated, str) or urlsplit(stated).scheme != urlsplit(provider.issuer).scheme:
                raise StateError("its discovery document has no jwks_uri of https")
            address = stated
        return PublicKeys.read(_fetch(provider, address, home))
    except (OSError, StateError, ValueError) as error:
        raise StateError(
            f"identity_providers, {provider.name}: its keys can't be had: {cause_of(error)}"
        ) from None


def discovery_address(issuer: str) -> str:
    """Return the address of an issuer's discovery document (OpenID Connect Discovery 1.0, section 4)."""
    return f"{issuer.removesuffix('/')}/.well-known/openid-configuration"


class _SameHost(HTTPRedirectHandler):
    """Follows no redirect to another host or scheme."""

    def redirect_request(
        self, req: Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> Request | None:
        """Return the next request. Raises URLError for another host."""
        before, after = urlsplit(req.full_url), urlsplit(newurl)
        if (before.scheme, before.netloc) != (after.scheme, after.netloc):
            raise URLError("it redirects to another host")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _fetch(provider: IdentityProvider, address: str, home: Path) -> bytes:
    request = Request(address, headers={"Accept": "application/json"})
    ca_file = str(home / provider.ca_file) if provider.ca_file else ""
    with same_host_opener(ca_file).open(request, timeout=FETCH_SECONDS) as answer:
        data: bytes = answer.read(MAX_BYTES + 1)
    return data


def same_host_opener(ca_file: str = "") -> OpenerDirector:
    """Return an opener that follows no redirect to another host, and takes no proxy of the environment.

    A setting that nobody sees must not choose the source of keys. ``ca_file`` has the authorities; empty:
    those of the system.
    """
    tls = ssl.create_default_context(cafile=ca_file or None)
    return build_opener(ProxyHandler({}), HTTPSHandler(context=tls), _SameHost())


def cause_of(error: Exception) -> str:
    """Return the cause of a failure to read or fetch, as a text for people."""
    if isinstance(error, URLError):
        return str(error.reason)
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error)


@dataclass(slots=True, eq=False)
class _KnownSet:
    """The set of a provider, when it was fetched by the wall clock, and the state of fetching, in ms."""

    keys: PublicKeys | None = None
    fetched_at_ms: int = 0
    # By the steady clock; None: not yet by this process. A fetch for a key that the set lacks has a time of
    # its own: the set may have been fetched just before its provider rotated.
    attempt_ms: int | None = None
    unknown_key_ms: int | None = None
    # Set while no fetch is under way.
    idle: threading.Event = field(default_factory=threading.Event)


class KeySets:
    """The key sets of a server's providers. Any thread may use it; a fetch has a thread of its own."""

    def __init__(
        self,
        home: Path,
        clock: Clock,
        fetch: Callable[[IdentityProvider, Path], PublicKeys] = fetch_keys,
    ) -> None:
        """Begin with the sets that are stored below ``home``; each is read when it is first needed."""
        self._home = home
        self._clock = clock
        self._fetch = fetch
        self._lock = threading.Lock()
        self._known: dict[str, _KnownSet] = {}

    def keys(self, provider: IdentityProvider, kid: str) -> PublicKeys:
        """Return a provider's keys, fetched again if they are old or lack the key ``kid``.

        Raises ServerError IDENTITY_KEYS_UNAVAILABLE if there are none, or none that are young enough.
        """
        known = self._due(provider, kid)
        if not known.idle.is_set():
            with blocking_section():
                known.idle.wait(WAIT_SECONDS)
        keys, fetched_at_ms = known.keys, known.fetched_at_ms
        # A time that is yet to come is of a clock that was wrong.
        if keys is None or not 0 <= self._clock.now_ms() - fetched_at_ms < MAX_STALE_MS:
            raise refused(
                "IDENTITY_KEYS_UNAVAILABLE",
                f"the keys of the identity provider {provider.name} can't be had; the server's log says why",
            )
        return keys

    def age_ms(self, name: str) -> int | None:
        """Return the time since a provider's keys were had; None if this process has needed none."""
        with self._lock:
            known = self._known.get(name)
        return None if known is None or known.keys is None else self._clock.now_ms() - known.fetched_at_ms

    def _due(self, provider: IdentityProvider, kid: str) -> _KnownSet:
        """Return what is known of a provider's set; begins to fetch it where that is due."""
        with self._lock:
            known = self._known.get(provider.name)
            if known is None:
                known = self._known[provider.name] = self._stored(provider)
                known.idle.set()
            steady_ms = self._clock.steady_ms()
            age_ms = self._clock.now_ms() - known.fetched_at_ms
            old = known.keys is None or not 0 <= age_ms < REFRESH_MS
            unknown = known.keys is not None and kid not in known.keys.keys
            tried_ms = known.attempt_ms if old else known.unknown_key_ms
            tried_lately = tried_ms is not None and steady_ms - tried_ms < RETRY_MS
            if (old or unknown) and not tried_lately and known.idle.is_set():
                known.attempt_ms = steady_ms
                if not old:
                    known.unknown_key_ms = steady_ms
                known.idle.clear()
                threading.Thread(
                    target=self._refresh,
                    args=(provider, known),
                    name=f"sessauth-keys-{provider.name}",
                    daemon=True,
                ).start()
            return known

    def _refresh(self, provider: IdentityProvider, known: _KnownSet) -> None:
        try:
            keys = self._fetch(provider, self._home)
            for cause in keys.dropped:
                event(logging.WARNING, "identity_key_dropped", provider=provider.name, why=cause)
            known.keys, known.fetched_at_ms = keys, self._clock.now_ms()
            if not provider.jwks_file:
                self._store(provider, keys, known.fetched_at_ms)
        except (StateError, OSError) as error:
            event(logging.WARNING, "identity_keys", provider=provider.name, error=str(error))
        except Exception as error:  # noqa: BLE001 - the waiting calls go on
            fault("identity keys", error)
        finally:
            known.idle.set()

    def _path(self, provider: IdentityProvider) -> Path:
        return self._home / FOLDER / f"{provider.name}.json"

    def _store(self, provider: IdentityProvider, keys: PublicKeys, fetched_at_ms: int) -> None:
        """Store a set for the next start. Raises OSError."""
        document = {**_source(provider), "fetched_at_ms": fetched_at_ms, "keys": list(keys.keys.values())}
        path = self._path(provider)
        make_folder(path.parent, 0o700)
        replace_file(path, json.dumps(document).encode(), 0o600)

    def _stored(self, provider: IdentityProvider) -> _KnownSet:
        """Return the set that was stored by an earlier process for a provider that has the same addresses."""
        try:
            data = read_file(self._path(provider), MAX_BYTES + 1)
            document = read_object(data, MAX_BYTES)
            fetched_at_ms = document.get("fetched_at_ms")
            if type(fetched_at_ms) is int and _source(provider).items() <= document.items():
                return _KnownSet(PublicKeys.read(data), fetched_at_ms)
        except FileNotFoundError:
            pass
        except (OSError, StateError) as error:
            event(logging.WARNING, "identity_keys", provider=provider.name, error=str(error))
        return _KnownSet()


def _source(provider: IdentityProvider) -> dict[str, str]:
    return {"issuer": provider.issuer, "jwks_uri": provider.jwks_uri}
