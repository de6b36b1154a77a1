from typing import Self, final

from sessauth._fast.check.view import View
from sessauth._fast.redecide.logged_chain import LoggedChain

__all__ = ["Redecider", "Redecision"]

@final
class Redecision:
    @property
    def verdict(self) -> int: ...
    @property
    def reason(self) -> int: ...
    @property
    def stage(self) -> int: ...
    @property
    def level(self) -> int: ...
    @property
    def index(self) -> int: ...
    @property
    def scope(self) -> int: ...
    @property
    def clause(self) -> int: ...
    @property
    def argument(self) -> str: ...
    @property
    def epoch(self) -> int: ...
    @property
    def exact(self) -> bool: ...
    @property
    def position_fits(self) -> bool: ...
    @property
    def match_fits(self) -> bool: ...
    @property
    def observed_fits(self) -> bool: ...
    @property
    def may_have_lapsed(self) -> bool: ...
    @property
    def peers(self) -> int: ...
    @property
    def may_cost(self) -> int: ...
    def __bool__(self) -> bool: ...

@final
class Redecider:
    def __new__(cls, view: View) -> Self: ...
    def session_alive(self, session_id: bytes, now_ms: int) -> Redecision: ...
    def redecide(
        self,
        logged: LoggedChain,
        action: str | bytes,
        resource: str | bytes,
        arguments: bytes | None,
        *,
        source: str,
        audience: str,
        now_ms: int,
        knows_state: bool = True,
        knows_issuer: bool = True,
        reason: int = 0,
        level: int = 0,
        index: int = -1,
        scope: int = -1,
        clause: int = -1,
        matched_index: int = -1,
        matched_scope: int = -1,
        token_only: bool = False,
    ) -> Redecision: ...
