"""The times of connections."""

from libc.stdint cimport int64_t

cdef enum:
    # gRPC's code.
    DEADLINE_EXCEEDED = 4

# In nanoseconds, for the loop too.
cdef int64_t SECOND = 1_000_000_000
cdef int64_t HANDSHAKE_NS = 3 * SECOND
cdef int64_t IDLE_NS = 300 * SECOND
# Spreads clients over workers again, and ends connections of certificates that expired since.
cdef int64_t AGE_NS = 600 * SECOND
cdef int64_t AGE_GRACE_NS = 30 * SECOND
cdef int64_t KEEPALIVE_NS = 10 * SECOND
cdef int64_t PING_NS = 5 * SECOND


# Look at every connection, twice a second. The client of one may leave bytes unread for `slow_reader_ns`.
cdef void sweep(LoopMemory *loop, int64_t slow_reader_ns, bint stopping) noexcept nogil:
    cdef Connection *connection = loop.connections
    cdef int64_t now = loop.now_ns
    cdef int64_t age
    while connection != NULL:
        age = now - connection.opened_ns
        connection.idle_frames = 0
        if not connection.failed:
            _end_late(connection, slow_reader_ns)
        if connection.failed:
            pass
        elif not connection.greeted and age > HANDSHAKE_NS:
            fail(connection)
        elif connection.stalled_ns and now - connection.stalled_ns > slow_reader_ns:
            fail(connection)
        elif connection.pinged_ns and now - connection.pinged_ns > PING_NS:
            fail(connection)
        elif connection.leaving:
            if connection.leaving == 1:
                leave(connection)
            elif not connection.stream_count and connection.out_begin == connection.out_end:
                fail(connection)
            elif not stopping and now - connection.left_ns > AGE_GRACE_NS:
                fail(connection)
        # Connections that were opened together don't leave together.
        elif age > AGE_NS - (connection.fd & 63) * SECOND:
            leave(connection)
        elif not connection.stream_count and now - connection.busy_ns > IDLE_NS:
            leave(connection)
        elif connection.greeted and not connection.pinged_ns and now - connection.received_ns > KEEPALIVE_NS:
            ping(connection)
        # Other connections of its caller may owe less by now.
        give_turn(connection)
        connection = connection.next


cdef void _end_late(Connection *connection, int64_t slow_reader_ns) noexcept nogil:
    """End the streams whose deadline has passed, and those whose client opens no window for an answer."""
    cdef Stream *stream = connection.streams
    cdef int64_t now = connection.loop.now_ns
    while stream != NULL:
        if stream.closed:
            pass
        elif stream.answer < ANSWER_FINISHING and stream.deadline_ns and now > stream.deadline_ns:
            stream.expired = True
            if stream.answer != ANSWER_NONE and stream.first_out != NULL:
                reset(stream, CANCEL)
            elif not finish(stream, DEADLINE_EXCEEDED, b"Deadline Exceeded", NULL):
                fail(connection)
        elif stream.answer == ANSWER_FINISHING and stream.first_out != NULL:
            if not stream.stalled_ns:
                stream.stalled_ns = now
            elif now - stream.stalled_ns > slow_reader_ns:
                reset(stream, CANCEL)
        stream = stream.next
