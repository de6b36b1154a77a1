"""A chain: the blocks of a token and their signatures.

Parsing is one pass over the bytes. It compiles all that checks read, and verifies no signature. Verification covers
only bytes as received: label, index, previous signature, payload (docs/token-format.md, section 3.1).
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint16_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, memset

from sessauth._fast.codec.errors import FormError

cdef enum:
    BLOCK_LABEL_BYTES = 18      # including its zero byte
    HEADER_BYTES = 83           # label, index, previous signature
    # This object and the token's bytes object, with the allocator's overhead.
    CHAIN_BYTES = 424
    BLOCK_BYTES = 32 + 4 * 16

cdef const char *BLOCK_LABEL = "sessauth/block/v1"


cdef class Chain:
    """A parsed chain. Its content is not trustworthy before ``verify``."""

    def __cinit__(self):
        arena_init(&self.arena)
        self.blocks = NULL
        self.ids = NULL
        self.digest = NULL
        self.mac_keys = NULL
        self.max_blocks = MAX_BLOCKS
        self.wrong_index = -1
        self.revoked_index = -1

    def __dealloc__(self):
        arena_free(&self.arena)

    @staticmethod
    def parse(bytes token not None):
        """Return the chain of a presented token's bytes (an open last block is accepted here).

        Raises FormError with the reason of stage ``decode`` for anything else.
        """
        cdef int reason = 0
        cdef int at = -1
        cdef const char *wrong = NULL
        cdef Chain chain = parse_chain(token, &reason, &at, &wrong)
        if chain is None:
            detail = wrong.decode("ascii")
            raise FormError(reason, detail if at < 0 else f"block {at}: {detail}")
        return chain

    cdef const char *_parse(self, int *reason, int *at) noexcept nogil:
        cdef WireReader reader
        cdef WireReader signed
        cdef WireReader inner
        cdef uint32_t number, wire
        cdef uint64_t version
        cdef Block *block
        cdef const char *wrong
        cdef size_t n = self.length
        if n > MAX_TOKEN_BYTES:
            reason[0] = TOKEN_TOO_LARGE
            return "more than 8192 bytes"
        reader.p = self.base
        reader.end = self.base + n
        reason[0] = MALFORMED_TOKEN
        if n < 2 or not read_tag(&reader, &number, &wire) or number != 1 or wire != 0:
            return "no version"
        if not read_varint(&reader, &version) or version == 0 or version > 0xFFFFFFFFULL:
            return "version"
        if version != 1:
            reason[0] = UNSUPPORTED_VERSION
            return "a version other than 1"
        while reader.p < reader.end:
            if not read_tag(&reader, &number, &wire) or number != 2 or wire != WIRE_BYTES:
                return "unknown field"
            if self.blocks == NULL:
                wrong = take_run(
                    reader, 2, MAX_BLOCKS, sizeof(Block), &self.arena, <void **> &self.blocks, "1 to 16 blocks"
                )
                if wrong != NULL:
                    return wrong
            at[0] = self.block_count
            if self.block_count == MAX_BLOCKS or not read_bytes(&reader, &signed):
                return "length"
            block = &self.blocks[self.block_count]
            if not read_tag(&signed, &number, &wire) or number != 1 or wire != WIRE_BYTES:
                return "no signature"
            if not read_bytes(&signed, &inner) or inner.end - inner.p != SIGNATURE_BYTES:
                return "a signature has 64 bytes"
            block.signature = <uint16_t> (inner.p - self.base)
            if signed.p >= signed.end or not read_tag(&signed, &number, &wire) or number != 2 or wire != WIRE_BYTES:
                return "no payload"
            if not read_bytes(&signed, &inner) or inner.p == inner.end or signed.p != signed.end:
                return "payload"
            wrong = parse_block(inner, self.base, &self.arena, self.block_count == 0, &self.root, block)
            if wrong != NULL:
                return wrong
            block.payload.at = <uint16_t> (inner.p - self.base)
            block.payload.n = <uint16_t> (inner.end - inner.p)
            self.ends[self.block_count] = <uint16_t> (reader.p - self.base)
            self.block_count += 1
        at[0] = -1
        if self.block_count == 0:
            return "no block"
        return self._relate(reason, at)

    cdef const char *_relate(self, int *reason, int *at) noexcept nogil:
        """Validate relations between blocks: order of times, endings, keys."""
        cdef Block *block
        cdef uint64_t issued = 0
        cdef uint64_t expires = 0
        cdef uint64_t not_before = 0
        cdef bint only_bound = 0
        cdef bytes_t keys[2 * MAX_BLOCKS]
        cdef int key_count = 0
        cdef bytes_t added[2]
        cdef unsigned char digest[32]
        cdef int i, j, k, count
        for i in range(self.block_count):
            at[0] = i
            block = &self.blocks[i]
            if i == 0 and (block.issued_at_ms == 0 or block.expires_at_ms == 0):
                return "a root states issued_at and expires_at"
            if block.issued_at_ms:
                if block.issued_at_ms < issued:
                    return "issued before its parent"
                issued = block.issued_at_ms
            if block.expires_at_ms:
                if expires and block.expires_at_ms > expires:
                    return "expires after its parent"
                expires = block.expires_at_ms
                if expires <= issued:
                    return "expires before it is issued"
            if block.not_before_ms:
                if block.not_before_ms < not_before:
                    return "valid before its parent"
                not_before = block.not_before_ms
            if block.max_blocks:
                if block.max_blocks > self.max_blocks:
                    return "max_blocks above its parent's"
                self.max_blocks = block.max_blocks
            self.any_unknown |= block.unknown
            if block.ending == 0:
                return "no ending"
            if block.ending == ENDING_SEALED:
                if block.next_key or block.proof_key or block.may_seal:
                    return "a sealed block names no key"
                if i != self.block_count - 1:
                    return "a block behind a sealed one"
            elif not block.next_key:
                return "no next_key"
            elif block.ending == ENDING_OPEN and (block.proof_key or block.may_seal):
                return "an open block has no proof_key and no may_seal"
            if i == 0 and block.ending != ENDING_BOUND and block.audience.count == 0:
                return "a sealed or open root names an audience"
            if only_bound and (block.ending != ENDING_BOUND or block.may_seal):
                return "below a bound block that does not say may_seal"
            only_bound |= block.ending == ENDING_BOUND and not block.may_seal
            count = 0
            if block.next_key:
                added[0] = self.base + block.next_key
                count = 1
                if not acceptable(added[0]):
                    return "next_key is not canonical or of small order"
                blake2b_256(digest, added[0], 32)
                if memcmp(digest, self.base + self.root.issuer_key_id, 32) == 0:
                    return "next_key is the issuer key"
            if block.proof_key:
                added[count] = self.base + block.proof_key
                count += 1
            for k in range(count):
                for j in range(key_count):
                    if memcmp(keys[j], added[k], 32) == 0:
                        return "a key is used twice"
                keys[key_count] = added[k]
                key_count += 1
        at[0] = -1
        if self.block_count > self.max_blocks:
            reason[0] = CHAIN_TOO_LONG
            return "longer than a block in it permits"
        self.issued_at_ms = issued
        self.expires_at_ms = expires
        self.not_before_ms = not_before
        if self.blocks[self.block_count - 1].proof_key:
            self.mac_keys = <MacKeys *> arena_take(&self.arena, sizeof(MacKeys))
            if self.mac_keys == NULL:
                return "out of memory"
            memset(self.mac_keys, 0, sizeof(MacKeys))
        return NULL

    cdef int verify_from(self, int first, bytes_t issuer_key) noexcept nogil:
        """Verify the blocks from index ``first``. Return -1, or the index of the first wrong one."""
        cdef unsigned char signed[SIGNATURE_BYTES + HEADER_BYTES + MAX_TOKEN_BYTES]
        cdef Block *block
        cdef bytes_t key
        cdef int i
        memcpy(signed + SIGNATURE_BYTES, BLOCK_LABEL, BLOCK_LABEL_BYTES)
        for i in range(first, self.block_count):
            block = &self.blocks[i]
            memcpy(signed, self.base + block.signature, SIGNATURE_BYTES)
            self_header(self, i, signed + SIGNATURE_BYTES)
            memcpy(signed + SIGNATURE_BYTES + HEADER_BYTES, self.base + block.payload.at, block.payload.n)
            key = issuer_key if i == 0 else self.base + self.blocks[i - 1].next_key
            if not verify_signed(signed, SIGNATURE_BYTES + HEADER_BYTES + block.payload.n, key):
                return i
        return -1

    cdef bint compute_ids(self) noexcept nogil:
        """Compute the block ids once. 0 without memory."""
        cdef unsigned char signed[HEADER_BYTES + MAX_TOKEN_BYTES]
        cdef unsigned char *ids
        cdef Block *block
        cdef int i
        if self.ids != NULL:
            return 1
        ids = <unsigned char *> arena_take(&self.arena, 32 * self.block_count)
        if ids == NULL:
            return 0
        memcpy(signed, BLOCK_LABEL, BLOCK_LABEL_BYTES)
        for i in range(self.block_count):
            block = &self.blocks[i]
            self_header(self, i, signed)
            memcpy(signed + HEADER_BYTES, self.base + block.payload.at, block.payload.n)
            blake2b_256(ids + 32 * i, signed, HEADER_BYTES + block.payload.n)
        self.ids = ids
        return 1

    cdef const unsigned char *compute_digest(self) noexcept nogil:
        """Compute the digest of the token's bytes once."""
        cdef unsigned char *digest
        if self.digest == NULL:
            digest = <unsigned char *> arena_take(&self.arena, 32)
            if digest == NULL:
                return NULL
            blake2b_256(digest, self.base, self.length)
            self.digest = digest
        return self.digest

    cdef size_t weight(self) noexcept nogil:
        """Return the memory of this chain in bytes, to within a tenth: the compiled parts, the token, and for each
        block an id and its share of the cache's table, which is a quarter full at worst."""
        return CHAIN_BYTES + self.length + self.arena.total + self.block_count * BLOCK_BYTES

    def verify(self, bytes issuer_public_key not None):
        """Return -1 if all signatures are valid under an issuer key (32 bytes), else the first wrong index."""
        cdef int wrong
        cdef bytes_t key = <bytes_t> PyBytes_AS_STRING(issuer_public_key)
        if PyBytes_GET_SIZE(issuer_public_key) != 32:
            return 0
        with nogil:
            wrong = self.verify_from(0, key)
        return wrong

    @property
    def token_id(self):
        """The token's id, 16 bytes."""
        return PyBytes_FromStringAndSize(<const char *> self.base + self.root.token_id, 16)

    @property
    def min_revision(self):
        """The lowest revision of a view that can check this token."""
        return self.root.min_revision

    @property
    def ending(self):
        """The ending of the last block: 1 sealed, 2 open, 3 bound."""
        return self.blocks[self.block_count - 1].ending

    @property
    def next_key(self):
        """The key that may extend the chain, 32 bytes; empty for a sealed one."""
        cdef int at = self.blocks[self.block_count - 1].next_key
        return PyBytes_FromStringAndSize(<const char *> self.base + at, 32) if at else b""

    @property
    def block_ids(self):
        """The id of each block, 32 bytes, the root's first."""
        if not self.compute_ids():
            raise MemoryError
        return tuple([PyBytes_FromStringAndSize(<const char *> self.ids + 32 * i, 32) for i in range(self.block_count)])

    @property
    def payloads(self):
        """The encoded Block of each block, as received."""
        return tuple(
            [
                PyBytes_FromStringAndSize(<const char *> self.base + self.blocks[i].payload.at, self.blocks[i].payload.n)
                for i in range(self.block_count)
            ]
        )

    @property
    def signatures(self):
        """The signature of each block, 64 bytes."""
        return tuple(
            [
                PyBytes_FromStringAndSize(<const char *> self.base + self.blocks[i].signature, 64)
                for i in range(self.block_count)
            ]
        )

    @property
    def prefix_ends(self):
        """The offset in raw after each block."""
        return tuple([self.ends[i] for i in range(self.block_count)])


cdef void self_header(Chain chain, int index, unsigned char *out) noexcept nogil:
    """Write index and previous signature after the label."""
    out[BLOCK_LABEL_BYTES] = <unsigned char> index
    if index == 0:
        memset(out + BLOCK_LABEL_BYTES + 1, 0, SIGNATURE_BYTES)
    else:
        memcpy(out + BLOCK_LABEL_BYTES + 1, chain.base + chain.blocks[index - 1].signature, SIGNATURE_BYTES)


cdef bytes_t last_signature(bytes_t p, size_t n) noexcept nogil:
    """Skip the blocks by their lengths. After a version each block is a tag and a length of one or two bytes; it
    starts with the signature's tag and length."""
    cdef size_t at = 2
    cdef size_t length
    while at + 4 + SIGNATURE_BYTES <= n:
        length = p[at + 1]
        at += 2
        if length >= 0x80:
            length = (length & 0x7F) | (<size_t> p[at] << 7)
            at += 1
        if at + length == n and length >= 2 + SIGNATURE_BYTES:
            return p + at + 2
        at += length
    return NULL


cdef bint text_signature(bytes_t p, size_t n, unsigned char *out) noexcept nogil:
    """Find the signature as ``last_signature`` does, and decode only as much as that needs."""
    cdef unsigned char head[4]
    cdef size_t at = 2
    cdef size_t length
    if n < PRESENTED_CHARS + CHECK_CHARS:
        return False
    p, n = p + PRESENTED_CHARS, (n - PRESENTED_CHARS - CHECK_CHARS) * 3 // 4
    while at + 4 + SIGNATURE_BYTES <= n:
        body_bytes(p, at + 1, 2, head)
        length = head[0]
        at += 2
        if length >= 0x80:
            length = (length & 0x7F) | (<size_t> head[1] << 7)
            at += 1
        if at + length == n and length >= 2 + SIGNATURE_BYTES:
            body_bytes(p, at + 2 + SIGNATURE_BYTES // 2, 16, out)
            return True
        at += length
    return False


cdef Chain parse_chain(bytes token, int *reason, int *at, const char **wrong):
    cdef Chain chain = Chain.__new__(Chain)
    chain.raw = token
    chain.base = <bytes_t> PyBytes_AS_STRING(token)
    chain.length = PyBytes_GET_SIZE(token)
    wrong[0] = chain._parse(reason, at)
    if wrong[0] != NULL:
        return None
    chain.session_id = PyBytes_FromStringAndSize(<const char *> chain.base + chain.root.session_id, 16)
    chain.issuer_key_id = PyBytes_FromStringAndSize(<const char *> chain.base + chain.root.issuer_key_id, 32)
    return chain


def signed_bytes(int index, bytes previous_signature not None, bytes payload not None):
    """Return the bytes that a block's signature covers: label, index, previous signature (64 bytes, none for the
    root), payload.

    Raises ValueError for an index outside 0 to 15 or a signature of another length.
    """
    if not 0 <= index < MAX_BLOCKS or len(previous_signature) != (SIGNATURE_BYTES if index else 0):
        raise ValueError("index 0 has no previous signature, 1 to 15 have one of 64 bytes")
    return BLOCK_LABEL[:BLOCK_LABEL_BYTES] + bytes([index]) + (previous_signature or bytes(SIGNATURE_BYTES)) + payload
