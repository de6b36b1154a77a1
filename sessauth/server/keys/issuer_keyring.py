"""The service's own issuer keys: private halves in ``keys/``, read by the control process alone.

A key is in ``<key id in hex>.pem``. The state decides which keys count: one that it does not list signs
nothing.

The control process also makes and rotates the host's proof keys, and has an issuer key sign them.
"""

from __future__ import annotations

import hashlib
import logging
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final, TypeAlias

from ..._fast._check import ReplayTable, TableError
from ...crypto.keys import IssuerKey, KeyRecord, KeyStatus, SignedVerifierKey, VerifierKey, has_small_order
from ...crypto.pem import sync_path
from ...errors import KeyFolderError, NotLeader, ServerError, StateUnusable, UsageError
from ...limits import CLOCK_STEP_MS, PROOF_WINDOW_MS
from ...state.host.proof_keys import HostProofKey, HostProofKeys, keys_path, replay_path
from ...state.writer.state_writer import StateWriter
from ..log import event
from ..sections import ProofSettings
from ..status import invalid, refused


class KeyRing:
    """Finds and makes private keys, and caches them."""

    def __init__(self, folder: Path) -> None:
        """Use ``folder``. Raises KeyFolderError unless it is a folder that only its owner can open."""
        self._folder = folder
        self._lock = threading.Lock()
        self._known: dict[bytes, IssuerKey] = {}
        try:
            mode = folder.stat().st_mode
        except OSError as error:
            raise KeyFolderError(
                f"{folder}: {error.strerror}; run 'sessauth init', or name another home folder "
                "(--home, SESSAUTH_HOME)"
            ) from error
        if not folder.is_dir() or mode & 0o077:
            raise KeyFolderError(f"{folder}: must be a folder with mode 0700; run: chmod 700 {folder}")

    def find(self, key_id: bytes) -> IssuerKey | None:
        """Return the private key of an id, or None if it is not in the folder.

        Raises KeyFolderError if its file is readable by others or holds another key.
        """
        with self._lock:
            known = self._known.get(key_id)
            if known is not None:
                return known
            file = self._folder / f"{key_id.hex()}.pem"
            if not file.exists():
                return None
            key = IssuerKey.load(file)
            if key.key_id != key_id:
                raise KeyFolderError(f"{file}: holds another key than its name says")
            self._known[key_id] = key
            return key

    def newest_active(self, keys: Iterable[KeyRecord], allowed: Iterable[bytes] = ()) -> IssuerKey | None:
        """Return the service's newest active key in the folder; of ``allowed`` ids only, if there are any."""
        permitted = frozenset(allowed)
        usable = [
            key
            for key in keys
            if key.status == KeyStatus.ACTIVE and not key.owner and (not permitted or key.id in permitted)
        ]
        for record in sorted(usable, key=lambda key: (key.activated_at_ms, key.revision), reverse=True):
            found = self.find(record.id)
            if found is not None:
                return found
        return None

    def problem(self, keys: Iterable[KeyRecord]) -> str:
        """Return why this process can sign nothing for the service; empty if it can."""
        return "" if self.newest_active(keys) is not None else f"no active issuer key is in {self._folder}"

    def sign_proof_key(self, key: VerifierKey, issuers: Mapping[bytes, KeyRecord]) -> SignedVerifierKey:
        """Sign with the newest active key; a :data:`SignProofKey`."""
        issuer = self.newest_active(issuers.values())
        if issuer is None:
            raise refused("NO_ISSUER_KEY", "no active issuer key of the service is here to sign with")
        return key.signed_by(issuer)

    def make(self, request_id: str) -> IssuerKey:
        """Make a key pair and save it; the same request id gives the same key again.

        The file is durable before the key is submitted to the state: no crash can lose the private half of a
        key that the state lists.
        """
        mark = self._folder / f"request-{hashlib.blake2b(request_id.encode(), digest_size=16).hexdigest()}"
        with self._lock:
            if mark.is_symlink():
                return IssuerKey.load(self._folder / mark.readlink())
            key = IssuerKey.generate()
            name = f"{key.key_id.hex()}.pem"
            key.save(self._folder / name)
            mark.symlink_to(name)
            sync_path(self._folder)
            return key


class NoKeyRing(KeyRing):
    """The key ring of a host without issuer keys: any work that needs one is requested from a server."""

    def __init__(self, refusal: Callable[[], NotLeader]) -> None:
        """Raise ``refusal()`` wherever a private key is needed."""
        self._refusal = refusal

    def find(self, key_id: bytes) -> IssuerKey | None:
        """Raise NotLeader."""
        raise self._refusal()

    def newest_active(self, keys: Iterable[KeyRecord], allowed: Iterable[bytes] = ()) -> IssuerKey | None:
        """Raise NotLeader."""
        raise self._refusal()

    def problem(self, keys: Iterable[KeyRecord]) -> str:
        """Return an empty string: servers sign."""
        return ""

    def make(self, request_id: str) -> IssuerKey:
        """Raise NotLeader."""
        raise self._refusal()


# An encoded VerifierKey has about 90.
MAX_PAYLOAD_BYTES: Final = 256


# Has an issuer key of the service sign the public half of a proof key, by the issuer keys of the host's own
# state. Raises ServerError NO_ISSUER_KEY if nothing can sign it now.
SignProofKey: TypeAlias = Callable[[VerifierKey, Mapping[bytes, KeyRecord]], SignedVerifierKey]


def signable(payload: bytes, cluster_id: bytes, now_ms: int, lifetime_ms: int) -> VerifierKey:
    """Return the key of another host of the cluster that ``payload`` encodes.

    Raises INVALID_ARGUMENT unless it is canonical, of this cluster, keeps a secret, and is over within
    ``lifetime_ms``, but for the clocks of two hosts.
    """
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise invalid("payload", f"must be at most {MAX_PAYLOAD_BYTES} bytes, not {len(payload)}")
    try:
        key = VerifierKey.decode(payload)
    except UsageError as error:
        raise invalid("payload", str(error)) from error
    if key.cluster_id != cluster_id:
        raise invalid("payload", "cluster_id names another cluster")
    if has_small_order(key.public_key):
        raise invalid("payload", "public_key is of small order, so that it keeps no secret")
    if not key.not_before_ms < key.expires_at_ms or key.expires_at_ms <= now_ms:
        raise invalid("payload", "expires_at_ms is over by this server's clock, or not after not_before_ms")
    if key.expires_at_ms > now_ms + lifetime_ms + CLOCK_STEP_MS:
        raise invalid(
            "payload", f"expires_at_ms is beyond proofs.key_lifetime_ms of this server, {lifetime_ms}"
        )
    return key


_VALID: Final = (KeyStatus.ACTIVE, KeyStatus.RETIRED)


class ProofKeyRotator:
    """Maintains ``proof/`` of the state folder. The control process has one."""

    def __init__(
        self, state_dir: Path, writer: StateWriter, sign: SignProofKey, settings: ProofSettings
    ) -> None:
        """Work on ``state_dir``, which ``writer`` writes; ``sign`` signs the public halves."""
        self._state_dir = state_dir
        self._writer = writer
        self._sign_key = sign
        self._settings = settings
        self._lock = threading.Lock()
        self._host: HostProofKeys | None = None
        self._table: ReplayTable | None = None
        # The latest use of the table.
        self._latest_ms = 0
        self._signed: dict[bytes, SignedVerifierKey] = {}

    def rotate(self) -> None:
        """Make missing keys and rotate those that are due; called once a second.

        Raises StateError while the wall clock is suspect (a key made then might count at a wrong time),
        StateUnusable for a file that others may read, OSError or TableError if one can't be written. Existing
        keys and tables stay then.
        """
        now_ms = self._writer.now_ms()
        with self._lock:
            incarnation = self._writer.head().incarnation
            host = self._host or self._read_keys()
            table = self._open_table()
            ahead = table is not None and _is_ahead(table, now_ms)
            # A table of the future is dropped with its nonces, so proofs of that time must never count.
            fresh = host is None or host.incarnation != incarnation or ahead
            if host is None or fresh:
                due = HostProofKeys.generate(incarnation, now_ms, self._settings.key_lifetime_ms)
            else:
                due = host.rotated(now_ms, self._settings.key_lifetime_ms)
            if due is not host or not keys_path(self._state_dir).exists():
                due.write(self._state_dir)
                event(logging.INFO, "proof_keys_made", verifier_id=due.verifier_id.hex(), keys=len(due.keys))
            self._host = due
            if table is None or ahead or not table.intact or table.slots != self._settings.replay_slots:
                self._replace_table(now_ms, fresh=fresh)
            else:
                self._latest_ms = max(self._latest_ms, table.latest_ms)

    def _open_table(self) -> ReplayTable | None:
        """Return the replay table; None if there is none that can serve."""
        path = replay_path(self._state_dir)
        if self._table is None:
            try:
                self._table = ReplayTable.open(path)
                self._latest_ms = self._table.latest_ms
            except TableError as error:
                if path.exists():
                    event(logging.WARNING, "replay_table_unusable", error=str(error))
        return self._table

    def _replace_table(self, now_ms: int, *, fresh: bool) -> None:
        """Replace the replay table; ``fresh``: the keys are new, so no proof was made for them."""
        path, slots = replay_path(self._state_dir), self._settings.replay_slots
        # The clock may have been set back a little since the table was used.
        from_ms = now_ms if fresh else max(now_ms, self._latest_ms)
        self._table = ReplayTable.create(path, slots, from_ms, proofs_before=not fresh)
        self._latest_ms = 0
        event(logging.INFO, "replay_table_made", slots=slots, from_ms=self._table.made_at_ms)

    def signed(self) -> list[SignedVerifierKey]:
        """Return the valid keys, the newest first, each signed by a valid issuer key.

        Without one that can't be signed now. Raises ServerError NO_ISSUER_KEY if that leaves none, NOT_LIVE
        if no key is valid.
        """
        now_ms = self._writer.now_ms()
        records = {record.id: record for record in self._writer.keys()}
        with self._lock:
            host = self._host
            counting = host.counting(now_ms) if host is not None else ()
            if host is None or not counting:
                raise refused("NOT_LIVE", "this host has no proof key that counts; its log says why")
            signed: dict[bytes, SignedVerifierKey] = {}
            problem: ServerError | None = None
            for key in counting:
                try:
                    signed[key.key_id] = self._sign(host, key, records)
                except ServerError as error:
                    problem = problem or error
            if problem is not None and not signed:
                raise problem
            self._signed = signed
        return list(signed.values())

    def _sign(
        self, host: HostProofKeys, key: HostProofKey, records: dict[bytes, KeyRecord]
    ) -> SignedVerifierKey:
        """Return the cached signature if its issuer key is still valid, else a new one."""
        known = self._signed.get(key.key_id)
        if known is not None:
            record = records.get(known.issuer_key_id)
            if record is not None and record.status in _VALID:
                return known
        cluster_id = self._writer.head().cluster_id
        public = VerifierKey(
            host.verifier_id, key.public_key, key.not_before_ms, key.expires_at_ms, cluster_id
        )
        return self._sign_key(public, records)

    def _read_keys(self) -> HostProofKeys | None:
        """Return the keys in the folder; None if new ones are to be made."""
        try:
            return HostProofKeys.read(self._state_dir)
        except StateUnusable as error:
            if error.problem == "MISSING":
                return None
            if error.problem != "CORRUPT":
                raise
            event(logging.WARNING, "proof_keys_unreadable", error=str(error))
            return None


def _is_ahead(table: ReplayTable, now_ms: int) -> bool:
    """Return True if it was made or used in the far future: it would refuse all proofs until then."""
    return max(table.made_at_ms, table.latest_ms) > now_ms + PROOF_WINDOW_MS + CLOCK_STEP_MS
