"""The end of streams and connections."""

from sessauth._fast.http2.stream cimport LoopMemory, Stream

# Free a closed stream, and its call.
cdef void let_go(Stream *stream) noexcept
# Close the sockets of failed connections. The calls of their streams become ready.
cdef void reap(LoopMemory *loop) noexcept
# Close every connection of a loop that ends, and let go of their calls. None is called back.
cdef void abandon(LoopMemory *loop) noexcept
