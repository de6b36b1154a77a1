"""A chain as a log remembers it: payloads that nobody verifies."""

from libc.stdint cimport uint32_t

from sessauth._fast.token.chain cimport Chain
from sessauth._fast.token.scope cimport ScopeList

cdef class LoggedChain:
    # Never kept in a cache, and never handed out.
    cdef Chain chain
    # By block, one bit: who must be the peer is stated, which no log says.
    cdef uint32_t peers
    cdef bint reads_tool
    cdef readonly bint root_id_matches

# Whether a condition of these reads what the gateway says of the tool.
cdef bint reads_tool(const ScopeList *scopes) noexcept nogil
