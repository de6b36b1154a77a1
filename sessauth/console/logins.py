"""One-time links, the logins that they open, and codes for signatures.

All are in memory and expire. Only the person at the terminal sees a link or a code. Secrets are stored as
digests.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from ..clock import Clock

LINK_MS: Final = 600_000
LOGIN_MS: Final = 8 * 3_600_000
CODE_MS: Final = 300_000
# More than people who look at one console; the oldest gives way.
MAX_LOGINS: Final = 32
_MAX_SECRET_CHARS: Final = 100
# Cookies of the login's name that are tried: any port of this host may set more of them.
_MAX_COOKIES: Final = 8
# Letters that are not taken for each other; a code is typed by hand.
_CODE_LETTERS: Final = "abcdefghjkmnpqrstuvwxyz"


@dataclass(slots=True, eq=False)
class Login:
    """One browser's login: where its pages are, the token of its forms, and its end in ms since 1970.

    ``prefix`` begins the path of each of its pages, and its cookie is for that path alone: browsers send a
    cookie to every port of a host. ``peer_uid`` is the user whose browser it is, None if the system does not
    say. ``left`` is True after a logout: pages that are open end with it.
    """

    prefix: str
    form_token: str
    expires_at_ms: int
    peer_uid: int | None = None
    left: bool = False

    @property
    def base(self) -> str:
        """The beginning of the path of its pages, as ``/PREFIX``."""
        return f"/{self.prefix}"


class Logins:
    """The one-time link that may be used next, and the logins that were made."""

    def __init__(self, clock: Clock, *, login_ms: int = LOGIN_MS) -> None:
        """Begin without a link; a login counts for ``login_ms``."""
        self._clock = clock
        self.login_ms = login_ms
        self._link = b""
        self._link_ends_ms = 0
        self._logins: dict[bytes, Login] = {}

    def new_link(self) -> str:
        """Return the secret of a new link; an earlier unused one is no longer valid."""
        secret = secrets.token_urlsafe(32)
        self._link, self._link_ends_ms = _digest(secret), self._clock.now_ms() + LINK_MS
        return secret

    def is_link(self, secret: str) -> bool:
        """Return True if a link counts; it is not used up."""
        in_time = self._clock.now_ms() < self._link_ends_ms
        return bool(self._link) and hmac.compare_digest(_digest(secret), self._link) and in_time

    def use_link(self, secret: str, peer_uid: int | None = None) -> tuple[str, Login] | None:
        """Use a link up and return the cookie of a new login, and the login; None if the link does not count.

        ``peer_uid`` is the user who opened the link.
        """
        if not self.is_link(secret):
            return None
        self._link = b""
        cookie = secrets.token_urlsafe(32)
        while len(self._logins) >= MAX_LOGINS:
            self._logins.pop(next(iter(self._logins))).left = True
        ends_at_ms = self._clock.now_ms() + self.login_ms
        login = Login(secrets.token_urlsafe(16), secrets.token_urlsafe(32), ends_at_ms, peer_uid)
        self._logins[_digest(cookie)] = login
        return cookie, login

    def find(self, cookies: Sequence[str], prefix: str, peer_uid: int | None = None) -> Login | None:
        """Return the login of one of these cookies, None if there is none or it is over.

        A login is found at its own prefix and by its own user alone.
        """
        for cookie in cookies[:_MAX_COOKIES]:
            key = _digest(cookie)
            login = self._logins.get(key)
            if login is None or login.peer_uid != peer_uid:
                continue
            if self._clock.now_ms() >= login.expires_at_ms:
                del self._logins[key]
            elif hmac.compare_digest(login.prefix.encode(), prefix.encode("utf-8", "replace")):
                return login
        return None

    def leave(self, login: Login) -> None:
        """End a login."""
        login.left = True
        self._logins = {key: each for key, each in self._logins.items() if not each.left}


class SigningCodes:
    """Codes that the terminal shows, each typed once before a signature: a cookie alone never signs.

    One counts at a time, for one login and one text. A later one replaces it, and a wrong one uses it up.
    """

    def __init__(self, clock: Clock) -> None:
        """Begin without a code."""
        self._clock = clock
        self._code = b""
        self._ends_ms = 0
        self._of: tuple[Login, str] | None = None

    def new(self, login: Login, shown: str) -> str:
        """Return a code for the terminal alone to show; ``shown`` is the digest of its request."""
        code = "".join(secrets.choice(_CODE_LETTERS) for _ in range(8))
        self._code, self._ends_ms = _digest(code), self._clock.now_ms() + CODE_MS
        self._of = login, shown
        return f"{code[:4]}-{code[4:]}"

    def use(self, login: Login, shown: str, typed: str) -> bool:
        """Use the code up; return True if this one counts for this login and this text."""
        code, of, self._code, self._of = self._code, self._of, b"", None
        letters = "".join(char for char in typed.lower() if char not in " -")
        in_time = self._clock.now_ms() < self._ends_ms
        return hmac.compare_digest(_digest(letters), code) and of == (login, shown) and in_time


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret[:_MAX_SECRET_CHARS].encode("utf-8", "replace")).digest()
