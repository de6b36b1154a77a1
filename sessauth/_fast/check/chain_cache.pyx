"""The cache of verified chains.

The validity of signatures over given bytes never changes. So a chain is cached by its exact bytes, signatures
included, and with it each run of its leading blocks: a new child of a known parent costs only the signatures of its
own blocks. No other part of a decision is cached.

A run of blocks is looked up by sixteen bytes of its last signature, mixed with a secret; then all bytes are
compared. So no token is hashed as a whole, and none is mistaken for another. The sixteen bytes are from the
signature's second half, S. A holder who signs its own blocks may reuse one nonce, which makes first halves
equal; S depends on the message, and a holder can steer it by trial only. The secret defeats trial.

Replacement is S3-FIFO (Yang et al., SOSP 2023). New chains enter a small queue and leave it unless they are
hit again. Ghost entries of recently evicted chains let a returning one enter the main queue at once. A hit only
increments a counter. In addition no session may use more than its quota: a flood of one-off tokens from one
agent displaces that agent's own. All weights are in bytes.

A chain that is presented as text more than once keeps its text, and is then found by it without decoding. The text
counts as part of its weight.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy
from nacl.bindings import randombytes


# Rings of links: a queue of chains whose end has no owner.

cdef inline void link_init(Link *link) noexcept:
    link.before = link
    link.behind = link
    link.owner = NULL

cdef inline void link_add(Link *end, Link *link) noexcept:
    """Insert a link before the end of a ring."""
    link.before = end.before
    link.behind = end
    end.before.behind = link
    end.before = link

cdef inline void link_remove(Link *link) noexcept:
    link.before.behind = link.behind
    link.behind.before = link.before

cdef inline void release_all(Link *end):
    cdef Link *link = end.behind
    cdef PyObject *owner
    while link.owner != NULL:
        owner = link.owner
        link = link.behind
        Py_DECREF(<object> owner)


cdef extern from * nogil:
    """
    static inline unsigned long long sessauth_mix(unsigned long long a, unsigned long long b) {
        unsigned __int128 product = (unsigned __int128) a * b;
        return (unsigned long long) product ^ (unsigned long long) (product >> 64);
    }
    """
    uint64_t mix "sessauth_mix"(uint64_t a, uint64_t b)

cdef enum:
    IN_SMALL = 1
    IN_MAIN = 2
    MAX_HITS = 3
    FIRST_SLOTS = 64
    # More probes mean an attempt at collisions, or bad luck: such a chain is not cached.
    MAX_PROBES = 64
    COUNT_BITS = 15
    # A bytes object, with the allocator's overhead.
    TEXT_BYTES = 48


cdef class _Share:
    """The cached chains of one session, the oldest first."""

    cdef size_t used
    cdef Link chains

    def __cinit__(self):
        link_init(&self.chains)


cdef class ChainCache:
    """Verified chains: at most ``capacity`` bytes in total and ``quota`` bytes a session."""

    def __cinit__(self, size_t capacity, size_t quota=0):
        cdef bytes secret = randombytes(16)
        memcpy(self._keys, <const char *> secret, 16)
        self.capacity = capacity
        # A chain within its session's quota must fit the cache: eviction runs until it does.
        self.quota = min(quota or capacity // 16, capacity)
        self._shares = {}
        link_init(&self._small)
        link_init(&self._main)
        self._mask = FIRST_SLOTS - 1
        self._slots = <CacheEntry *> calloc(FIRST_SLOTS, sizeof(CacheEntry))
        self._ghosts = <GhostEntry *> calloc(FIRST_SLOTS // 2, sizeof(GhostEntry))
        if self._slots == NULL or self._ghosts == NULL:
            raise MemoryError

    def __dealloc__(self):
        # The queues own a reference to each chain.
        release_all(&self._small)
        release_all(&self._main)
        free(self._slots)
        free(self._ghosts)

    def __len__(self):
        return self._count

    @property
    def prefix_count(self):
        """The number of cached verified prefixes that are not whole chains."""
        return self._filled - self._count

    cdef Chain find(self, bytes_t p, size_t n):
        cdef CacheEntry *slot
        cdef Chain chain
        cdef uint64_t tag
        cdef size_t i
        cdef bytes_t signature = last_signature(p, n)
        if signature != NULL:
            tag = self._hash(signature)
            i = (tag >> 8) & self._mask
            while True:
                slot = &self._slots[i]
                if slot.chain == NULL:
                    break
                if (slot.tag ^ tag) <= COUNT_BITS:
                    chain = <Chain> slot.chain
                    if (
                        chain.length == n
                        and <int> (slot.tag & COUNT_BITS) == chain.block_count - 1
                        and memcmp(chain.base, p, n) == 0
                    ):
                        self.hits += 1
                        if chain.hits < MAX_HITS:
                            chain.hits += 1
                        return chain
                i = (i + 1) & self._mask
        self.misses += 1
        return None

    cdef Chain find_text(self, bytes_t p, size_t n):
        cdef unsigned char half[16]
        cdef CacheEntry *slot
        cdef Chain chain
        cdef uint64_t tag
        cdef size_t i
        if not text_signature(p, n, half):
            return None
        tag = self._hash_half(half)
        i = (tag >> 8) & self._mask
        while True:
            slot = &self._slots[i]
            if slot.chain == NULL:
                return None
            if (slot.tag ^ tag) <= COUNT_BITS:
                chain = <Chain> slot.chain
                if (
                    chain.text is not None
                    and <size_t> PyBytes_GET_SIZE(chain.text) == n
                    and <int> (slot.tag & COUNT_BITS) == chain.block_count - 1
                    and memcmp(PyBytes_AS_STRING(chain.text), p, n) == 0
                ):
                    self.hits += 1
                    if chain.hits < MAX_HITS:
                        chain.hits += 1
                    return chain
            i = (i + 1) & self._mask

    cdef int keep_text(self, Chain chain, bytes_t p, size_t n) except -1:
        cdef _Share share = self._shares.get(chain.session_id)
        cdef size_t weight = n + TEXT_BYTES
        if share is None or chain.text is not None or share.used + weight > self.quota:
            return 0
        while chain.cached_bytes and self.used + weight > self.capacity:
            self._make_room()
        if chain.cached_bytes:
            chain.text = PyBytes_FromStringAndSize(<const char *> p, n)
            chain.cached_bytes += weight
            self.used += weight
            share.used += weight
            if chain.queue == IN_SMALL:
                self._small_used += weight
        return 0

    cdef int verified_blocks(self, Chain chain) noexcept:
        """Return the number of leading blocks in the longest verified run, and note whether they are unrevoked."""
        cdef CacheEntry *slot
        cdef Chain known
        cdef int count
        for count in range(chain.block_count, 0, -1):
            slot = self._find_run(chain, count)
            if slot != NULL:
                known = <Chain> slot.chain
                if known.revoked_index < 0:
                    chain.unrevoked_blocks = count
                    chain.unrevoked_mark = known.revocation_mark
                return count
        return 0

    cdef int add(self, Chain chain) except -1:
        """Cache a chain whose signatures the caller verified."""
        cdef _Share share
        cdef Chain oldest
        cdef CacheEntry *slot
        cdef size_t weight = chain.weight()
        cdef GhostEntry *ghost
        cdef uint64_t tag
        if weight > self.quota:
            return 0
        slot = self._find_run(chain, chain.block_count)
        if slot != NULL and (<Chain> slot.chain).block_count == chain.block_count:
            return 0
        share = self._shares.get(chain.session_id)
        while share is not None and share.chains.behind.owner != NULL and share.used + weight > self.quota:
            oldest = <Chain> share.chains.behind.owner
            if oldest.hits == 0:
                self._drop(oldest)
                continue
            # Hit since: one-off tokens go first, also those of its own session.
            oldest.hits -= 1
            link_remove(&oldest.session_link)
            link_add(&share.chains, &oldest.session_link)
        while self.used + weight > self.capacity:
            self._make_room()
        # Look again: dropping the session's last chain removed its share from the table.
        share = self._shares.get(chain.session_id)
        if share is None:
            share = self._shares[chain.session_id] = _Share()
        tag = self._hash(chain.base + chain.blocks[chain.block_count - 1].signature)
        # The chain may be cached as the beginning of a longer one.
        slot = self._find_run(chain, chain.block_count)
        if slot != NULL:
            slot.chain = <PyObject *> chain
        elif not self._insert(tag | (chain.block_count - 1), chain):
            if share.chains.behind.owner == NULL:
                del self._shares[chain.session_id]
            return 0
        # The table points to the chain from here on. Nothing below raises.
        Py_INCREF(chain)
        self._register(chain)
        chain.cached_bytes = weight
        chain.hits = 0
        self.used += weight
        self._count += 1
        share.used += weight
        chain.session_link.owner = chain.queue_link.owner = <PyObject *> chain
        link_add(&share.chains, &chain.session_link)
        ghost = self._ghost(tag)
        # Ghost entries last for as many evictions as two full caches.
        if ghost.tag == <uint32_t> (tag >> 32) and <uint32_t> self.evicted - ghost.evicted <= 2 * self._count:
            ghost.tag = 0
            chain.queue = IN_MAIN
            link_add(&self._main, &chain.queue_link)
        else:
            chain.queue = IN_SMALL
            link_add(&self._small, &chain.queue_link)
            self._small_used += weight
        return 0

    cdef uint64_t _hash(self, bytes_t signature) noexcept:
        return self._hash_half(signature + 32)

    cdef uint64_t _hash_half(self, bytes_t half) noexcept:
        """Return the keyed hash of a signature, by its second half, its low four bits zero; never 0."""
        cdef uint64_t words[2]
        memcpy(words, half, 16)
        return (mix(words[0] ^ self._keys[0], words[1] ^ self._keys[1]) | 16) & ~(<uint64_t> COUNT_BITS)

    cdef CacheEntry *_find_run(self, Chain chain, int count) noexcept:
        """Return the slot of the chain's first ``count`` blocks, compared byte for byte, or NULL."""
        cdef size_t n = chain.ends[count - 1]
        cdef uint64_t tag = self._hash(chain.base + chain.blocks[count - 1].signature) | (count - 1)
        cdef size_t i = (tag >> 8) & self._mask
        cdef CacheEntry *slot
        while True:
            slot = &self._slots[i]
            if slot.chain == NULL:
                return NULL
            if slot.tag == tag and (<Chain> slot.chain).ends[count - 1] == <int> n:
                if memcmp((<Chain> slot.chain).base, chain.base, n) == 0:
                    return slot
            i = (i + 1) & self._mask

    cdef bint _insert(self, uint64_t tag, Chain chain) noexcept:
        """Fill a slot. False if none is near."""
        cdef size_t i, _probe
        if 2 * (self._filled + 1) > self._mask + 1 and not self._grow():
            return False
        i = (tag >> 8) & self._mask
        for _probe in range(<size_t> MAX_PROBES):
            if self._slots[i].chain == NULL:
                self._slots[i].tag = tag
                self._slots[i].chain = <PyObject *> chain
                self._filled += 1
                return True
            i = (i + 1) & self._mask
        return False

    cdef void _erase(self, CacheEntry *slot) noexcept:
        """Clear a slot and move the displaced entries after it forward."""
        cdef size_t hole = slot - self._slots
        cdef size_t i = hole
        cdef size_t home
        self._filled -= 1
        while True:
            i = (i + 1) & self._mask
            if self._slots[i].chain == NULL:
                break
            home = (self._slots[i].tag >> 8) & self._mask
            if ((i - home) & self._mask) >= ((i - hole) & self._mask):
                self._slots[hole] = self._slots[i]
                hole = i
        self._slots[hole].chain = NULL

    cdef bint _grow(self) noexcept:
        """Double the table. False without memory."""
        cdef size_t size = self._mask + 1
        cdef CacheEntry *old = self._slots
        cdef CacheEntry *slots = <CacheEntry *> calloc(2 * size, sizeof(CacheEntry))
        cdef GhostEntry *ghosts = <GhostEntry *> calloc(size, sizeof(GhostEntry))
        cdef size_t i, k
        if slots == NULL or ghosts == NULL:
            free(slots)
            free(ghosts)
            return False
        self._mask = 2 * size - 1
        self._slots = slots
        for i in range(size):
            if i < size // 2:
                ghosts[self._ghosts[i].tag & (size - 1)] = self._ghosts[i]
            if old[i].chain == NULL:
                continue
            k = (old[i].tag >> 8) & self._mask
            while slots[k].chain != NULL:
                k = (k + 1) & self._mask
            slots[k] = old[i]
        free(self._ghosts)
        free(old)
        self._ghosts = ghosts
        return True

    cdef GhostEntry *_ghost(self, uint64_t tag) noexcept:
        """Return the ghost entry of a tag: half as many entries as slots, each for its latest tag."""
        return &self._ghosts[(tag >> 32) & (self._mask >> 1)]

    cdef void _register(self, Chain chain) noexcept:
        """Make the newest chain the owner of each of its proper runs: it will stay the longest."""
        cdef CacheEntry *slot
        cdef int count
        for count in range(1, chain.block_count):
            slot = self._find_run(chain, count)
            if slot == NULL:
                self._insert(self._hash(chain.base + chain.blocks[count - 1].signature) | (count - 1), chain)
            elif (<Chain> slot.chain).block_count > count:
                slot.chain = <PyObject *> chain

    cdef int _drop(self, Chain chain) except -1:
        cdef _Share share = self._shares[chain.session_id]
        cdef CacheEntry *slot
        cdef GhostEntry *ghost
        cdef uint64_t tag
        cdef int count
        for count in range(1, chain.block_count + 1):
            slot = self._find_run(chain, count)
            if slot != NULL and slot.chain == <PyObject *> chain:
                self._erase(slot)
        link_remove(&chain.queue_link)
        link_remove(&chain.session_link)
        if chain.queue == IN_SMALL:
            self._small_used -= chain.cached_bytes
            tag = self._hash(chain.base + chain.blocks[chain.block_count - 1].signature)
            ghost = self._ghost(tag)
            ghost.tag = <uint32_t> (tag >> 32)
            ghost.evicted = <uint32_t> self.evicted
        self.used -= chain.cached_bytes
        self._count -= 1
        self.evicted += 1
        share.used -= chain.cached_bytes
        chain.cached_bytes = 0
        chain.text = None
        if share.chains.behind.owner == NULL:
            del self._shares[chain.session_id]
        Py_DECREF(chain)
        return 0

    cdef int _make_room(self) except -1:
        cdef Chain chain
        if self._small.behind.owner != NULL and (
            self._small_used > self.capacity // 10 or self._main.behind.owner == NULL
        ):
            chain = <Chain> self._small.behind.owner
            if chain.hits == 0:
                return self._drop(chain)
            link_remove(&chain.queue_link)
            self._small_used -= chain.cached_bytes
            chain.queue = IN_MAIN
            chain.hits = 0
            link_add(&self._main, &chain.queue_link)
            return 0
        chain = <Chain> self._main.behind.owner
        if chain.hits == 0:
            return self._drop(chain)
        chain.hits -= 1
        link_remove(&chain.queue_link)
        link_add(&self._main, &chain.queue_link)
        return 0
