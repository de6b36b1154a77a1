"""Keys and tokens of identity providers, made as providers make them."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import warnings
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from joserfc.jwk import ECKey, OKPKey, RSAKey

from sessauth.server.identity.key_sets import PublicKeys
from sessauth.server.identity.providers import IdentityProvider

NOW_MS = 1_790_000_000_000
NOW = NOW_MS // 1000
ISSUER = "https://idp.example/realms/one"
SERVICE = "https://sessauth.example"
GRANTS = ({"when": {"groups": "support"}, "ceiling": ["read:tickets/**", "write:tickets/*/notes"]},)


@cache
def private_key(algorithm: str) -> Any:
    """Return the private key that signs by an algorithm."""
    if algorithm.startswith(("RS", "PS")):
        return rsa.generate_private_key(65537, 2048)
    if algorithm == "weak":
        return rsa.generate_private_key(65537, 1024)
    curves = {"ES256": ec.SECP256R1(), "ES384": ec.SECP384R1(), "ES512": ec.SECP521R1()}
    return (
        ed25519.Ed25519PrivateKey.generate()
        if algorithm not in curves
        else ec.generate_private_key(curves[algorithm])
    )


def public_jwk(algorithm: str, **changed: Any) -> dict[str, Any]:
    """Return a public key of a set; its name is that of the algorithm."""
    kind = OKPKey if algorithm.startswith("Ed") else ECKey if algorithm.startswith("ES") else RSAKey
    with warnings.catch_warnings():
        # The weak one is meant to be weak.
        warnings.simplefilter("ignore")
        found = kind.import_key(private_key(algorithm).public_key()).as_dict(private=False)
    return {**found, "kid": algorithm, "use": "sig", **changed}


def key_set(*keys: Mapping[str, Any]) -> PublicKeys:
    """Return the set of some keys; without any those of RS256, ES256 and EdDSA."""
    listed = keys or tuple(map(public_jwk, ("RS256", "ES256", "EdDSA")))
    return PublicKeys.read(json.dumps({"keys": listed}).encode())


def provider(**changed: Any) -> IdentityProvider:
    """Return a provider of users, whose ID and access tokens count."""
    stated: dict[str, Any] = {
        "name": "corp",
        "issuer": ISSUER,
        "audience": SERVICE,
        "clients": ["desk", "cli"],
        "algorithms": ["RS256", "ES256", "EdDSA"],
        "grants": GRANTS,
    }
    return IdentityProvider.from_table("identity_providers[0]", {**stated, **changed})


def claims(**changed: Any) -> dict[str, Any]:
    """Return the claims of an ID token of a login five minutes ago; None leaves one out."""
    stated = {
        "iss": ISSUER,
        "sub": "ann",
        "aud": "desk",
        "iat": NOW - 60,
        "exp": NOW + 240,
        "auth_time": NOW - 300,
        "nonce": "n",
        "sid": "s1",
        "groups": ["staff", "support"],
        **changed,
    }
    return {name: value for name, value in stated.items() if value is not None}


def access_claims(**changed: Any) -> dict[str, Any]:
    """Return the claims of an access token of the same login."""
    return claims(**{"aud": [SERVICE, "other"], "client_id": "desk", "nonce": None, "sid": None, **changed})


def thumbprint(jwk: Mapping[str, Any]) -> str:
    """Return the thumbprint of a public key (RFC 7638)."""
    members = {name: jwk[name] for name in ("crv", "e", "kty", "n", "x", "y") if name in jwk}
    text = json.dumps(members, separators=(",", ":"), sort_keys=True)
    return part(hashlib.sha256(text.encode()).digest())


def bound_to(algorithm: str) -> dict[str, str]:
    """Return the ``cnf`` of a token that is bound to the key of an algorithm."""
    return {"jkt": thumbprint(public_jwk(algorithm))}


def key_proof(
    token: str,
    rpc: str = "OpenSession",
    algorithm: str = "ES256",
    *,
    headers: Mapping[str, Any] | None = None,
    secret: str = "",
    **changed: Any,
) -> str:
    """Return a proof (RFC 9449) for a token and an RPC of the service; None leaves a claim out."""
    stated = {
        "jti": secrets.token_urlsafe(12),
        "htm": "POST",
        "htu": f"{SERVICE}/sessauth.v1.SessionService/{rpc}",
        "iat": NOW,
        "ath": part(hashlib.sha256(token.encode()).digest()),
        **changed,
    }
    payload = {name: value for name, value in stated.items() if value is not None}
    jwk = {name: value for name, value in public_jwk(algorithm).items() if name not in ("kid", "use")}
    header = {"kid": None, "typ": "dpop+jwt", "jwk": jwk, **(headers or {})}
    return signed(payload, header.pop("alg", algorithm), secret, **header)


def part(value: object) -> str:
    """Return a part of a token: of an object its JSON, of bytes these."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(
    payload: Mapping[str, Any] | bytes, algorithm: str = "RS256", secret: str = "", **header: Any
) -> str:
    """Return a token with a signature that stands; None leaves a header out. HS256 has a secret."""
    headers = {"kid": algorithm, "typ": "JWT", "alg": algorithm, **header}
    headers = {name: value for name, value in headers.items() if value is not None}
    head = f"{part(headers)}.{part(payload if isinstance(payload, bytes) else dict(payload))}"
    if secret:
        return f"{head}.{part(hmac.digest(secret.encode(), head.encode(), 'sha256'))}"
    return f"{head}.{part(_signature(private_key(algorithm), algorithm, head.encode()))}"


def _signature(key: Any, algorithm: str, data: bytes) -> bytes:
    """Return the signature of RFC 7518 section 3, or of RFC 8037, by OpenSSL."""
    if algorithm.startswith("Ed"):
        return bytes(key.sign(data))
    digest = {"256": hashes.SHA256, "384": hashes.SHA384, "512": hashes.SHA512}[algorithm[-3:]]()
    if algorithm.startswith("ES"):
        size = (key.key_size + 7) // 8
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(digest)))
        return r.to_bytes(size, "big") + s.to_bytes(size, "big")
    pss = padding.PSS(padding.MGF1(digest), digest.digest_size)
    return bytes(key.sign(data, pss if algorithm.startswith("PS") else padding.PKCS1v15(), digest))
