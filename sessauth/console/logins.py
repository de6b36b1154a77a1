"""One-time links and the logins that they open; both live in memory and end by time.

Nobody but the person at the terminal sees a link. Secrets are held as digests.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass
from typing import Final

from ..clock import Clock

LINK_MS: Final = 600_000
LOGIN_MS: Final = 8 * 3_600_000
# More than people who look at one console; the oldest gives way.
MAX_LOGINS: Final = 32
_MAX_SECRET_CHARS: Final = 100


@dataclass(slots=True)
class Login:
    """One browser's login: the token that its forms carry, and its end in ms since 1970.

    ``left`` is True behind a logout: pages that are open end with it.
    """

    form_token: str
    expires_at_ms: int
    left: bool = False


class Logins:
    """The one-time link that may be used next, and the logins that were made."""

    def __init__(self, clock: Clock, *, link_ms: int = LINK_MS, login_ms: int = LOGIN_MS) -> None:
        """Begin without a link; a link counts for ``link_ms``, a login for ``login_ms``."""
        self._clock = clock
        self._link_ms = link_ms
        self.login_ms = login_ms
        self._link = b""
        self._link_ends_ms = 0
        self._logins: dict[bytes, Login] = {}

    def new_link(self) -> str:
        """Return the secret of a new link; an earlier one that nobody used counts no more."""
        secret = secrets.token_urlsafe(32)
        self._link, self._link_ends_ms = _digest(secret), self._clock.now_ms() + self._link_ms
        return secret

    def use_link(self, secret: str) -> str | None:
        """Use a link up and return the secret of a new login; None if the link does not count."""
        in_time = self._clock.now_ms() < self._link_ends_ms
        if not (self._link and hmac.compare_digest(_digest(secret), self._link) and in_time):
            return None
        self._link = b""
        cookie = secrets.token_urlsafe(32)
        while len(self._logins) >= MAX_LOGINS:
            self._logins.pop(next(iter(self._logins))).left = True
        login = Login(secrets.token_urlsafe(32), self._clock.now_ms() + self.login_ms)
        self._logins[_digest(cookie)] = login
        return cookie

    def find(self, cookie: str) -> Login | None:
        """Return the login of a cookie, None if there is none or it is over."""
        key = _digest(cookie)
        login = self._logins.get(key)
        if login is not None and self._clock.now_ms() >= login.expires_at_ms:
            del self._logins[key]
            return None
        return login

    def leave(self, cookie: str) -> None:
        """End the login of a cookie."""
        login = self._logins.pop(_digest(cookie), None)
        if login is not None:
            login.left = True


def _digest(secret: str) -> bytes:
    return hashlib.sha256(secret[:_MAX_SECRET_CHARS].encode("utf-8", "replace")).digest()
