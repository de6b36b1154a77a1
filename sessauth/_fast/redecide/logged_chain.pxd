"""A chain from a log: payloads without signatures."""

from libc.stdint cimport uint32_t

from sessauth._fast.token.chain cimport Chain
from sessauth._fast.token.scope cimport ScopeList

cdef class LoggedChain:
    # Never cached, and never exposed.
    cdef Chain chain
    # A bit a block: the block requires a peer, and logs don't record peers.
    cdef uint32_t peers
    cdef bint reads_tool
    cdef readonly bint root_id_matches

# True if a condition of the scopes reads the gateway's facts about the tool.
cdef bint reads_tool(const ScopeList *scopes) noexcept nogil
