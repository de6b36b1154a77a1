from collections.abc import Iterable, Sequence
from typing import Any, Self

from sessauth._fast.call.argument_forms import _Arguments
from sessauth._fast.check.batch import Batch
from sessauth._fast.check.chain_cache import ChainCache
from sessauth._fast.check.cost_claims import _CostHandler
from sessauth._fast.check.decision import Decision
from sessauth._fast.check.recording_runner import RecordingRunner
from sessauth._fast.check.view import View
from sessauth._fast.token.proof import ProofKeys

class Checker(RecordingRunner):
    proofs: ProofKeys | None
    def __new__(
        cls,
        view: View,
        *,
        audience: str = "",
        cache_bytes: int = 67108864,
        session_cache_bytes: int = 0,
        token_type: type | None = None,
        proofs: ProofKeys | None = None,
    ) -> Self: ...
    @property
    def view(self) -> View: ...
    @property
    def cache(self) -> ChainCache: ...
    @property
    def bad_signatures(self) -> int: ...
    @property
    def signatures(self) -> int: ...
    def check(
        self,
        token: Any,
        action: bytes | str,
        resource: bytes | str,
        arguments: _Arguments = b"",
        *,
        tool: _Arguments = b"",
        session: bytes = b"",
        source: str = "",
        peer: Sequence[str] = (),
        audience: str | None = None,
        at_least_revision: int = 0,
        proof: bytes | str = b"",
    ) -> Decision: ...
    def _check(
        self,
        token: Any,
        action: bytes | str,
        resource: bytes | str,
        arguments: _Arguments = b"",
        *,
        tool: _Arguments = b"",
        session: bytes = b"",
        source: str = "",
        peer: Sequence[str] = (),
        audience: str | None = None,
        at_least_revision: int = 0,
        proof: bytes | str = b"",
        now_ms: int = -1,
        clock_suspect: bool = False,
        verify_new_signatures: bool = True,
        consume_nonce: bool = True,
        skip_proof: bool = False,
        cost_handler: _CostHandler | None = None,
        record_needs: bool = True,
        token_only: bool = False,
    ) -> Decision: ...
    def check_batch(
        self, calls: Iterable[tuple[Any, ...]], *, audience: str | None = None, at_least_revision: int = 0
    ) -> Batch: ...
    def _check_batch(
        self,
        calls: Iterable[tuple[Any, ...]],
        *,
        audience: str | None = None,
        at_least_revision: int = 0,
        now_ms: int = -1,
        clock_suspect: bool = False,
        verify_new_signatures: bool = True,
        record: bool = True,
        record_needs: bool = True,
    ) -> Batch: ...
    def refuse(self, stage: int, reason: int, argument: str | None = None) -> Decision: ...

def session_refusal(
    status: int, expires_at_ms: int, lease_ms: int, lease_deadline_ms: int, now_ms: int
) -> int: ...
