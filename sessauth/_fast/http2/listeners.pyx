"""The sockets that listen for connections."""

import resource
import socket

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport uint64_t

cdef enum:
    MAX_LISTENERS = 16
    # Connections that one listener opens in one turn.
    ACCEPTS = 32
    # Descriptors that connections leave to the rest of the process.
    RESERVED_DESCRIPTORS = 64
    # Those that connections of TCP leave to Unix sockets, where operators and workers call: a quarter of the places at
    # most.
    LOCAL_CONNECTIONS = 32


cdef class Listeners:
    """The listeners of a loop. A connection above the limit of descriptors is closed at once."""

    cdef LoopMemory *memory
    # Pairs of a socket and the function that returns the TlsContext of a connection, or None.
    cdef list sockets
    cdef object fault
    # Those that wait for the next sweep, since descriptors are short. A bit each.
    cdef uint64_t _paused
    cdef int most
    cdef uint64_t refused

    def __cinit__(self):
        self.sockets = []
        self.most = max(1, resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVED_DESCRIPTORS)

    cdef int add(self, listener, tls) except -1:
        if len(self.sockets) == MAX_LISTENERS:
            raise ValueError(f"there are {MAX_LISTENERS} listeners at most")
        listener.setblocking(False)
        self.sockets.append((listener, tls))
        return self._watch(len(self.sockets) - 1)

    cdef int resume(self) except -1:
        cdef int place
        for place in range(len(self.sockets)):
            if self._paused >> place & 1:
                self._watch(place)
        self._paused = 0
        return 0

    cdef int close_all(self) except -1:
        while self.sockets:
            listener, _ = self.sockets.pop()
            epoll_ctl(self.memory.epoll, EPOLL_CTL_DEL, listener.fileno(), NULL)
            listener.close()
        return 0

    cdef int _watch(self, int place) except -1:
        cdef epoll_event event
        event.events = EPOLLIN
        event.data.u64 = (<uint64_t> place << 1) | 1
        return epoll_ctl(self.memory.epoll, EPOLL_CTL_ADD, self.sockets[place][0].fileno(), &event) * 0

    cdef int accept_from(self, uint64_t places) except -1:
        """Open what waits at the listeners, some at a time: calls go on meanwhile."""
        cdef int place, _
        for place in range(len(self.sockets)):
            if not places >> place & 1:
                continue
            listener, tls = self.sockets[place]
            for _ in range(ACCEPTS):
                try:
                    opened, address = listener.accept()
                except (BlockingIOError, ConnectionAbortedError, InterruptedError):
                    break
                except OSError as error:
                    # Descriptors or memory are short. The listener would be reported again at once.
                    epoll_ctl(self.memory.epoll, EPOLL_CTL_DEL, listener.fileno(), NULL)
                    self._paused |= <uint64_t> 1 << place
                    self.fault(error)
                    break
                self._open(opened, address, tls)
        return 0

    cdef int _open(self, object opened, object address, object make_tls) except -1:
        cdef Connection *connection
        cdef epoll_event event
        cdef void *tls = NULL
        cdef int fd
        cdef int left = 0 if opened.family == socket.AF_UNIX else min(LOCAL_CONNECTIONS, self.most // 4)
        if self.memory.connection_count >= self.most - left:
            self.refused += 1
            opened.close()
            return 0
        opened.setblocking(False)
        if opened.family != socket.AF_UNIX:
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if make_tls is not None:
                tls = tls_new(<TlsContext?> make_tls(), opened.fileno())
        except Exception as error:
            self.fault(error)
            opened.close()
            return 0
        peer = _peer_of(address)
        fd = opened.detach()
        connection = open_connection(self.memory, fd, tls)
        if connection == NULL:
            tls_free(tls)
            close(fd)
            return 0
        Py_INCREF(peer)
        connection.peer = <PyObject *> peer
        event.events = EPOLLIN
        event.data.ptr = connection
        if epoll_ctl(self.memory.epoll, EPOLL_CTL_ADD, fd, &event):
            fail(connection)
        else:
            make_dirty(connection)
        return 0


cdef str _peer_of(object address):
    """Return an address as gRPC writes it."""
    if not isinstance(address, tuple):
        return "unix:"
    if len(address) == 2:
        return f"ipv4:{address[0]}:{address[1]}"
    return f"ipv6:%5B{address[0]}%5D:{address[1]}"
