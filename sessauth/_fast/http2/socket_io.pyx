"""Reads and writes the sockets of connections, with TLS or without.

Everything here runs on the thread of the loop, without the interpreter lock.
"""

from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy, memmove

cdef extern from "<sys/socket.h>" nogil:
    Py_ssize_t recv(int fd, void *p, size_t n, int flags)
    Py_ssize_t send(int fd, const void *p, size_t n, int flags)
    int MSG_NOSIGNAL

cdef enum:
    # Bytes that wait for a slow reader: above the first nothing more is read, above the second nothing is made.
    MAX_BACKLOG = 64 << 10
    MAX_OUT = 256 << 10
    # Memory for answers that an idle connection keeps.
    KEPT_OUT = 16 << 10
    # Records of TLS of one connection that are read in one turn.
    TLS_READS = 16
    AGAIN = -1
    FAILED = -2


cdef size_t read_from(Connection *connection, uint8_t *buffer, size_t room) noexcept nogil:
    """Read what has come, ``room`` bytes at most: the other connections have their turn. Return how many there were."""
    cdef size_t left = room
    cdef Py_ssize_t n
    cdef int _
    if connection.tls != NULL and not connection.tls_ready and not _shake_hands(connection):
        return 0
    for _ in range(1 if connection.tls == NULL else TLS_READS):
        n = _receive(connection, buffer, left)
        if n == AGAIN:
            return room - left
        # A bad preface, a flood, or no memory: nothing that an answer could help.
        if (
            n <= 0
            or not frames_within_bounds(connection, buffer, n)
            or nghttp2.session_mem_recv(connection.session, buffer, n) < 0
        ):
            fail(connection)
            return room
        left -= n
        connection.received_ns = connection.loop.now_ns
        connection.pinged_ns = 0
        make_dirty(connection)
        if left == 0:
            break
    read_again(connection)
    return room - left


cdef Py_ssize_t _receive(Connection *connection, uint8_t *buffer, size_t room) noexcept nogil:
    cdef Py_ssize_t n
    if connection.tls != NULL:
        n = tls_read(connection.tls, buffer, room)
        return n if n >= 0 else AGAIN if n >= -2 else FAILED
    n = recv(connection.fd, buffer, room, 0)
    if n < 0:
        return AGAIN if errno == EAGAIN or errno == EINTR else FAILED
    return n


cdef bint _shake_hands(Connection *connection) noexcept nogil:
    """Go on with the handshake of TLS; True when it is done."""
    cdef int state = tls_handshake(connection.tls)
    if state == HANDSHAKE_DONE:
        connection.tls_ready = True
        make_dirty(connection)
        return True
    if state == HANDSHAKE_FAILED:
        fail(connection)
    else:
        _wait_for(connection, EPOLLIN | (EPOLLOUT if state == HANDSHAKE_WANTS_WRITE else 0))
    return False


cdef void read_again(Connection *connection) noexcept nogil:
    """Read in the next turn, whatever epoll says: bytes may wait in TLS."""
    if connection.tls != NULL and not connection.reads_again:
        connection.reads_again = True
        connection.next_again = connection.loop.first_again
        connection.loop.first_again = connection


cdef void write_to(Connection *connection) noexcept nogil:
    """Send what nghttp2 has, as far as the client reads it."""
    cdef const uint8_t *data
    cdef Py_ssize_t n = 1
    cdef Py_ssize_t sent
    if connection.tls != NULL and not connection.tls_ready:
        if _shake_hands(connection):
            # The first bytes may have come with the end of the handshake.
            read_again(connection)
        return
    while not connection.failed:
        while n > 0 and connection.out_end - connection.out_begin < MAX_OUT:
            n = nghttp2.session_mem_send(connection.session, &data)
            if n < 0 or (n > 0 and not _add_bytes(connection, data, n)):
                fail(connection)
                return
        if connection.out_begin == connection.out_end:
            break
        sent = _send(connection)
        if sent == FAILED:
            fail(connection)
            return
        if sent == AGAIN:
            break
        connection.out_begin += sent
        connection.stalled_ns = 0
    if connection.out_begin == connection.out_end:
        connection.out_begin = connection.out_end = 0
        if connection.out_room > KEPT_OUT:
            free(connection.out)
            connection.out = NULL
            connection.out_room = 0
        if not nghttp2.session_want_read(connection.session) and not nghttp2.session_want_write(connection.session):
            fail(connection)
            return
        _wait_for(connection, EPOLLIN)
        return
    if not connection.stalled_ns:
        connection.stalled_ns = connection.loop.now_ns
    # A client that does not read gets no more answers.
    _wait_for(connection, EPOLLOUT if connection.out_end - connection.out_begin > MAX_BACKLOG else EPOLLIN | EPOLLOUT)


cdef Py_ssize_t _send(Connection *connection) noexcept nogil:
    cdef uint8_t *p = connection.out + connection.out_begin
    cdef size_t n = connection.out_end - connection.out_begin
    cdef Py_ssize_t sent
    if connection.tls != NULL:
        sent = tls_write(connection.tls, p, n)
        return sent if sent > 0 else AGAIN if sent == -1 or sent == -2 else FAILED
    sent = send(connection.fd, p, n, MSG_NOSIGNAL)
    if sent < 0:
        return AGAIN if errno == EAGAIN or errno == EINTR else FAILED
    return sent


cdef bint _add_bytes(Connection *connection, const uint8_t *data, size_t n) noexcept nogil:
    cdef size_t room
    cdef void *grown
    if connection.out_begin and connection.out_end + n > connection.out_room:
        memmove(connection.out, connection.out + connection.out_begin, connection.out_end - connection.out_begin)
        connection.out_end -= connection.out_begin
        connection.out_begin = 0
    if connection.out_end + n > connection.out_room:
        room = max(2 * connection.out_room, connection.out_end + n)
        grown = realloc(connection.out, room)
        if grown == NULL:
            return False
        connection.out = <uint8_t *> grown
        connection.out_room = room
    memcpy(connection.out + connection.out_end, data, n)
    connection.out_end += n
    return True


cdef void _wait_for(Connection *connection, uint32_t events) noexcept nogil:
    cdef epoll_event event
    if events != connection.events:
        if events & EPOLLIN and not connection.events & EPOLLIN:
            read_again(connection)
        event.events = connection.events = events
        event.data.ptr = connection
        epoll_ctl(connection.loop.epoll, EPOLL_CTL_MOD, connection.fd, &event)
