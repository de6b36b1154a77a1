"""The replay table: one call with a given proof is allowed, across all processes of a host.

All processes map one file: a header, a counter for each bucket, and buckets of 128 bytes, each a lock and fifteen
entries. An entry is 39 bits of a keyed hash of the chain's last signature and the nonce, and the second of its
expiry. The hash also selects the bucket. The key is random and unique to the table, so callers can't construct
collisions.

A valid entry is never displaced: without space the call is denied (docs/token-format.md, section 9.9).
docs/decisions.md explains the locks.
"""

import mmap
import os
from nacl.bindings import randombytes

cimport cython
from cpython.buffer cimport PyBUF_WRITABLE, Py_buffer, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from sessauth._fast.nonces.table_file import TableError, open_file
from sessauth._fast.nonces.table_file import create as create_file

cdef extern from * nogil:
    """
    #include <pthread.h>
    #include <stdint.h>
    #include <sys/stat.h>
    #include <time.h>
    #include <unistd.h>

    static inline uint64_t sessauth_load(const uint64_t *word) { return __atomic_load_n(word, __ATOMIC_SEQ_CST); }
    static inline int sessauth_swap(uint64_t *word, uint64_t old, uint64_t new_) {
        return __atomic_compare_exchange_n(word, &old, new_, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
    }
    static inline int64_t sessauth_checked(const int64_t *word) { return __atomic_load_n(word, __ATOMIC_RELAXED); }
    static inline void sessauth_set_checked(int64_t *word, int64_t value) {
        __atomic_store_n(word, value, __ATOMIC_RELAXED);
    }
    /* The value that the owner of a lock writes into it: unique over time and processes. */
    static uint64_t sessauth_stamps;
    static uint64_t sessauth_stamp(void) {
        uint64_t stamp;
        do {
            stamp = __atomic_add_fetch(&sessauth_stamps, 0x9E3779B97F4A7C15ULL, __ATOMIC_RELAXED);
        } while (stamp == 0);
        return stamp;
    }
    static void sessauth_restamp(void) {
        struct timespec t;
        clock_gettime(CLOCK_MONOTONIC, &t);
        sessauth_stamps ^= ((uint64_t) getpid() << 32) ^ ((uint64_t) t.tv_sec << 30) ^ (uint64_t) t.tv_nsec;
    }
    /* Without this a forked child would repeat its parent's values. */
    static int sessauth_stamps_begin(uint64_t secret) {
        sessauth_stamps = secret;
        return pthread_atfork(NULL, NULL, sessauth_restamp);
    }
    static void sessauth_wait(int turn) {
        struct timespec nap = {0, 50000};
        if (turn < 256) {
    #if defined(__x86_64__) || defined(__i386__)
            __builtin_ia32_pause();
    #endif
        }
        else
            nanosleep(&nap, NULL);
    }
    /* True if a file still has a name and its length: access beyond a truncated end is a crash. */
    static int sessauth_intact(int descriptor, size_t length) {
        struct stat found;
        return fstat(descriptor, &found) == 0 && found.st_nlink > 0 && (uint64_t) found.st_size == (uint64_t) length;
    }
    """
    int64_t checked "sessauth_checked"(const int64_t *word)
    void set_checked "sessauth_set_checked"(int64_t *word, int64_t value)
    uint64_t load "sessauth_load"(const uint64_t *word)
    bint swap "sessauth_swap"(uint64_t *word, uint64_t old, uint64_t new)
    uint64_t stamp "sessauth_stamp"()
    int stamps_begin "sessauth_stamps_begin"(uint64_t secret)
    void wait "sessauth_wait"(int turn)
    bint intact "sessauth_intact"(int descriptor, size_t length)
    int c_close "close"(int descriptor)

cdef enum:
    # As in table_file.
    TABLE_HEADER_BYTES = 4096
    LATEST_AT = 40
    # A lock that is held for longer belonged to a process that died.
    STEAL_AFTER_MS = 200
    GIVE_UP_AFTER_MS = 1000
    # Bits of an entry's expiry, in wrapped seconds. The hash is above them.
    SECOND_BITS = 0xFFFFFF
    # The longest life of an entry: twice the window, rounded up.
    MOST_SECONDS = 62
    # The period of a holder's quota is two to this power, in seconds.
    PERIOD_BITS = 6

# Set in every entry, so that no entry is zero.
cdef uint64_t ENTRY_BIT = <uint64_t> 1 << 63

if stamps_begin(int.from_bytes(randombytes(8), "little")) != 0:
    raise ImportError("no memory for a fork handler")


# --- consuming a nonce -----------------------------------------------------------------------------

# Consume a nonce, once on this host. ALLOWED, or the reason of the denial.
cdef int table_insert(
    Table *table, bytes_t last_signature, bytes_t nonce, bytes_t next_key, uint64_t time_ms, uint64_t now_ms
) noexcept nogil:
    cdef unsigned char name[64 + 16]
    cdef uint64_t hash, mine
    cdef uint64_t *bucket
    cdef int reason
    if table == NULL or not _table_is_whole(table):
        return PROOF_UNAVAILABLE
    if time_ms + PROOF_WINDOW_MS < now_ms or time_ms > now_ms + PROOF_WINDOW_MS or time_ms < table.made_at_ms:
        return STALE_PROOF
    if time_ms + PROOF_WINDOW_MS < _raise_latest(table, now_ms // 1000) * 1000:
        return STALE_PROOF
    memcpy(name, last_signature, 64)
    memcpy(name + 64, nonce, 16)
    hash = siphash(name, 64 + 16, table.keys[0])
    bucket = table.buckets + (hash & table.mask) * BUCKET_WORDS
    mine = _lock(bucket)
    if mine == 0:
        return PROOF_UNAVAILABLE
    reason = _insert_locked(table, bucket, hash, next_key, time_ms)
    # A process that lost its lock may have read the bucket during another's change.
    return reason if swap(bucket, mine, 0) else PROOF_UNAVAILABLE


cdef bint _table_is_whole(Table *table) noexcept nogil:
    """Check name and length of the file, once a millisecond: the system call costs as much as a hash."""
    cdef int64_t now = steady_ms()
    if now == checked(&table.checked_ms):
        return True
    if not intact(table.descriptor, table.length):
        return False
    set_checked(&table.checked_ms, now)
    return True


cdef int _insert_locked(Table *table, uint64_t *bucket, uint64_t hash, bytes_t next_key, uint64_t time_ms) noexcept nogil:
    cdef uint64_t latest = load(table.latest_s)
    cdef uint64_t ends_s = (time_ms + PROOF_WINDOW_MS) // 1000 + 1
    cdef uint64_t entry = (hash & ~(<uint64_t> SECOND_BITS)) | ENTRY_BIT | (ends_s & SECOND_BITS)
    cdef uint64_t word
    cdef uint64_t old = 0
    cdef int room = 0
    cdef int i
    for i in range(1, BUCKET_WORDS):
        word = load(bucket + i)
        if word != 0 and 0 < ((word - latest) & SECOND_BITS) <= MOST_SECONDS:
            if (word ^ entry) & ~(<uint64_t> SECOND_BITS) == 0:
                return REPLAYED
        elif room == 0:
            room = i
            old = word
    if room == 0 or not _count(table, next_key, latest):
        return PROOF_UNAVAILABLE
    # Not a plain store: a process that lost its lock may continue here at any time.
    if not swap(bucket + room, old, entry):
        return PROOF_UNAVAILABLE
    # Time may have moved on, and an expired entry of this nonce may have been displaced.
    return STALE_PROOF if time_ms + PROOF_WINDOW_MS < load(table.latest_s) * 1000 else ALLOWED


cdef uint64_t _raise_latest(Table *table, uint64_t now_s) noexcept nogil:
    """Raise and return the latest second. Time never goes back, so a displaced entry can't become valid again."""
    cdef uint64_t latest = load(table.latest_s)
    while latest < now_s:
        if swap(table.latest_s, latest, now_s):
            return now_s
        latest = load(table.latest_s)
    return latest


cdef bint _count(Table *table, bytes_t next_key, uint64_t now_s) noexcept nogil:
    """Count one proof of a holder. False beyond its quota for the period."""
    cdef uint64_t *counter = table.counters + (siphash(next_key, 32, table.keys[1]) & table.mask)
    cdef uint64_t period = now_s >> PERIOD_BITS << 32
    cdef uint64_t word = load(counter)
    cdef uint64_t begun
    while True:
        begun = word if word >> 32 << 32 == period else period
        if <uint32_t> begun >= table.quota:
            return False
        if swap(counter, word, begun + 1):
            return True
        word = load(counter)


cdef uint64_t _lock(uint64_t *lock) noexcept nogil:
    """Acquire a lock, also from a dead owner. Return the value written into it, or 0."""
    cdef uint64_t mine = stamp()
    cdef uint64_t seen = 0
    cdef uint64_t word
    cdef int64_t begun, since, now
    cdef int turn = 0
    if swap(lock, 0, mine):
        return mine
    begun = since = steady_ms()
    while True:
        word = load(lock)
        if word == 0:
            if swap(lock, 0, mine):
                return mine
        else:
            now = steady_ms()
            if word != seen:
                seen = word
                since = now
            elif now - since >= STEAL_AFTER_MS and swap(lock, word, mine):
                return mine
            if now - begun >= GIVE_UP_AFTER_MS:
                return 0
        wait(turn)
        turn += 1


# --- the table as an object ---------------------------------------------------------------------

@cython.final
cdef class ReplayTable:
    """A replay table that is open in this process. Created by ``create`` and ``open``."""

    def __cinit__(self):
        self.table.descriptor = -1
        self.table.checked_ms = -1

    def __init__(self):
        raise TypeError("ReplayTable.create makes a table, ReplayTable.open opens one")

    def __dealloc__(self):
        if self.table.descriptor >= 0:
            c_close(self.table.descriptor)

    @staticmethod
    def create(path, Py_ssize_t slots, uint64_t now_ms, *, bint proofs_before=False):
        """Put a new table in place and open it.

        Args:
            path: the path of the file. An existing file is replaced, and processes that have it open then refuse.
            slots: the size in words of 8 bytes, a power of two from 256 to 2**28.
            now_ms: the time, in ms since 1970.
            proofs_before: True if the host may have allowed proofs that no table lists, because it is lost. Then
                only proofs from 31 s after now count, since a holder's clock may be 30 s ahead. Implied by an
                existing file.

        Raises:
            ValueError: for another number of slots.
            TableError: when the file can't be created.
        """
        name = os.fsdecode(path)
        create_file(name, slots, now_ms, proofs_before=proofs_before)
        return ReplayTable.open(name)

    @staticmethod
    def open(path):
        """Open the table at a path.

        Raises:
            TableError: when the file is missing, truncated, damaged, of another format, from an earlier boot of
                this machine, open to everybody, or not writable for this process.
        """
        cdef ReplayTable out = ReplayTable.__new__(ReplayTable)
        out._open(os.fsdecode(path))
        return out

    cdef int _open(self, str path) except -1:
        cdef Py_buffer buffer
        cdef unsigned char *base
        cdef uint64_t count
        cdef bytes secret
        self.path = path
        self.table.descriptor, slots, self.table.made_at_ms, secret = open_file(path)
        # Fails for a file that was truncated in the meantime.
        self._map = mmap.mmap(self.table.descriptor, 0, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        # The memory outlives the release: this object owns the mapping.
        PyObject_GetBuffer(self._map, &buffer, PyBUF_WRITABLE)
        base = <unsigned char *> buffer.buf
        self.table.length = buffer.len
        PyBuffer_Release(&buffer)
        count = slots // BUCKET_WORDS
        if self.table.length != TABLE_HEADER_BYTES + count * 8 * (1 + BUCKET_WORDS):
            raise TableError(f"the replay table {path} was cut: start the server on this host")
        self.table.mask = count - 1
        self.table.latest_s = <uint64_t *> (base + LATEST_AT)
        self.table.counters = <uint64_t *> (base + TABLE_HEADER_BYTES)
        self.table.buckets = self.table.counters + count
        # A holder's quota: a thirty-second of the table in 64 s.
        self.table.quota = <uint32_t> (count * BUCKET_WORDS // 32)
        memcpy(self.table.keys, PyBytes_AS_STRING(secret), 32)
        return 0

    def insert(
        self, bytes last_signature not None, bytes nonce not None, bytes next_key not None, uint64_t time_ms, uint64_t now_ms
    ):
        """Consume a nonce for a chain's last signature and a proof's time, once on this host.

        Returns:
            The number of a reason: ALLOWED; REPLAYED for a used nonce; STALE_PROOF for a time that is too far from
            ``now_ms`` or before the table; PROOF_UNAVAILABLE without space, beyond the quota of ``next_key``, or
            after the file was replaced.

        Raises:
            ValueError: for parts of other lengths than 64, 16 and 32 bytes.
        """
        cdef int reason
        cdef bytes_t signature = <bytes_t> PyBytes_AS_STRING(last_signature)
        cdef bytes_t once = <bytes_t> PyBytes_AS_STRING(nonce)
        cdef bytes_t key = <bytes_t> PyBytes_AS_STRING(next_key)
        if (len(last_signature), len(nonce), len(next_key)) != (64, 16, 32):
            raise ValueError("a signature has 64 bytes, a nonce 16, a key 32")
        with nogil:
            reason = table_insert(&self.table, signature, once, key, time_ms, now_ms)
        return reason

    @property
    def slots(self):
        """The size in words of 8 bytes."""
        return (self.table.mask + 1) * BUCKET_WORDS

    @property
    def made_at_ms(self):
        """The earliest time of an accepted proof, in ms since 1970."""
        return self.table.made_at_ms

    @property
    def latest_ms(self):
        """The latest second of a use, in ms since 1970: proofs that had expired by then are refused. 0: never used."""
        return load(self.table.latest_s) * 1000 if intact(self.table.descriptor, self.table.length) else 0

    @property
    def intact(self):
        """True if the opened file still has its path and its length."""
        if not intact(self.table.descriptor, self.table.length):
            return False
        try:
            current = os.stat(self.path, follow_symlinks=False)
        except OSError:
            return False
        # A moved or hard-linked file is still linked after another took its path.
        return os.path.samestat(current, os.fstat(self.table.descriptor))

    def __repr__(self):
        return f"<{type(self).__name__} {self.path}, {self.slots} slots>"
