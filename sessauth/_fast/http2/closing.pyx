"""The end of streams and connections. The memory of a connection lasts until the last of its calls has ended."""

from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.stdlib cimport free


# Free a closed stream, and its call.
cdef void let_go(Stream *stream) noexcept:
    cdef Connection *connection = stream.connection
    cdef PyObject *call = stream.call
    stream.call = NULL
    stream_unlink(stream)
    stream_free(stream)
    if connection.session == NULL and connection.streams == NULL:
        free(connection)
    # Last: it may run Python.
    Py_XDECREF(call)


# Close the sockets of failed connections. The calls of their streams become ready.
cdef void reap(LoopMemory *loop) noexcept:
    cdef Connection *connection
    while loop.first_failed != NULL:
        connection = loop.first_failed
        loop.first_failed = connection.next_failed
        _close(connection)


# Close every connection of a loop that ends, and let go of their calls. None is called back.
cdef void abandon(LoopMemory *loop) noexcept:
    cdef Connection *connection = loop.connections
    cdef Stream *stream
    cdef Account *account
    cdef PyObject *gate
    while connection != NULL:
        fail(connection)
        connection = connection.next
    reap(loop)
    stream = take_ready(loop)
    while stream != NULL:
        if stream.call != NULL:
            (<NativeCall> stream.call).stream = NULL
        let_go(stream)
        stream = take_ready(loop)
    while loop.accounts != NULL:
        account = loop.accounts
        loop.accounts = account.next
        gate = account.gate
        free(account)
        Py_XDECREF(gate)


cdef void _close(Connection *connection) noexcept:
    cdef Stream *stream = connection.streams
    cdef Stream *following
    cdef PyObject *peer = connection.peer
    cdef PyObject *facts = connection.facts
    connection.peer = connection.facts = NULL
    if connection.account != NULL:
        connection.account.unread -= connection.unread
        connection.account = NULL
    # Closing is not enough: a copy of the descriptor, in a child before its exec, would keep the events coming.
    epoll_ctl(connection.loop.epoll, EPOLL_CTL_DEL, connection.fd, NULL)
    tls_free(connection.tls)
    connection.tls = NULL
    close(connection.fd)
    _unlink(connection)
    drop_callers(connection)
    nghttp2.session_del(connection.session)
    connection.session = NULL
    free(connection.out)
    connection.out = NULL
    while stream != NULL:
        following = stream.next
        stream.closed = True
        unexpect(stream)
        unwait(stream)
        if stream.call != NULL:
            make_ready(stream)
        else:
            unready(stream)
            stream_unlink(stream)
            stream_free(stream)
        stream = following
    if connection.streams == NULL:
        free(connection)
    Py_XDECREF(peer)
    Py_XDECREF(facts)


cdef void _unlink(Connection *connection) noexcept:
    """Take a connection from every list of its loop but that of failed ones, from which it was taken."""
    cdef LoopMemory *loop = connection.loop
    cdef Connection **place
    cdef Connection *before
    cdef int lane
    if connection.next != NULL:
        connection.next.previous = connection.previous
    if connection.previous != NULL:
        connection.previous.next = connection.next
    else:
        loop.connections = connection.next
    loop.connection_count -= 1
    if connection.is_dirty:
        place = &loop.first_dirty
        while place[0] != connection:
            place = &place[0].next_dirty
        place[0] = connection.next_dirty
        connection.is_dirty = False
    for lane in range(LANES):
        if not connection.has_turn[lane]:
            continue
        before = NULL
        place = &loop.first_turn[lane]
        while place[0] != connection:
            before = place[0]
            place = &before.next_turn[lane]
        place[0] = connection.next_turn[lane]
        if loop.last_turn[lane] == connection:
            loop.last_turn[lane] = before
        connection.has_turn[lane] = False
    if connection.reads_again:
        place = &loop.first_again
        while place[0] != connection:
            place = &place[0].next_again
        place[0] = connection.next_again
        connection.reads_again = False
