"""Proofs by the holder of a token's key (DPoP, RFC 9449), for tokens whose ``cnf`` has a ``jkt``.

A proof is a JWT that the holder signs for one call: by the key whose thumbprint the token names, for the
address of the RPC and for this token. It counts once, within 30 s of its time.

The address is :attr:`IdentityProvider.proof_origin` and the RPC's path. What a call says of its own address
(``:authority``) is not asked: a socket has none, and the leader of a cluster sees that of the server which
handed the call on.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urljoin, urlsplit

from ..._fast._check import ReplayTable, TableError
from ..._fast.codec import base64url
from ...errors import IdentityRefused, StateError
from ...limits import PROOF_WINDOW_MS
from ...reasons import Reason
from ...state.host.proof_keys import replay_path
from .key_sets import PublicKeys
from .providers import IdentityProvider
from .tokens import REFUSED_HEADERS, IdentityFault, KeyProof, malformed, read_parts, text_claim, time_claim

MAX_PROOF_BYTES: Final = 8 * 1024
_MEMORY: Final = b"key-proof"
_KEY: Final = "proof"
_FIELD: Final = "identity_proof"
_MAX_ADDRESS_CHARS: Final = 2_048
_ESCAPED: Final = re.compile("%([0-9A-Fa-f]{2})")
_PORTS: Final = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Possession:
    """The keys that a caller shows to hold, beside a token.

    ``certificate`` is the SHA-256 of its client certificate in base64url, ``proof`` a proof for a call of the
    RPC ``path``; each is empty without one.
    """

    certificate: str = ""
    proof: str = field(default="", repr=False)
    path: str = ""

    def require(
        self, claims: Mapping[str, Any], token: bytes, provider: IdentityProvider, now_ms: int
    ) -> KeyProof | None:
        """Return the proof that a token's ``cnf`` asks for; None if it asks for none.

        Each member of ``cnf`` has to be shown: the thumbprint of the connection's certificate (RFC 8705,
        section 3.1), and that of a key, by a proof. Raises IdentityRefused for one that is not, for a member
        that is not known, and for a proof that nothing asks for: its caller believes that the token is
        useless to a thief.
        """
        bound = claims.get("cnf")
        if "cnf" not in claims:
            bound = {}
        elif not isinstance(bound, dict) or not bound or not bound.keys() <= {"x5t#S256", "jkt"}:
            raise _refused("cnf: the token is bound in a way that is not known here")
        if "x5t#S256" in bound and (not self.certificate or bound["x5t#S256"] != self.certificate):
            raise _refused("cnf: the token is bound to a certificate that this call does not show")
        if "jkt" not in bound:
            if self.proof:
                raise _refused(f"{_FIELD}: the token is bound to no key (cnf.jkt), so anybody can use it")
            return None
        if not self.proof:
            raise _refused(f"{_FIELD}: is required: the token is bound to a key (cnf.jkt)")
        if not provider.proof_origin:
            raise _refused(f"{_FIELD}: the provider {provider.name} has no proof_origin to make proofs for")
        try:
            return _read(self.proof, token, bound["jkt"], provider, provider.proof_origin + self.path, now_ms)
        except IdentityRefused as refusal:
            # One word for all that is wrong with it.
            raise _refused(f"{_FIELD}: {str(refusal).partition(': ')[2]}") from None


NOTHING_SHOWN: Final = Possession()


def _refused(detail: str, fault: IdentityFault = IdentityFault.PROOF_REQUIRED) -> IdentityRefused:
    return IdentityRefused(fault, detail)


def _read(
    text: str, token: bytes, thumbprint: object, provider: IdentityProvider, address: str, now_ms: int
) -> KeyProof:
    header, claims, signature, signed = read_parts(text.encode(), MAX_PROOF_BYTES)
    for name in REFUSED_HEADERS:
        if name in header and name != "jwk":
            raise malformed(f"header: {name} is not taken")
    typ = header.get("typ")
    if not isinstance(typ, str) or typ.lower().removeprefix("application/") != "dpop+jwt":
        raise malformed("typ: must be dpop+jwt")
    algorithm = header.get("alg")
    if algorithm not in provider.algorithms:
        raise malformed(f"alg: is none of those of the provider {provider.name} (algorithms)")
    keys = _key_of(header.get("jwk"))
    key = keys.key(_KEY, algorithm)
    if key is None:
        raise malformed("jwk: is no key for alg")
    if key.thumbprint() != thumbprint:
        raise malformed("jwk: is another key than the token's (cnf.jkt)")
    from joserfc.jws import JWSRegistry

    if not JWSRegistry.algorithms[algorithm].verify(signed, signature, key):
        raise malformed("the signature is wrong")
    if claims.get("htm") != "POST":
        raise malformed("htm: must be POST")
    stated = _normal(claims.get("htu"))
    if stated is None or stated != _normal(address):
        raise malformed(f"htu: must be {address}")
    if claims.get("ath") != base64url.encode(hashlib.sha256(token).digest()):
        raise malformed("ath: must be the SHA-256 of the token")
    issued_ms = time_claim(claims, "iat")
    if abs(now_ms - issued_ms) > PROOF_WINDOW_MS:
        raise malformed(f"iat: must be within {PROOF_WINDOW_MS // 1000} s; make a new proof for each call")
    return KeyProof(bytes(base64url.decode(str(thumbprint))), text_claim(claims, "jti"), issued_ms)


def _key_of(jwk: object) -> PublicKeys:
    """Return the key of a header as a set, by the rules for the keys of providers."""
    if not isinstance(jwk, dict):
        raise malformed("jwk: is required, a public key")
    try:
        found = PublicKeys.read(json.dumps({"keys": [{**jwk, "kid": _KEY}]}).encode())
    except StateError as error:
        raise malformed(f"jwk: {error}") from None
    for cause in found.dropped:
        raise malformed(f"jwk: {cause.partition(': ')[2]}")
    return found


def _normal(address: object) -> tuple[str, str, int, str] | None:
    """Return scheme, host, port and path of an address (RFC 3986, sections 6.2.2 and 6.2.3); None if wrong.

    Query and fragment are left out.
    """
    if not isinstance(address, str) or len(address) > _MAX_ADDRESS_CHARS or not address.isascii():
        return None
    if not address.isprintable() or " " in address:
        return None
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not parts.hostname or "@" in parts.netloc:
        return None
    if parts.path.startswith("//"):
        # It would be read as a host.
        return None
    path = urlsplit(urljoin(address, _ESCAPED.sub(_unescaped, parts.path) or "/")).path
    return parts.scheme, parts.hostname, _PORTS[parts.scheme] if port is None else port, path


def _unescaped(match: re.Match[str]) -> str:
    """Return the character of an escape that needs none, else the escape in upper case."""
    character = chr(int(match[1], 16))
    needs_none = character.isascii() and (character.isalnum() or character in "-._~")
    return character if needs_none else match[0].upper()


class UsedProofs:
    """The proofs that were used on this host, in its replay table: that of bound calls (``[proofs]``)."""

    def __init__(self, state_dir: Path) -> None:
        """Use the table of ``state_dir``, which is opened when it is first needed."""
        self._path = replay_path(state_dir)
        self._table: ReplayTable | None = None

    def use(self, proof: KeyProof, now_ms: int) -> None:
        """Use up a proof. Raises IdentityRefused REPLAYED for one that was used, and PROOF_REQUIRED.

        The second is for a proof that is older than the table, or that the table has no room for.
        """
        signer = hashlib.blake2b(proof.thumbprint, digest_size=64, person=_MEMORY).digest()
        once = hashlib.blake2b(proof.id.encode(), digest_size=16).digest()
        try:
            if self._table is None or not self._table.intact:
                self._table = ReplayTable.open(self._path)
        except TableError:
            raise _refused(f"{_FIELD}: the table of used proofs can't be opened") from None
        outcome = self._table.insert(signer, once, proof.thumbprint, proof.issued_at_ms, now_ms)
        if outcome == Reason.REPLAYED:
            raise _refused(f"{_FIELD}: was used before; make a new one for each call", IdentityFault.REPLAYED)
        if outcome == Reason.STALE_PROOF:
            raise _refused(f"{_FIELD}: iat: lies before the memory of used proofs; make a new one")
        if outcome != Reason.ALLOWED:
            raise _refused(f"{_FIELD}: no room for used proofs (proofs.replay_slots); try again in a minute")
