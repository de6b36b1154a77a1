"""API keys, whose file is useless to a reader: it holds hashes. Principals of client certificates.

A credential reads ``sessauth_key_<name>_<secret>``; the secret is 32 random bytes in base64url. The file
``credentials.toml`` holds BLAKE2b-256 of the secret: 256 random bits need no slow hash. The file is written
whole, under another name, and renamed into place; readers check its identity at most once in 200 ms. On a
full disk a removed entry is overwritten in place.

The credentials of a cluster are read from the rows of this host's folder, beside those of its own file.
Principals of client certificates are those of ``[[identities]]``, reloaded when the settings change.
"""

from __future__ import annotations

import errno
import fcntl
import hmac
import logging
import os
import secrets
import threading
import time
import tomllib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

from ..._fast.codec import base64url
from ..._fast.nonces.shared_file import give_group
from ...errors import ConfigError, StateError, StateUnusable
from ...model.host import AUDIENCE, NAME, ROLES, CredentialRecord
from ...state.host.folder import read_file, replace_file
from ...state.lmdb.environment import LmdbSource
from ...state.lmdb.reader import CredentialReader
from ..config import Config, load, stamp_of
from ..log import event
from ..sections import RESERVED, Identity
from ..status import refused

# The disk, or its owner's part of it.
FULL = (errno.ENOSPC, errno.EDQUOT)
PREFIX = "sessauth_key_"
SECRET_CHARS = 43
RELOAD_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Principal:
    """A caller: name, role, and for a gateway the audiences it may check for (none: any)."""

    name: str
    role: str
    audiences: tuple[str, ...] = ()


def principal_of(record: CredentialRecord) -> Principal:
    """Return the caller of a credential."""
    return Principal(record.name, record.role, record.audiences)


@dataclass(frozen=True, slots=True)
class Loaded:
    """All entries at one moment, and the digests of the credentials that were accepted by them.

    Both are replaced together: a credential accepted under older entries does not count under newer ones.
    ``carried`` are those of the entries that all hosts of a cluster have.
    """

    entries: Mapping[str, CredentialRecord] = field(default_factory=dict)
    accepted: dict[bytes, Principal] = field(default_factory=dict)
    carried: Mapping[str, CredentialRecord] = field(default_factory=dict)


def hash_secret(secret: bytes) -> bytes:
    """Return BLAKE2b-256 of a secret or a credential."""
    return blake2b(secret, digest_size=32).digest()


def credential_text(name: str, secret: bytes) -> str:
    """Return the text of a credential."""
    return f"{PREFIX}{name}_{base64url.encode(secret)}"


def new_credential(name: str) -> tuple[str, bytes]:
    """Return the text of a new credential, 32 random bytes, and the hash of its secret."""
    secret = secrets.token_bytes(32)
    return credential_text(name, secret), hash_secret(secret)


@dataclass(frozen=True, slots=True)
class WorkerCredential:
    """The credential of the check workers of one control process, made when it starts.

    It is in no file, no argument and no environment: a worker gets it on stdin.
    """

    text: str = field(repr=False)
    principal: Principal

    @classmethod
    def make(cls, role: str) -> WorkerCredential:
        """Return a new one, 32 random bytes, for a principal whose name no credential file can give."""
        return cls(credential_text("worker", secrets.token_bytes(32)), Principal(f"{RESERVED}worker", role))

    def is_text(self, text: str) -> bool:
        """Return True if ``text`` is this credential. Takes as long for every wrong one."""
        return hmac.compare_digest(hash_secret(text.encode()), hash_secret(self.text.encode()))


def parse(text: str) -> tuple[str, bytes] | None:
    """Split a credential into its name and its 32-byte secret; None if it isn't one.

    One credential has one text, so nothing is stripped: a cache by text has one entry for each.
    """
    head, secret = text[: -SECRET_CHARS - 1], text[-SECRET_CHARS:]
    if not head.startswith(PREFIX) or text[len(head) : len(head) + 1] != "_":
        return None
    name = head.removeprefix(PREFIX)
    if not NAME.fullmatch(name):
        return None
    try:
        raw = base64url.decode(secret)
    except ValueError:
        return None
    # The unused bits of the last character are zero.
    return (name, raw) if len(raw) == 32 and base64url.encode(raw) == secret else None


class CredentialSource(ABC):
    """The API keys that are accepted. A subclass reads them, in :meth:`current`."""

    def __init__(self) -> None:
        # Replaced by another object when the entries change.
        self.loaded = Loaded()
        # ``loaded`` needs no check of the file until then, in seconds of the monotonic clock.
        self.fresh_until = 0.0

    @property
    @abstractmethod
    def file(self) -> CredentialFile:
        """The host's own file."""

    @abstractmethod
    def drop_copies(self) -> None:
        """Remove credentials that all hosts of a cluster have from the host's own file."""

    @abstractmethod
    def current(self) -> Loaded:
        """Return the entries of now. Raises ConfigError if they can't be read: no caller is accepted then."""

    def is_current(self) -> bool:
        """Return True if ``loaded`` is the result that :meth:`current` would return. Never waits."""
        return time.monotonic() < self.fresh_until

    def authenticate(self, text: str) -> Principal | None:
        """Return the principal of a credential, or None. Takes as long for every wrong secret.

        An accepted credential is cached by its digest until the entries change.
        """
        if not text.isascii():
            return None
        loaded = self.current()
        digest = hash_secret(text.encode())
        principal = loaded.accepted.get(digest)
        if principal is None:
            principal = self._principal_of(text, loaded.entries)
            if principal is not None:
                loaded.accepted[digest] = principal
        return principal

    def accepted_before(self, text: bytes) -> Principal | None:
        """Return the principal of a credential that was accepted by the present entries, or None."""
        return self.loaded.accepted.get(blake2b(text, digest_size=32).digest())

    @staticmethod
    def _principal_of(text: str, entries: Mapping[str, CredentialRecord]) -> Principal | None:
        found = parse(text)
        if found is None:
            return None
        name, secret = found
        entry = entries.get(name)
        expected = entry.secret_hash if entry is not None else bytes(32)
        if not hmac.compare_digest(hash_secret(secret), expected) or entry is None:
            return None
        return principal_of(entry)


class CredentialFile(CredentialSource):
    """The file of hashed API keys of one host, cached in memory and reloaded when it changes."""

    def __init__(self, path: Path) -> None:
        """Use the file at ``path``. While it does not exist no one may call."""
        super().__init__()
        self._path = path
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None

    @property
    def file(self) -> CredentialFile:
        """The host's own file: this one."""
        return self

    def drop_copies(self) -> None:
        """Do nothing: a single host has no other place."""

    def list(self) -> list[CredentialRecord]:
        """Return all entries, by name."""
        self.fresh_until = 0.0
        return [entry for _, entry in sorted(self.current().entries.items())]

    def add(self, name: str, role: str, audiences: Sequence[str] = ()) -> str:
        """Store a new credential and return its text, which is stored nowhere else.

        Raises :class:`ConfigError` for a name that is taken or of another form, and an unknown role.
        """
        if not NAME.fullmatch(name):
            raise ConfigError(
                "name: must be 1 to 64 letters, digits, '.' or '-', beginning with a letter or digit"
            )
        if role not in ROLES:
            raise ConfigError(f"role: must be one of {', '.join(ROLES)}")
        for audience in audiences:
            if not AUDIENCE.fullmatch(audience):
                raise ConfigError(
                    "audience: must be 1 to 256 characters without quotes, '\\' and control characters"
                )
        text, secret_hash = new_credential(name)
        with self._changing() as entries:
            if name in entries:
                raise ConfigError(f"name: {name} exists; remove it first")
            entries[name] = CredentialRecord(name, role, tuple(audiences), secret_hash)
        return text

    def remove(self, name: str) -> bool:
        """Remove a credential; False if there was none of that name."""
        with self._changing() as entries:
            return entries.pop(name, None) is not None

    def include(self, stored: Sequence[CredentialRecord]) -> None:
        """Store credentials that another place had, over entries of the same name."""
        with self._changing() as entries:
            entries.update((each.name, each) for each in stored)

    def exclude(self, stored: Sequence[CredentialRecord]) -> None:
        """Remove the entries that have the name and the secret of one of ``stored``."""
        with self._changing() as entries:
            for each in stored:
                entry = entries.get(each.name)
                if entry is not None and entry.secret_hash == each.secret_hash:
                    del entries[each.name]

    def current(self) -> Loaded:
        """Return the file's content, at most 200 ms old. Raises ConfigError if it can't be read."""
        if self.is_current():
            return self.loaded
        now = time.monotonic()
        with self._lock:
            try:
                found = self._path.stat()
            except FileNotFoundError:
                # The same object as long as nothing changes: another one has every caller looked up again.
                if self.loaded.entries:
                    self.loaded = Loaded()
                self._stamp, self.fresh_until = None, 0.0
                return self.loaded
            stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
            if stamp != self._stamp:
                # While the new file is unreadable no caller is accepted; the next call reads it again.
                self.loaded, self._stamp, self.fresh_until = Loaded(), None, 0.0
                self.loaded, self._stamp = Loaded(_read(self._path)), stamp
            self.fresh_until = now + RELOAD_SECONDS
            return self.loaded

    @contextmanager
    def _changing(self) -> Iterator[dict[str, CredentialRecord]]:
        """Lock the file, yield its entries, and write them back if nothing was raised.

        Raises StateUnusable NO_SPACE if more is to be stored and the disk is full.
        """
        try:
            with self._locked():
                entries = _read(self._path) if self._path.exists() else {}
                before = dict(entries)
                yield entries
                try:
                    _write(self._path, entries)
                except OSError as error:
                    # Taking authority away must not need space.
                    if error.errno not in FULL or not _blank(self._path, before.keys() - entries, entries):
                        raise
                self.fresh_until = 0.0
        except OSError as error:
            if error.errno in FULL:
                message = f"{self._path}: the file system is full; free some space"
                raise StateUnusable(message, "NO_SPACE") from error
            raise

    @contextmanager
    def _locked(self) -> Iterator[None]:
        lock = os.open(self._path.with_suffix(".lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        try:
            try:
                give_group(lock, self._path.parent)
            except PermissionError as error:
                raise ConfigError(f"{self._path} {error.strerror}") from error
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)


def _read(path: Path) -> dict[str, CredentialRecord]:
    try:
        return _entries(path, read_file(path))
    except OSError as error:
        raise ConfigError(f"{path}: can't be read: {error.strerror}") from error


def _entries(path: Path, data: bytes) -> dict[str, CredentialRecord]:
    entries: dict[str, CredentialRecord] = {}
    try:
        table = tomllib.loads(data.decode("utf-8"))
        for name, row in table.get("credential", {}).items():
            secret_hash, audiences = bytes.fromhex(row["secret_blake2b"]), tuple(row.get("audiences", ()))
            if row["role"] not in ROLES or len(secret_hash) != 32 or not NAME.fullmatch(name):
                raise ConfigError(f"{path}: credential {name!r} has a role, hash or name that is none")
            entries[name] = CredentialRecord(name, row["role"], audiences, secret_hash)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: can't be read as hashed credentials: {type(error).__name__}") from error
    return entries


def _write(path: Path, entries: dict[str, CredentialRecord]) -> None:
    lines = ["# Hashed API keys. Written by 'sessauth credential'; the secrets are stored nowhere.\n"]
    for name, entry in sorted(entries.items()):
        audiences = ", ".join(f'"{audience}"' for audience in entry.audiences)
        lines.append(
            f'\n[credential."{name}"]\nrole = "{entry.role}"\naudiences = [{audiences}]\n'
            f'secret_blake2b = "{entry.secret_hash.hex()}"\n'
        )
    replace_file(path, "".join(lines).encode(), 0o640)


def _blank(path: Path, gone: Iterable[str], left: Mapping[str, CredentialRecord]) -> bool:
    """Overwrite entries by empty lines in place, durably, which takes no space on the disk.

    False, and nothing is done, if ``left`` would not be the file's entries then. A write that a crash cuts in
    two leaves a file that can't be read, so no caller is accepted by it.
    """
    data = read_file(path)
    ranges: list[tuple[int, int]] = []
    for name in gone:
        begin = data.find(f'[credential."{name}"]\n'.encode())
        end = data.find(b"\n[", begin)
        ranges.append((begin, end if end >= 0 else len(data)))
    blanked = bytearray(data)
    for begin, end in ranges:
        blanked[begin:end] = b"\n" * (end - begin)
    if any(begin < 0 for begin, _ in ranges) or _entries(path, bytes(blanked)) != left:
        return False
    descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        before = os.fstat(descriptor)
        for begin, end in ranges:
            os.pwrite(descriptor, blanked[begin:end], begin)
        # Readers detect a new content by it, and the clock of the file system may not move for some ms.
        after = os.fstat(descriptor).st_mtime_ns
        os.utime(descriptor, ns=(before.st_atime_ns, max(after, before.st_mtime_ns + 1)))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return True


class CarriedCredentials(CredentialSource):
    """Those of the cluster, and those of this host's file.

    The first count on all hosts, so an entry of the file that has the name of one does not count.
    """

    def __init__(self, path: Path, source: LmdbSource) -> None:
        """Use the file at ``path`` and the rows of ``source``."""
        super().__init__()
        self._file = CredentialFile(path)
        self._reader = CredentialReader(source)
        self._lock = threading.Lock()
        # The two objects that ``loaded`` was made of.
        self._parts: tuple[object, object] = (None, None)

    @property
    def file(self) -> CredentialFile:
        """The host's own file."""
        return self._file

    def drop_copies(self) -> None:
        """Remove credentials that all hosts have from this host's file, where a removal would not reach them.

        Raises ConfigError.
        """
        carried = self.current().carried
        entries = self._file.current().entries
        copies = [
            entry
            for name, entry in entries.items()
            if name in carried and carried[name].secret_hash == entry.secret_hash
        ]
        if copies:
            self._file.exclude(copies)
            event(logging.INFO, "credentials_of_cluster", names=[entry.name for entry in copies])

    def is_current(self) -> bool:
        """Return True if ``loaded`` has the rows of the last commit, and the file's entries of 200 ms ago."""
        # In this order: another thread may have read the rows, and not yet replaced ``loaded``.
        return super().is_current() and self._reader.unchanged() and self._parts[1] is self._reader.records

    def current(self) -> Loaded:
        """Return the rows of now and the file's entries, those at most 200 ms old."""
        if self.is_current():
            return self.loaded
        with self._lock:
            try:
                own = self._file.current()
                records = self._reader.read()
            except BaseException as error:
                self.loaded, self._parts, self.fresh_until = Loaded(), (None, None), 0.0
                if isinstance(error, StateError):
                    raise ConfigError(str(error)) from error
                raise
            if self._parts[0] is not own or self._parts[1] is not records:
                carried = {record.name: record for record in records.values()}
                self.loaded = Loaded({**own.entries, **carried}, carried=carried)
                self._parts = own, records
            # Zero while there is no file: then a new one is seen as late as a changed one.
            self.fresh_until = self._file.fresh_until or time.monotonic() + RELOAD_SECONDS
            return self.loaded


@dataclass(frozen=True, slots=True, eq=False)
class KnownPrincipals:
    """The identities at one moment, by URI and by thumbprint; replaced together when the file changes.

    There are two tables: a certificate may name any URI, also one that reads like a thumbprint.
    """

    by_uri: Mapping[str, Principal]
    by_thumbprint: Mapping[str, Principal]

    def __bool__(self) -> bool:
        """Return whether any certificate is known."""
        return bool(self.by_uri or self.by_thumbprint)

    def principal_of(self, uris: Iterable[str], thumbprint: str) -> Principal | None:
        """Return the principal of a verified certificate, None if it has none.

        Raises UNAUTHENTICATED for a certificate of two.
        """
        found = {self.by_uri[uri] for uri in uris if uri in self.by_uri}
        if thumbprint in self.by_thumbprint:
            found.add(self.by_thumbprint[thumbprint])
        if len(found) > 1:
            names = ", ".join(sorted(principal.name for principal in found))
            raise refused("UNAUTHENTICATED", f"the certificate is that of several identities: {names}")
        return found.pop() if found else None


def _known(identities: Iterable[Identity]) -> KnownPrincipals:
    by_uri: dict[str, Principal] = {}
    by_thumbprint: dict[str, Principal] = {}
    for entry in identities:
        principal = Principal(entry.name, entry.role, entry.audiences)
        if entry.uri:
            by_uri[entry.uri] = principal
        else:
            by_thumbprint[entry.thumbprint.lower()] = principal
    return KnownPrincipals(by_uri, by_thumbprint)


class Identities:
    """The identities of the settings' file. A file that can't be read changes nothing; it is logged."""

    def __init__(self, config: Config, credentials: CredentialSource) -> None:
        """Begin with those of ``config``. Raises ConfigError if a name is that of an API key of the file."""
        self._home = config.home
        self._stamp = config.file_stamp
        self._credentials = credentials
        self._lock = threading.Lock()
        self._fresh_until = 0.0
        self._entries = self._checked(config.identities)
        # The credentials of the cluster that ``_now`` was made beside.
        self._beside = credentials.loaded.carried
        self._now = self._known(self._beside)

    def known(self) -> KnownPrincipals:
        """Return the identities of the file, at most 200 ms old, without names that the cluster has."""
        # Settings that came from no file have none that could change.
        if self._stamp is not None and time.monotonic() >= self._fresh_until:
            with self._lock:
                stamp = stamp_of(self._home)
                if stamp != self._stamp:
                    self._stamp = stamp
                    self._read()
                self._fresh_until = time.monotonic() + RELOAD_SECONDS
        # After the file: its first entries are new to the cluster's names.
        if self._entries:
            self._respect_cluster()
        return self._now

    @property
    def entries(self) -> tuple[Identity, ...]:
        """The entries that count now."""
        self.known()
        return self._entries

    def read_again(self) -> tuple[Identity, ...]:
        """Read the file again, and return the entries that count now."""
        self._fresh_until = 0.0
        return self.entries

    def _read(self) -> None:
        try:
            entries = self._checked(load(self._home).identities)
        except ConfigError as error:
            event(logging.ERROR, "identities_not_reloaded", error=str(error))
            return
        before, self._entries = set(self._entries), entries
        if before != set(entries):
            self._now = self._known(self._beside)
            event(
                logging.INFO,
                "identities_reloaded",
                added=sorted(entry.name for entry in set(entries) - before),
                removed=sorted(entry.name for entry in before - set(entries)),
            )

    def _respect_cluster(self) -> None:
        """Make the identities again if the credentials of the cluster are others than before."""
        # While they can't be read, the earlier ones count.
        with suppress(ConfigError):
            beside = self._credentials.current().carried
            if beside is not self._beside:
                with self._lock:
                    self._now = self._known(beside)
                    self._beside = beside

    def _known(self, beside: Mapping[str, object]) -> KnownPrincipals:
        """Return the entries without those that share a name with a credential of the cluster.

        Two callers of one name would reach each other's sessions.
        """
        names = sorted({entry.name for entry in self._entries} & beside.keys())
        if names:
            event(logging.ERROR, "identities_refused", names=names)
        return _known(entry for entry in self._entries if entry.name not in beside)

    def _checked(self, entries: tuple[Identity, ...]) -> tuple[Identity, ...]:
        names: set[str] = set()
        if entries:
            self._credentials.fresh_until = 0.0
            loaded = self._credentials.current()
            names = loaded.entries.keys() - loaded.carried.keys()
        for index, entry in enumerate(entries):
            if entry.name in names:
                raise ConfigError(
                    f"identities[{index}].name: {entry.name} is the name of an API key; choose another, or "
                    "remove that one with 'sessauth credential remove'"
                )
        return entries
