"""Keys and tokens of identity providers, made as providers make them."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from collections.abc import Mapping
from functools import cache
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

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
    public = private_key(algorithm).public_key()
    if algorithm.startswith(("RS", "PS", "weak")):
        found = RSAAlgorithm.to_jwk(public, as_dict=True)
    elif algorithm.startswith("ES"):
        found = ECAlgorithm(ECAlgorithm.SHA256).to_jwk(public, as_dict=True)
    else:
        found = OKPAlgorithm.to_jwk(public, as_dict=True)
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


def part(value: object) -> str:
    """Return a part of a token: of an object its JSON, of bytes these."""
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(payload: Mapping[str, Any] | bytes, algorithm: str = "RS256", **header: Any) -> str:
    """Return a token with a signature that stands; None leaves a header out."""
    headers = {"kid": algorithm, "typ": "JWT", "alg": algorithm, **header}
    headers = {name: value for name, value in headers.items() if value is not None}
    head = f"{part(headers)}.{part(payload if isinstance(payload, bytes) else dict(payload))}"
    signer = jwt.get_algorithm_by_name("EdDSA" if algorithm == "Ed25519" else algorithm)
    return f"{head}.{part(signer.sign(head.encode(), private_key(algorithm)))}"
