"""Requests that wait for their turn."""

from sessauth._fast.http2.stream cimport Connection, LoopMemory, Stream

# Add a request that needs a thread, or whose connection owes too much, behind those of its connection.
cdef void wait(Stream *stream) noexcept nogil
# Take the next request, one of each connection in its turn; NULL: none may go on now.
cdef Stream *take_waiting(LoopMemory *loop) noexcept nogil
# Let a connection have its turn again, if requests of it wait and it does not owe too much.
cdef void give_turn(Connection *connection) noexcept nogil
# The client reads its answers so late that no more are made for it.
cdef bint owes(const Connection *connection) noexcept nogil
