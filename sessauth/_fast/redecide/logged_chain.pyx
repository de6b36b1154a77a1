"""A chain from a log: payloads without signatures.

It is built from records, never from a presented token. It yields no token and no checker accepts it: its only use is
a redecision (``redecide``).
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint32_t
from libc.string cimport memcmp, memcpy

from sessauth._fast._check cimport (
    ENDING_BOUND,
    ENDING_OPEN,
    MALFORMED_TOKEN,
    OPEN_TOKEN,
    SIGNATURE_BYTES,
    SOURCE_TOOL,
    Block,
    Chain,
    Condition,
    ScopeList,
    parse_chain,
)
from sessauth._fast.codec.errors import FormError

cdef enum:
    TAG_VERSION = 0x08
    TAG_BLOCK = 0x12
    TAG_SIGNATURE = 0x0A
    TAG_PAYLOAD = 0x12
    ID_BYTES = 32


@cython.final
cdef class LoggedChain:
    """A chain from a log.

    ``root_id_matches`` is True if the first id is that of the first payload. The other ids also cover a signature,
    which the log does not have, so they are not verified.
    """

    # Never cached, and never exposed.
    cdef Chain chain
    # A bit a block: the block requires a peer, and logs don't record peers.
    cdef uint32_t peers
    cdef bint reads_tool
    cdef readonly bint root_id_matches

    def __cinit__(self, payloads not None, block_ids not None):
        """Take encoded blocks (bytes) without their signatures, and their ids (32 bytes each).

        Raises:
            FormError: for payloads and ids that no token can have.
        """
        cdef Chain chain
        cdef Block *block
        cdef int reason = 0
        cdef int at = -1
        cdef const char *wrong = NULL
        cdef int i
        chain = parse_chain(_unsigned(payloads), &reason, &at, &wrong)
        if chain is None:
            raise FormError(reason, wrong.decode("ascii"))
        if chain.blocks[chain.block_count - 1].ending == ENDING_OPEN:
            raise FormError(OPEN_TOKEN, "the last block is open")
        if len(block_ids) != chain.block_count or not chain.compute_ids():
            raise FormError(MALFORMED_TOKEN, "not as many ids as blocks")
        for i in range(chain.block_count):
            block_id = <bytes?> block_ids[i]
            if PyBytes_GET_SIZE(block_id) != ID_BYTES:
                raise FormError(MALFORMED_TOKEN, "a block id has 32 bytes")
            if i == 0:
                self.root_id_matches = memcmp(chain.ids, PyBytes_AS_STRING(block_id), ID_BYTES) == 0
            memcpy(chain.ids + ID_BYTES * i, PyBytes_AS_STRING(block_id), ID_BYTES)
            block = &chain.blocks[i]
            if block.peer.count:
                # Reported separately, since the peer is unknown.
                self.peers |= <uint32_t> 1 << i
                block.peer.count = 0
            self.reads_tool |= reads_tool(&block.scopes) or _any_reads_tool(block.where, block.where_count)
        self.chain = chain

    @property
    def session_id(self):
        """The session's id, 16 bytes."""
        return self.chain.session_id

    @property
    def bound(self):
        """True if its calls need a proof by the holder."""
        return self.chain.blocks[self.chain.block_count - 1].ending == ENDING_BOUND


cdef bint _any_reads_tool(const Condition *conditions, int count) noexcept nogil:
    cdef int i
    for i in range(count):
        if conditions[i].path.source == SOURCE_TOOL:
            return True
    return False


# True if a condition of the scopes reads the gateway's facts about the tool.
cdef bint reads_tool(const ScopeList *scopes) noexcept nogil:
    cdef int i
    for i in range(scopes.count):
        if _any_reads_tool(scopes.scopes[i].conditions, scopes.scopes[i].condition_count):
            return True
    return False


cdef bytes _unsigned(object payloads):
    """Return a token of these payloads with zeros in place of signatures."""
    cdef bytearray out = bytearray((TAG_VERSION, 1))
    cdef bytes signature = bytes((TAG_SIGNATURE, SIGNATURE_BYTES)) + bytes(SIGNATURE_BYTES)
    for payload in payloads:
        block = signature + bytes((TAG_PAYLOAD,)) + _length(len(payload)) + <bytes?> payload
        out += bytes((TAG_BLOCK,)) + _length(len(block)) + block
    return bytes(out)


cdef bytes _length(Py_ssize_t n):
    cdef bytearray out = bytearray()
    while n >= 0x80:
        out.append((n & 0x7F) | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)
