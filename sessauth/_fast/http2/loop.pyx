"""The event loop of a server: listeners, epoll, and the turns of connections and requests.

A turn waits for events, reads connections in the order of their lanes, runs commands of other threads, goes on with
ready streams, admits requests that wait, and writes answers. Reads and admissions of a turn are bounded, so strangers
can't delay known callers for long.
"""

import resource
import socket
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint64_t, uint8_t
from libc.stdlib cimport free, malloc
from libc.string cimport memset

from sessauth._fast._check cimport monotonic_ns


# The sockets that listen for connections.

cdef enum:
    MAX_LISTENERS = 16
    # Connections that one listener opens in one turn.
    ACCEPTS = 32
    # Descriptors that connections leave to the rest of the process.
    RESERVED_DESCRIPTORS = 64
    # Descriptors that connections of TCP leave to Unix sockets, where operators and workers call: a quarter of the
    # places at most.
    LOCAL_CONNECTIONS = 32


cdef class Listeners:
    """The listeners of a loop. A connection above the limit of descriptors is closed at once."""

    cdef LoopMemory *memory
    # Pairs of a socket and the function that returns the TlsContext of a connection, or None.
    cdef list sockets
    cdef object fault
    # Listeners that wait for the next sweep, since descriptors are short. A bit each.
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
        """Open connections that wait at the listeners, a few at a time, since calls go on meanwhile."""
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


cdef extern from "<sys/eventfd.h>" nogil:
    int eventfd(unsigned int value, int flags)
    int EFD_CLOEXEC, EFD_NONBLOCK

cdef extern from "<unistd.h>" nogil:
    Py_ssize_t read(int fd, void *p, size_t n)

cdef extern from "<sched.h>" nogil:
    int sched_yield()

cdef enum:
    # More than the connections of most floods, so that known callers are found among them.
    EVENTS = 4096
    # Steps of TLS handshakes in one turn: each takes up to half a ms.
    HANDSHAKES = 4
    # The most bytes of one connection that are read in a turn.
    BUFFER_BYTES = 64 << 10
    # The kinds of connections by their lanes: of strangers, of known callers, of operators, and new ones.
    KINDS = 4
    # Requests that get a thread, or are refused, in one turn: each takes some 0.1 ms of Python.
    ADMISSIONS = 16
    # One in this many of the requests that wait is taken from the lowest lane: nobody waits for ever.
    A_LOWEST = 8
    # Callers that are looked up in one turn, and those of strangers' connections among them: each takes some 5 µs of
    # Python.
    LOOK_UPS = 128
    STRANGERS_LOOK_UPS = 32

# Bytes that are read in a turn, by lane: from all its connections, and at least from each one read when many have some.
# A stream that is begun and reset takes 3 µs and 30 bytes, so strangers can't make a turn longer than 1 ms by them.
# Known callers have space for eight calls of each of 80 connections, at most TURN_NS of reading, and are read one after
# the other rather than a few calls of each: system calls are a fifth of a call then.
cdef size_t[KINDS] TURN_BYTES = [8 << 10, 256 << 10, 256 << 10, 32 << 10]
cdef size_t[KINDS] LEAST_BYTES = [1 << 10, 32 << 10, 32 << 10, 2 << 10]
# The order in which they are read.
cdef int[KINDS] READ_ORDER = [LANE_OPERATORS, LANE_KNOWN, LANE_NEW, LANE_STRANGERS]

cdef int64_t SWEEP_NS = SECOND // 2
# A turn reads no further connection of a lane after this long, and advances no further stream: others' answers are
# written and sockets are read first.
cdef int64_t TURN_NS = SECOND // 500
# After an answer the next call of the same client comes sooner than an idle core wakes.
cdef int64_t LINGER_NS = 50_000

cdef enum:
    # After LINGER_MISSES times in a row without a call in time, the loop lingers once in LINGER_EVERY turns.
    LINGER_MISSES = 4
    LINGER_EVERY = 256

cdef int64_t STOPPING_SWEEP_NS = SECOND // 50


cdef class Loop(Admission):
    """Serves connections on the thread that calls :meth:`poll`.

    ``accept(call)`` is called for each new call whose headers have come, and ``fault(error)`` for an exception of a
    callback. ``direct.admit(path, authorization, facts)`` returns a DirectCaller, or None: the call is accepted.
    ``direct.generation()`` is a number that changes when a caller found earlier may no longer be valid.
    ``lane_of(authorization, facts)`` returns 0 for a stranger, 1 for a known caller, 2 for an operator: requests that
    wait are admitted from the highest lane first. ``refusal`` is a code, a text and a google.rpc.Status: a stranger's
    call ends with it if ``counts_refusal(path)`` returns True.
    """

    cdef uint8_t *buffer
    # The place among the events from which the next turn reads connections of a lane.
    cdef int[KINDS] _first_read
    cdef Listeners _listeners
    cdef int64_t _swept_ns
    cdef int64_t _slow_reader_ns
    cdef readonly bint stopping
    # Calls that were answered before the last turn.
    cdef uint64_t _answered_before
    # Times in a row that the loop lingered for nothing, and turns after answers.
    cdef int _misses
    cdef uint64_t _answering_turns
    cdef bint _woken
    # poll() runs.
    cdef bint _polls

    def __cinit__(
        self,
        accept,
        fault,
        *,
        direct=None,
        direct_paths=(),
        certificate_facts=None,
        lane_of=None,
        counts_refusal=None,
        refusal=None,
        size_t max_message,
        size_t max_headers,
        double slow_reader_seconds,
    ):
        cdef epoll_event event
        load_nghttp2()
        self._accept = accept
        self._fault = fault
        self._direct = direct
        self._direct_paths = frozenset(direct_paths)
        self._certificate_facts = certificate_facts
        self._lane_of = lane_of
        self._counts_refusal = counts_refusal
        if refusal is not None:
            self._refusal = (refusal[0], encoded_text(refusal[1]), encoded_details(refusal[2]))
        self.memory.first_lane = LANE_KNOWN if lane_of is None else LANE_NEW
        self._listeners = Listeners.__new__(Listeners)
        self._listeners.memory = &self.memory
        self._listeners.fault = fault
        self.memory.max_message = max_message
        self.memory.max_headers = max_headers
        self._slow_reader_ns = <int64_t> (slow_reader_seconds * 1e9)
        self.buffer = <uint8_t *> malloc(BUFFER_BYTES)
        if self.buffer == NULL or not prepare(&self.memory):
            raise MemoryError
        self.memory.epoll = epoll_create1(EPOLL_CLOEXEC)
        self.commands.wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)
        if self.memory.epoll < 0 or self.commands.wake < 0:
            raise OSError("no descriptor is left for the event loop")
        memset(&event, 0, sizeof(event))
        event.events = EPOLLIN
        epoll_ctl(self.memory.epoll, EPOLL_CTL_ADD, self.commands.wake, &event)

    def __dealloc__(self):
        abandon(&self.memory)
        release(&self.memory)
        free(self.buffer)
        if self.memory.epoll >= 0:
            close(self.memory.epoll)

    @property
    def max_connections(self):
        """The number of connections that may be open."""
        return self._listeners.most

    @property
    def refused_connections(self):
        """The number of connections that found no place."""
        return self._listeners.refused

    @property
    def connections(self):
        """The number of open connections."""
        return self.memory.connection_count

    def listen(self, listener, tls=None):
        """Accept connections of a socket; ``tls()`` returns the TlsContext of a new one.

        Raises RuntimeError, as all that follow but :meth:`wake`, while :meth:`poll` runs.
        """
        self._require_no_poll()
        self._listeners.add(listener, tls)

    def poll(self, double seconds):
        """Serve for ``seconds``, until :meth:`wake`, even an earlier one, or until a call was accepted or called back.

        One thread calls it.
        """
        cdef int64_t now = monotonic_ns()
        cdef int64_t until = now + <int64_t> (seconds * 1e9)
        self._require_no_poll()
        self._polls = True
        self.commands.thread = PyThread_get_thread_ident()
        self.called_back = False
        try:
            while now < until and not self._woken and not self.called_back:
                self._turn(until)
                now = monotonic_ns()
        finally:
            self._polls = self._woken = False

    def wake(self):
        """Let :meth:`poll` return. Any thread may call it."""
        cdef uint64_t one = 1
        self._woken = True
        write(self.commands.wake, &one, sizeof(one))

    def stop_listening(self):
        """Close the listening sockets."""
        self._require_no_poll()
        self._listeners.close_all()

    def stop(self):
        """Accept no more connections, and ask the clients of those that are open to begin no calls.

        On the thread of the loop only, as :meth:`close`.
        """
        self._require_no_poll()
        cdef Connection *connection = self.memory.connections
        self.stopping = True
        self.stop_listening()
        while connection != NULL:
            leave(connection)
            connection = connection.next
        self._write_dirty()

    def close(self):
        """Cancel every call and close every connection."""
        self._require_no_poll()
        cdef Connection *connection = self.memory.connections
        cdef Stream *stream
        while connection != NULL:
            stream = connection.streams
            while stream != NULL:
                if not stream.closed and stream.answer != ANSWER_SENT:
                    reset(stream, CANCEL)
                stream = stream.next
            end_with(connection, NO_ERROR)
            connection = connection.next
        self._write_dirty()
        connection = self.memory.connections
        while connection != NULL:
            fail(connection)
            connection = connection.next
        reap(&self.memory)

    cdef int _require_no_poll(self) except -1:
        """Raise RuntimeError from a callback, or on a second thread: memory in use would be freed."""
        if self._polls:
            raise RuntimeError("the loop polls")
        return 0

    cdef int _turn(self, int64_t until_ns) except -1:
        """Wait for events once, and handle them."""
        cdef LoopMemory *memory = &self.memory
        cdef int64_t wait_ns
        cdef uint64_t accepting = 0
        cdef int timeout
        cdef bint lingers
        self.commands.sleeping = True
        memory.now_ns = monotonic_ns()
        wait_ns = min(until_ns, self._swept_ns + (STOPPING_SWEEP_NS if self.stopping else SWEEP_NS))
        if memory.first_expected != NULL:
            wait_ns = min(wait_ns, memory.first_expected.expected_until_ns)
        wait_ns -= memory.now_ns
        timeout = <int> ((max(wait_ns, 0) + 999_999) // 1_000_000)
        if self.commands.waiting or memory.first_ready != NULL or memory.first_again != NULL:
            timeout = 0
        if anyone_waits(memory):
            timeout = 0
        lingers = self.answered != self._answered_before and self._may_linger()
        self._answered_before = self.answered
        with nogil:
            self._wait(timeout, lingers, &accepting)
        self.commands.sleeping = False
        if accepting:
            self._listeners.accept_from(accepting)
        while self.commands.waiting:
            try:
                self.commands.run_waiting()
            except Exception as error:
                # The commands after it go on.
                self._fault(error)
        if memory.first_ready != NULL or memory.first_expected != NULL or anyone_waits(memory):
            self._advance()
        if memory.now_ns - self._swept_ns >= (STOPPING_SWEEP_NS if self.stopping else SWEEP_NS):
            self._sweep()
        with nogil:
            self._write_dirty()
        if memory.first_failed != NULL:
            reap(&self.memory)
        return 0

    cdef int _advance(self) except -1:
        """Continue ready streams, then requests that wait: as many as one turn has time for."""
        cdef LoopMemory *memory = &self.memory
        cdef Stream *stream
        # The time starts here, however long the reads before it took.
        cdef int64_t until = monotonic_ns() + TURN_NS
        cdef int strangers = 0
        cdef int i
        if self._direct is not None:
            self.refresh()
        # Requests of known callers that can be answered at once come first.
        stream = take_ready(memory)
        while stream != NULL:
            self.advance_stream(stream)
            stream = take_ready(memory) if monotonic_ns() < until else NULL
        while memory.first_expected != NULL and memory.first_expected.expected_until_ns <= memory.now_ns:
            stream = memory.first_expected
            unexpect(stream)
            # The message of a ready one may have come.
            if not stream.is_ready:
                stream.needs_thread = True
                wait(stream)
        for i in range(LOOK_UPS):
            stream = self._next_waiting(LANE_NEW, (i + 1) % A_LOWEST == 0)
            if stream == NULL:
                break
            strangers += stream.lane == LANE_NEW
            self.look_up(stream)
            if strangers == STRANGERS_LOOK_UPS:
                break
        for i in range(ADMISSIONS):
            stream = self._next_waiting(LANE_STRANGERS, (i + 1) % A_LOWEST == 0)
            if stream == NULL:
                break
            self.admit_waiting(stream)
        return 0

    cdef Stream *_next_waiting(self, int base, bint lowest) noexcept:
        """Take a request of the highest of three lanes that waits, or of the lowest; ``base`` is the lowest one."""
        cdef Stream *stream = NULL
        cdef int i
        for i in range(LANE_NEW):
            stream = take_waiting(&self.memory, base + (i if lowest else LANE_OPERATORS - i))
            if stream != NULL:
                break
        return stream

    cdef int _wait(self, int timeout_ms, bint lingers, uint64_t *accepting) noexcept nogil:
        """Wait for events, and read connections: operators' first, strangers' last."""
        cdef epoll_event events[EVENTS]
        cdef int[KINDS] counts
        cdef Connection *connection
        cdef Connection *again = self.memory.first_again
        cdef Connection **last = &again
        cdef uint64_t data
        cdef int handshakes = HANDSHAKES
        cdef int n = 0
        cdef int i
        if lingers and timeout_ms > 0:
            n = self._linger(events)
        if n == 0:
            n = epoll_wait(self.memory.epoll, events, EVENTS, timeout_ms)
        self.memory.now_ns = monotonic_ns()
        memset(counts, 0, sizeof(counts))
        self.memory.first_again = NULL
        while last[0] != NULL:
            counts[last[0].lane] += 1
            last = &last[0].next_again
        for i in range(n):
            data = events[i].data.u64
            if data == 0:
                read(self.commands.wake, &data, sizeof(data))
            elif data & 1:
                accepting[0] |= <uint64_t> 1 << (data >> 1)
            else:
                connection = <Connection *> events[i].data.ptr
                counts[connection.lane] += 1
                if events[i].events & EPOLLOUT and not connection.failed:
                    make_dirty(connection)
        for i in range(KINDS):
            if counts[READ_ORDER[i]]:
                self._read_lane(READ_ORDER[i], counts[READ_ORDER[i]], &again, events, n, &handshakes)
        # Connections that had no part of this turn are the first in the next one.
        last = &again
        while last[0] != NULL:
            last = &last[0].next_again
        last[0] = self.memory.first_again
        self.memory.first_again = again
        return 0

    cdef void _read_lane(
        self, int lane, int count, Connection **again, const epoll_event *events, int n, int *handshakes
    ) noexcept nogil:
        """Read connections of a lane, as many bytes as a turn has for it; the next turn continues after them."""
        cdef int64_t until = monotonic_ns() + TURN_NS
        cdef size_t left = TURN_BYTES[lane]
        cdef size_t room = min(<size_t> BUFFER_BYTES, max(LEAST_BYTES[lane], left // <size_t> count))
        cdef Connection *connection
        cdef int first = self._first_read[lane] if self._first_read[lane] < n else 0
        cdef int i, place
        self._first_read[lane] = 0
        while again[0] != NULL and left:
            connection = again[0]
            if connection.lane != lane:
                again = &connection.next_again
                continue
            again[0] = connection.next_again
            connection.reads_again = False
            # One that does not read its answers is read again when it does.
            if not connection.failed and connection.events & EPOLLIN:
                left -= min(left, read_from(connection, self.buffer, room))
                if monotonic_ns() >= until:
                    left = 0
        for i in range(n):
            place = (first + i) % n
            # The loop's own are 0, listeners' odd.
            if events[place].data.u64 == 0 or events[place].data.u64 & 1:
                continue
            connection = <Connection *> events[place].data.ptr
            if connection.lane != lane or connection.failed:
                continue
            if not left:
                self._first_read[lane] = place
                return
            if not events[place].events & (EPOLLIN | EPOLLHUP | EPOLLERR):
                continue
            if connection.tls != NULL and not connection.tls_ready:
                # Epoll reports the others again: checks have their turn between the handshakes.
                if handshakes[0] == 0:
                    continue
                handshakes[0] -= 1
            left -= min(left, read_from(connection, self.buffer, room))
            if monotonic_ns() >= until:
                left = 0

    cdef bint _may_linger(self) noexcept:
        """Return True if lingering paid lately, and now and then to test if it pays again."""
        self._answering_turns += 1
        return self._misses < LINGER_MISSES or self._answering_turns % LINGER_EVERY == 0

    cdef int _linger(self, void *events) noexcept nogil:
        """Return the number of events that come within :data:`LINGER_NS`."""
        cdef int64_t until = monotonic_ns() + LINGER_NS
        cdef int n = 0
        while n == 0 and monotonic_ns() < until:
            # The client may need this core.
            sched_yield()
            n = epoll_wait(self.memory.epoll, <epoll_event *> events, EVENTS, 0)
        self._misses = 0 if n > 0 else self._misses + 1
        return n

    cdef void _write_dirty(self) noexcept nogil:
        cdef Connection *connection
        while self.memory.first_dirty != NULL:
            connection = self.memory.first_dirty
            self.memory.first_dirty = connection.next_dirty
            connection.is_dirty = False
            if not connection.failed:
                write_to(connection)

    cdef int _sweep(self) except -1:
        self._swept_ns = self.memory.now_ns
        with nogil:
            sweep(&self.memory, self._slow_reader_ns, self.stopping)
        return self._listeners.resume()
