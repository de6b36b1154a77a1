"""JSON Web Tokens: signed claims, by PyJWT over the package cryptography.

The permissions are a claim, a list of eight objects, the last with its conditions. ``decode`` is given a
prepared key and verifies signature, audience, issuer and expiry; which permission fits is for ten lines of
plain Python to say, since the library knows no permissions. It stands here twice: with EdDSA, and with
HS256 as most deployments use it.

Not equal: a JWT can't be attenuated, and whoever wants conditions writes them. With HS256 every verifier
can mint, and no public-key signature is verified, so reading a text every time is listed against our cold
check and not judged by it. Keeping the claims leaves nothing of the library: that row times an expiry check
and our ten lines, the least that Python can do, and is not judged either. Kept, the peer gets its arguments
parsed, and we parse JSON; it looks no session, revocation or issuer status up.
"""

from __future__ import annotations

import importlib
import json
import secrets
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from typing import Any, Final

from benchmarks.peers import work
from benchmarks.peers.work import Form

MODULE: Final = "jwt"
PACKAGE: Final = "PyJWT"
AUDIENCE: Final = "gateway-1"
ISSUER: Final = "issuer-1"


def permits(claims: dict[str, Any], arguments: dict[str, Any]) -> bool:
    """Say whether one of the permissions fits the call: its names are equal and its conditions hold."""
    for permission in claims["permissions"]:
        if permission["action"] == work.ACTION and permission["resource"] == work.RESOURCE:
            for name, operator, value in permission.get("where", ()):
                given = arguments.get(name)
                if not (
                    given == value
                    if operator == "=="
                    else given in value
                    if operator == "in"
                    else operator == "<=" and isinstance(given, int) and given <= value
                ):
                    break
            else:
                return True
    return False


def eddsa() -> Iterator[Form]:
    """Yield the forms with EdDSA; raises ImportError where the peer is not installed."""
    jwt: Any = importlib.import_module(MODULE)
    ed25519: Any = importlib.import_module("cryptography.hazmat.primitives.asymmetric.ed25519")
    secret, other = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()
    public = {"kty": "OKP", "crv": "Ed25519", "x": _base64(secret.public_key().public_bytes_raw())}
    yield from _forms(jwt, "EdDSA", jwt.PyJWK(public, algorithm="EdDSA"), secret, other, signatures=1)


def hs256() -> Iterator[Form]:
    """Yield the forms with HS256; raises ImportError where the peer is not installed."""
    jwt: Any = importlib.import_module(MODULE)
    secret, other = secrets.token_bytes(32), secrets.token_bytes(32)
    key = jwt.PyJWK({"kty": "oct", "k": _base64(secret)}, algorithm="HS256")
    yield from _forms(jwt, "HS256", key, secret, other, signatures=0)


def _forms(jwt: Any, algorithm: str, key: Any, secret: Any, other: Any, *, signatures: int) -> Iterator[Form]:
    algorithms = [algorithm]

    def text(token: str, arguments: str) -> bool:
        claims = jwt.decode(token, key, algorithms=algorithms, audience=AUDIENCE, issuer=ISSUER)
        return permits(claims, json.loads(arguments))

    def kept(claims: dict[str, Any], arguments: dict[str, Any]) -> bool:
        return bool(time.time() < claims["exp"]) and permits(claims, arguments)

    made = [_claims() for _ in range(work.POOL)]
    data = [jwt.encode(claims, secret, algorithm=algorithm) for claims in made]
    yield Form(
        name="text",
        blocks=1,
        signatures=signatures,
        token_bytes=len(data[0]),
        about_us=60 + 80 * signatures,
        tokens=data,
        call=text,
        refusals=(jwt.InvalidTokenError,),
        request=work.as_text,
        fresh=work.fresh_text,
        stranger=jwt.encode(made[0], other, algorithm=algorithm),
    )
    yield Form(
        name="kept",
        blocks=1,
        signatures=0,
        token_bytes=len(data[0]),
        about_us=2,
        tokens=made,
        call=kept,
        refusals=(jwt.InvalidTokenError,),
    )
    yield from work.making(
        mint=lambda: str(jwt.encode(_claims(), secret, algorithm=algorithm)),
        attenuate=None,
        reads=lambda token, arguments: text(token, arguments.decode()),
        refusals=(jwt.InvalidTokenError,),
    )


def _claims() -> dict[str, Any]:
    now = int(time.time())
    where = [
        ["owner", "==", work.OWNER],
        ["repo", "==", work.REPO],
        ["state", "in", list(work.STATES)],
        ["page", "<=", work.MAX_PAGE],
    ]
    return {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + work.TTL_S,
        "sid": secrets.token_hex(16),
        "jti": secrets.token_hex(16),
        "permissions": [
            *({"action": work.ACTION, "resource": resource} for resource in work.OTHER_RESOURCES),
            {"action": work.ACTION, "resource": work.RESOURCE, "where": where},
        ],
    }


def _base64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
