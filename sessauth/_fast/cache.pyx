"""The cache of verified chains.

Whether signatures over given bytes are right never changes, so a chain is kept by its exact bytes,
signatures included, and so are its proper prefixes (by BLAKE2b-256 of their bytes): a new child of a
known parent costs only its own blocks' signatures. Nothing else of a decision is kept.

Replacement is S3-FIFO (Yang et al., SOSP 2023): newcomers wait in a small queue and leave it unless
they are asked for again; a list of names lately gone lets a returning one enter the main queue at
once. A hit only sets a counter. On top, no session may hold more than its quota: a flood of one-off
tokens from one agent displaces that agent's own. Everything is weighed in bytes.
"""

from collections import OrderedDict

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject

from sessauth._fast.chain cimport Chain
from sessauth._fast.ed25519 cimport blake2b_256

cdef enum:
    IN_SMALL = 1
    IN_MAIN = 2
    # What a prefix costs: a 32-byte digest, in two ordered dicts.
    PREFIX_BYTES = 400
    MAX_HITS = 3


cdef bytes _prefix_name(Chain chain, int count):
    """The digest of the chain's first ``count`` blocks as they stand."""
    cdef unsigned char digest[32]
    blake2b_256(digest, chain.base, chain.ends[count - 1])
    return PyBytes_FromStringAndSize(<const char *> digest, 32)


cdef class _Share:
    """What one session holds."""

    cdef size_t used
    cdef object chains
    cdef object prefixes

    def __cinit__(self):
        self.chains = OrderedDict()
        self.prefixes = OrderedDict()


cdef class Cache:
    """Verified chains, at most ``capacity`` bytes of them, ``quota`` bytes for a session."""

    def __cinit__(self, size_t capacity, size_t quota=0):
        self.capacity = capacity
        # A chain that fits its session's quota must fit the cache: room is made until it does.
        self.quota = min(quota or capacity // 16, capacity)
        self._chains = {}
        self._small = OrderedDict()
        self._main = OrderedDict()
        self._ghost = OrderedDict()
        self._shares = {}
        self._prefixes = OrderedDict()

    def __len__(self):
        return len(self._chains)

    @property
    def prefix_count(self):
        """How many verified prefixes are known."""
        return len(self._prefixes)

    cdef Chain find(self, bytes token):
        cdef PyObject *found = PyDict_GetItem(self._chains, token)
        cdef Chain chain
        if found == NULL:
            self.misses += 1
            return None
        chain = <Chain> found
        self.hits += 1
        if chain.hits < MAX_HITS:
            chain.hits += 1
        return chain

    cdef int verified_blocks(self, Chain chain) except -1:
        """Return how many leading blocks stand already, from the longest known proper prefix."""
        cdef int count
        for count in range(chain.block_count - 1, 0, -1):
            name = _prefix_name(chain, count)
            if name in self._prefixes:
                self._prefixes.move_to_end(name)
                return count
        return 0

    cdef int keep(self, Chain chain) except -1:
        """Keep a chain whose signatures stand; the caller vouches for them."""
        cdef _Share share
        cdef size_t weight = chain.weight()
        if weight > self.quota or chain.raw in self._chains:
            return 0
        share = self._share(chain.session_id)
        while share.used + weight > self.quota and share.chains:
            self._drop(next(iter(share.chains.values())))
        self.used += weight
        while self.used > self.capacity:
            self._make_room()
        chain.kept = weight
        chain.hits = 0
        self._chains[chain.raw] = chain
        # Dropping its last chain took the share out of the table.
        share = self._share(chain.session_id)
        share.used += weight
        share.chains[chain.raw] = chain
        if self._ghost.pop(hash(chain.raw), None) is None:
            chain.queue = IN_SMALL
            self._small[chain.raw] = chain
            self._small_used += weight
        else:
            chain.queue = IN_MAIN
            self._main[chain.raw] = chain
        self._keep_prefixes(chain)
        return 0

    cdef object _share(self, bytes session_id):
        share = self._shares.get(session_id)
        if share is None:
            share = self._shares[session_id] = _Share()
        return share

    cdef int _drop(self, Chain chain) except -1:
        cdef _Share share = self._shares[chain.session_id]
        del self._chains[chain.raw]
        if chain.queue == IN_SMALL:
            del self._small[chain.raw]
            self._small_used -= chain.kept
            self._ghost[hash(chain.raw)] = True
            if len(self._ghost) > 1024 + 2 * len(self._chains):
                self._ghost.popitem(last=False)
        else:
            del self._main[chain.raw]
        self.used -= chain.kept
        self.evicted += 1
        share.used -= chain.kept
        del share.chains[chain.raw]
        if not share.chains and not share.prefixes:
            del self._shares[chain.session_id]
        return 0

    cdef int _make_room(self) except -1:
        cdef Chain chain
        if self._small and (self._small_used > self.capacity // 10 or not self._main):
            chain = next(iter(self._small.values()))
            if chain.hits == 0:
                return self._drop(chain)
            del self._small[chain.raw]
            self._small_used -= chain.kept
            chain.queue = IN_MAIN
            chain.hits = 0
            self._main[chain.raw] = chain
            return 0
        if not self._main:
            return 0
        chain = next(iter(self._main.values()))
        if chain.hits == 0:
            return self._drop(chain)
        chain.hits -= 1
        self._main.move_to_end(chain.raw)
        return 0

    cdef int _keep_prefixes(self, Chain chain) except -1:
        cdef _Share share
        cdef int count
        cdef size_t own_room = self.quota // (8 * PREFIX_BYTES) + 1
        cdef size_t room = self.capacity // (8 * PREFIX_BYTES) + 1
        if chain.block_count == 1:
            return 0
        share = self._share(chain.session_id)
        for count in range(1, chain.block_count):
            name = _prefix_name(chain, count)
            if name in self._prefixes:
                self._prefixes.move_to_end(name)
                share.prefixes.move_to_end(name)
                continue
            self._prefixes[name] = chain.session_id
            share.prefixes[name] = True
            if <size_t> len(share.prefixes) > own_room:
                del self._prefixes[share.prefixes.popitem(last=False)[0]]
            if <size_t> len(self._prefixes) > room:
                self._forget_oldest_prefix()
        return 0

    def _forget_oldest_prefix(self):
        cdef _Share share
        name, session_id = self._prefixes.popitem(last=False)
        share = self._shares[session_id]
        del share.prefixes[name]
        if not share.chains and not share.prefixes:
            del self._shares[session_id]
