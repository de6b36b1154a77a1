"""Requests that wait for their turn: each connection has the same part of a turn of the loop.

A client that sends many calls which need a thread holds up its own calls alone. Requests of a client that does
not read its answers wait here too, and bytes of unread answers are bounded by that.
"""

from sessauth._fast.http2.stream cimport Connection, LoopMemory, Stream, unwait

cdef enum:
    # Bytes of answers that a client has not read: of one connection, and of one caller's connections.
    MAX_UNREAD = 1 << 20
    MAX_CALLER_UNREAD = 16 << 20


cdef void wait(Stream *stream) noexcept nogil:
    cdef Connection *connection = stream.connection
    stream.is_waiting = True
    stream.next_waiting = NULL
    stream.previous_waiting = connection.last_waiting
    if connection.last_waiting != NULL:
        connection.last_waiting.next_waiting = stream
    else:
        connection.first_waiting = stream
    connection.last_waiting = stream
    give_turn(connection)


cdef void give_turn(Connection *connection) noexcept nogil:
    cdef LoopMemory *loop = connection.loop
    if connection.has_turn or connection.first_waiting == NULL or owes(connection):
        return
    connection.has_turn = True
    connection.next_turn = NULL
    if loop.last_turn != NULL:
        loop.last_turn.next_turn = connection
    else:
        loop.first_turn = connection
    loop.last_turn = connection


cdef Stream *take_waiting(LoopMemory *loop) noexcept nogil:
    cdef Connection *connection
    cdef Stream *stream
    while loop.first_turn != NULL:
        connection = loop.first_turn
        loop.first_turn = connection.next_turn
        if loop.first_turn == NULL:
            loop.last_turn = NULL
        connection.has_turn = False
        # Its requests may have ended, or its answers waited, since it was given its turn.
        if connection.first_waiting == NULL or connection.failed or owes(connection):
            continue
        stream = connection.first_waiting
        unwait(stream)
        give_turn(connection)
        return stream
    return NULL


cdef bint owes(const Connection *connection) noexcept nogil:
    return connection.unread >= MAX_UNREAD or (
        connection.caller_unread != NULL and connection.caller_unread[0] >= MAX_CALLER_UNREAD
    )
