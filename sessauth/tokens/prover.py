"""The holder of bound tokens: its key, and the proofs of its calls.

    key = HolderKey.generate()
    ...                                   # the issuer gets key.public.text
    proof = key.prove(token, "read", "files/a", b"{}", verifier_key)

A stolen bound token is worth nothing without the key, which alone can narrow the token too. See
docs/token-format.md, section 9.9.

A proof is made for the latest keys of the host that checks it. A :class:`Prover` has them:

    prover = Prover(HolderKey.load("agent.key"), VerifierKeys.load("verifier-keys.json", issuer_keys))
    proof = prover.prove_tool(token, catalogue, "get_issue", {"number": 7})

The holder needs no credential of the server: the host's keys can be handed over with the token. Nothing here
loads grpc or protobuf.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import secrets
import threading
from collections.abc import Awaitable, Callable
from enum import IntEnum
from pathlib import Path
from typing import Final, NoReturn, Protocol, TypeAlias

from .. import limits
from .._fast import _check as kernel
from ..clock import Clock, SystemClock
from ..crypto import pem
from ..crypto.keys import HolderPublicKey, VerifierKey, VerifierKeys
from ..errors import Unavailable, UsageError
from ..reasons import Reason
from ..scopes.call_arguments import Arguments, encode, text_bytes
from .token import Binding, Token


class ProofKind(IntEnum):
    """The kind of a proof; the numbers of ``token.proto``."""

    ED25519 = 1
    MAC = 2


# A host has two keys at most, and a holder few hosts.
MAX_AGREEMENTS: Final = 64
_NONCE_BYTES: Final = 16
_SECRET_BYTES: Final = 32


class HolderKey:
    """An Ed25519 key and an X25519 key, both random. The public halves are always derived from the secrets.

    Safe to share between threads.
    """

    __slots__ = ("_agreed", "_proof_secret", "_secret", "_seed", "public")

    public: HolderPublicKey
    """The keys that a token is bound to; their text is not a secret."""

    def __init__(self, seed: bytes, proof_secret: bytes) -> None:
        """Take the 32-byte seed of an Ed25519 key and the 32-byte secret of an X25519 key.

        Raises UsageError if one has another length, or the two are the same.
        """
        for secret in (seed, proof_secret):
            if not isinstance(secret, bytes) or len(secret) != _SECRET_BYTES:
                raise UsageError("a holder's key is two secrets of 32 bytes: make one with generate()")
        if seed == proof_secret:
            raise UsageError("the two secrets of a holder's key are separate ones: make them with generate()")
        self._seed = seed
        self._secret = kernel.SecretKey(seed)
        self._proof_secret = proof_secret
        self.public = HolderPublicKey(self._secret.public_key, kernel.x25519_public(proof_secret))
        self._agreed: dict[tuple[bytes, bytes], bytes] = {}

    @classmethod
    def generate(cls) -> HolderKey:
        """Return a new key from the system's random source."""
        return cls(kernel.generate_seed(), secrets.token_bytes(_SECRET_BYTES))

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> HolderKey:
        """Read a key file.

        Raises KeyFolderError if it is missing, no plain file, open to its group or to others, or holds
        anything but an Ed25519 and an X25519 key in PKCS#8 PEM, unencrypted.
        """
        make = "make one with 'sessauth holder-key new'"
        return cls(*pem.load_secrets(Path(path), pem.ED25519, pem.X25519, make=make))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a new key file with mode 0600 and wait until it is on the disk.

        Raises KeyFolderError if the file exists (it is never overwritten) or can't be written.
        """
        pairs = ((pem.ED25519, self._seed), (pem.X25519, self._proof_secret))
        pem.save_secrets(Path(path), *pairs)

    def holds(self, token: Token) -> bool:
        """Return True if a token is bound to this key."""
        return token.binding is not None and token.binding.next_key == self.public.next_key

    def sign(self, message: bytes) -> bytes:
        """Return the 64-byte signature over ``message`` by the Ed25519 key."""
        return self._secret.sign(message)

    def prove(
        self,
        token: Token | str | bytes,
        action: str | bytes,
        resource: str | bytes,
        arguments: Arguments,
        verifier_key: VerifierKey,
        *,
        kind: str = "",
        now_ms: int = -1,
        clock: Clock | None = None,
    ) -> bytes:
        """Return a proof, encoded, that this call of ``token`` is made by the holder of this key.

        A proof counts once, for 30 s, for these bytes of action, resource and arguments, on one host. Raises
        MalformedToken if ``token`` can't be read as one; UsageError if it is not bound to this key, ``kind``
        is unknown or can't be made for this token, or JSON can't express values of ``arguments``.

        Args:
            token: the bound token, as it is presented.
            action: as it will be checked.
            resource: as it will be checked.
            arguments: as they will be checked, in any form of :mod:`sessauth.scopes.call_arguments`.
            verifier_key: the key of the checking host, verified: ``VerifierKeys.current``.
            kind: ``mac``, a fraction of a signature's cost; ``ed25519``, a signature. Default: ``mac``
                where the token names this key's ``proof_key``, else ``ed25519``.
            now_ms: the time of the call, in ms since 1970; -1 reads ``clock``.
            clock: the source of the time; default: the machine's.
        """
        binding = (token if isinstance(token, Token) else Token.parse(token)).binding
        if binding is None:
            raise UsageError("token: is not bound, so it needs no proof")
        if binding.next_key != self.public.next_key:
            raise UsageError("token: is bound to another holder's key")
        number = self._kind(kind, binding)
        time_ms = now_ms if now_ms >= 0 else (clock or SystemClock()).now_ms()
        if not 0 <= time_ms <= limits.MAX_TIME_MS:
            raise UsageError("now_ms: is beyond the range of the format")
        nonce = secrets.token_bytes(_NONCE_BYTES)
        key_id = verifier_key.key_id
        digest = kernel.request_digest(text_bytes(action), text_bytes(resource), encode(arguments))
        proven = kernel.covered_bytes(
            number, binding.signature, verifier_key.verifier_id, key_id, digest, time_ms, nonce
        )
        if number is ProofKind.MAC:
            tag = kernel.mac(self._agree(verifier_key, key_id), proven)
        else:
            tag = self.sign(proven)
        return kernel.encode_message(
            "Proof",
            {
                "kind": number,
                "verifier_id": verifier_key.verifier_id,
                "key_id": key_id,
                "time_ms": time_ms,
                "nonce": nonce,
                "tag": tag,
            },
        )

    def _kind(self, kind: str, binding: Binding) -> ProofKind:
        can_mac = binding.proof_key == self.public.proof_key
        match kind:
            case "":
                return ProofKind.MAC if can_mac else ProofKind.ED25519
            case "ed25519":
                return ProofKind.ED25519
            case "mac" if can_mac:
                return ProofKind.MAC
            case "mac":
                raise UsageError(
                    "kind: 'mac' needs a token that names this holder's proof_key; use 'ed25519'"
                )
        raise UsageError(f"kind: is 'mac' or 'ed25519', not {kind!r}")

    def _agree(self, verifier_key: VerifierKey, key_id: bytes) -> bytes:
        """Return the key of the MACs for a host's key: agreed once, since it costs as much as a signature."""
        name = (verifier_key.verifier_id, key_id)
        agreed = self._agreed.get(name)
        if agreed is None:
            try:
                agreed = kernel.mac_key_of_holder(
                    self._proof_secret,
                    verifier_key.public_key,
                    self.public.next_key,
                    verifier_key.verifier_id,
                )
            except ValueError as error:
                raise UsageError(f"verifier_key: {error}") from None
            if len(self._agreed) >= MAX_AGREEMENTS:
                self._agreed.clear()
            self._agreed[name] = agreed
        return agreed

    def __repr__(self) -> str:
        """Show the public half, never a secret."""
        return f"<HolderKey {self.public.next_key.hex()}>"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled or copied: a secret leaves only through :meth:`save`."""
        raise TypeError("a HolderKey is not pickled; save() it to a file")


KeySource: TypeAlias = VerifierKeys | Callable[[], VerifierKeys]
AsyncKeySource: TypeAlias = VerifierKeys | Callable[[], Awaitable[VerifierKeys] | VerifierKeys]

# After these, other keys or another time may help: the host made new keys, or these waited too long.
_FETCH_AGAIN: Final = frozenset({Reason.BAD_PROOF, Reason.STALE_PROOF})

_ENDED: Final = "the server's verifier keys end too soon to prove anything for them"

_log: Final = logging.getLogger(__name__)


class ToolTable(Protocol):
    """A catalogue of tools: :class:`~sessauth.decisions.tool_catalog.ToolCatalog`."""

    def ask(self, tool: str, method: str = ...) -> tuple[str, str, bytes]:
        """Return action, resource and facts of a call."""


class HostKeys:
    """The keys of a host that proofs are made for, and when they are due to be fetched again.

    That is at half of the time that the newest key has left. Safe between threads.
    """

    __slots__ = ("_clock", "_due_at_ms", "_keys")

    def __init__(self, clock: Clock | None = None) -> None:
        """Know none yet."""
        self._clock = clock or SystemClock()
        self._keys: VerifierKeys | None = None
        self._due_at_ms = 0

    def use(self, keys: VerifierKeys) -> None:
        """Prove for the newest of ``keys`` from now on."""
        now_ms = self._clock.now_ms()
        key = keys.current(now_ms)
        # A current key has more than a proof's time left, so half of it does not make a tight loop.
        left_ms = key.expires_at_ms - now_ms if key is not None else 0
        self._keys, self._due_at_ms = keys, now_ms + left_ms // 2

    def forget(self) -> None:
        """Know none any more."""
        self._keys = None

    def postpone(self) -> None:
        """Keep the keys after a failure to fetch others."""
        if self._keys is not None:
            self.use(self._keys)

    def drop_rejected(self, reason: Reason) -> bool:
        """Forget the keys and return True if ``reason`` is one that other keys may help against."""
        if reason not in _FETCH_AGAIN:
            return False
        self.forget()
        return True

    def current(self) -> VerifierKey | None:
        """Return the newest key if it counts for a while yet."""
        keys = self._keys
        return keys.current(self._clock.now_ms()) if keys is not None else None

    def fresh(self) -> VerifierKey | None:
        """Return :meth:`current` unless the keys are due to be fetched again."""
        return self.current() if self._clock.now_ms() < self._due_at_ms else None

    def require(self) -> VerifierKey:
        """Return :meth:`current`. Raises Unavailable if there is none."""
        key = self.current()
        if key is None:
            raise Unavailable(_ENDED)
        return key


class _ProverBase:
    """A holder, the keys of a host, and the proofs that the one makes for the other."""

    def __init__(self, holder: HolderKey, keys: object, clock: Clock | None) -> None:
        self.holder = holder
        self._clock = clock or SystemClock()
        self._host = HostKeys(self._clock)
        self._fixed = isinstance(keys, VerifierKeys)
        if isinstance(keys, VerifierKeys):
            self._host.use(keys)
        elif not callable(keys):
            raise TypeError(f"keys: VerifierKeys or a function that returns them, not {type(keys).__name__}")

    def drop_rejected_keys(self, reason: Reason) -> bool:
        """Fetch the keys again before the next proof, if a call with a proof was denied for ``reason``.

        Returns True if another proof may be accepted: the call is worth one more attempt. Keys that were
        handed over stay.
        """
        return not self._fixed and self._host.drop_rejected(reason)

    def _known(self) -> VerifierKey | None:
        """Return the key to prove for unless keys are to be fetched. Raises Unavailable for ended ones."""
        return self._host.require() if self._fixed else self._host.fresh()

    def _use(self, keys: object) -> VerifierKey:
        if not isinstance(keys, VerifierKeys):
            raise TypeError(f"the source of verifier keys returned {type(keys).__name__}, not VerifierKeys")
        if keys.current(self._clock.now_ms()) is None:
            raise Unavailable(_ENDED)
        self._host.use(keys)
        return self._host.require()

    def _still(self, error: Exception) -> VerifierKey:
        """Return the key that still counts after a failed fetch. Raises ``error`` if there is none."""
        key = self._host.current()
        if key is None:
            raise error
        self._host.postpone()
        _log.warning("the verifier keys could not be fetched again: %s", type(error).__name__)
        return key

    def _bound(self, token: Token | str | bytes) -> Token | None:
        """Return the token if it needs a proof."""
        parsed = token if isinstance(token, Token) else Token.parse(token)
        return parsed if parsed.binding is not None else None

    def _proof(
        self,
        token: Token,
        action: str | bytes,
        resource: str | bytes,
        arguments: Arguments,
        key: VerifierKey,
        kind: str,
    ) -> bytes:
        return self.holder.prove(token, action, resource, arguments, key, kind=kind, clock=self._clock)


class Prover(_ProverBase):
    """Makes the proofs of a holder's calls. Safe between threads."""

    def __init__(self, holder: HolderKey, keys: KeySource, *, clock: Clock | None = None) -> None:
        """Prove with ``holder``.

        Args:
            holder: the key that tokens are bound to.
            keys: the keys of the checking host: as they were handed over, or a function that returns
                them, such as ``Client.verifier_keys``. It is called before the first proof, at half of the
                newest key's life, and after :meth:`drop_rejected_keys`.
            clock: the source of the time; default: the machine's.
        """
        super().__init__(holder, keys, clock)
        self._source = keys
        self._fetching = threading.Lock()

    def prove(
        self,
        token: Token | str | bytes,
        action: str | bytes,
        resource: str | bytes,
        arguments: Arguments = b"",
        *,
        kind: str = "",
    ) -> bytes:
        """Return a proof of one call, encoded; empty for a token that is not bound, which needs none.

        It counts once and for 30 s, so make one for each message. Parameters and errors are those of
        :meth:`HolderKey.prove`.

        Raises:
            Unavailable: if no known key is valid for a while yet.
            Exception: the error of the source of keys, if no key is known.
        """
        bound = self._bound(token)
        if bound is None:
            return b""
        return self._proof(bound, action, resource, arguments, self._key(), kind)

    def prove_tool(
        self,
        token: Token | str | bytes,
        catalogue: ToolTable,
        tool: str,
        arguments: Arguments = b"",
        *,
        method: str = "tools/call",
        kind: str = "",
    ) -> bytes:
        """Return a proof of a call of an MCP tool, as the gateway checks it by the same catalogue.

        Raises UnknownTool if the tool is not in the catalogue, else as :meth:`prove`.
        """
        action, resource, _ = catalogue.ask(tool, method)
        return self.prove(token, action, resource, arguments, kind=kind)

    def _key(self) -> VerifierKey:
        key = self._known()
        if key is not None:
            return key
        # One thread fetches; others go on while an older key counts.
        if not self._fetching.acquire(blocking=self._host.current() is None):
            return self._host.require()
        try:
            return self._host.fresh() or self._use(self._source())  # type: ignore[operator] # not fixed
        except Exception as error:  # noqa: BLE001 - raised unless an older key still counts
            return self._still(error)
        finally:
            self._fetching.release()


class AsyncProver(_ProverBase):
    """Makes the proofs of a holder's calls on one event loop."""

    def __init__(self, holder: HolderKey, keys: AsyncKeySource, *, clock: Clock | None = None) -> None:
        """Prove with ``holder``; parameters as of :class:`Prover`.

        ``keys`` may also be a function that is awaited, such as ``AsyncClient.verifier_keys``.
        """
        super().__init__(holder, keys, clock)
        self._source = keys
        self._fetching = asyncio.Lock()

    async def prove(
        self,
        token: Token | str | bytes,
        action: str | bytes,
        resource: str | bytes,
        arguments: Arguments = b"",
        *,
        kind: str = "",
    ) -> bytes:
        """Return a proof of one call, as :meth:`Prover.prove`."""
        bound = self._bound(token)
        if bound is None:
            return b""
        return self._proof(bound, action, resource, arguments, await self._key(), kind)

    async def prove_tool(
        self,
        token: Token | str | bytes,
        catalogue: ToolTable,
        tool: str,
        arguments: Arguments = b"",
        *,
        method: str = "tools/call",
        kind: str = "",
    ) -> bytes:
        """Return a proof of a call of an MCP tool, as :meth:`Prover.prove_tool`."""
        action, resource, _ = catalogue.ask(tool, method)
        return await self.prove(token, action, resource, arguments, kind=kind)

    async def _key(self) -> VerifierKey:
        key = self._known()
        if key is not None:
            return key
        # One task fetches; others go on while an older key counts.
        if self._fetching.locked() and (older := self._host.current()) is not None:
            return older
        async with self._fetching:
            try:
                if (key := self._host.fresh()) is not None:
                    return key
                keys = self._source()  # type: ignore[operator] # not fixed
                return self._use(await keys if inspect.isawaitable(keys) else keys)
            except Exception as error:  # noqa: BLE001 - raised unless an older key still counts
                return self._still(error)
