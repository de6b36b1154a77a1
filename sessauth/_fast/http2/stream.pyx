"""Streams, connections and their lists, in C memory, and the commands of other threads.

Only the thread of the loop touches streams and connections. Other threads queue commands for it.
"""

from collections import deque
from cpython.object cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t, uint8_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove, memset


# Linux's epoll (epoll(7)).

cdef extern from "<sys/epoll.h>" nogil:
    int EPOLLIN, EPOLLOUT, EPOLLERR, EPOLLHUP
    int EPOLL_CTL_ADD, EPOLL_CTL_DEL, EPOLL_CTL_MOD, EPOLL_CLOEXEC
    ctypedef union epoll_data_t:
        void *ptr
        uint64_t u64
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epoll, int operation, int fd, epoll_event *event)
    int epoll_wait(int epoll, epoll_event *events, int most, int timeout)


# Commands of other threads to the thread of a loop: nghttp2 is called by no other.

cdef extern from "<unistd.h>" nogil:
    int close(int fd)
    Py_ssize_t write(int fd, const void *p, size_t n)

cdef extern from "pythread.h":
    unsigned long PyThread_get_thread_ident()


cdef class Command:
    """A target of commands."""

    # Run on the thread of the loop.
    cdef int run(self, int operation, object first, object second, object third) except -1:
        raise NotImplementedError


cdef class CommandQueue:
    """The commands of one loop, in their order."""

    cdef object waiting
    # A descriptor that is the queue's, of an eventfd that ends the loop's sleep; -1: none.
    cdef int wake
    cdef bint sleeping
    cdef unsigned long thread

    def __cinit__(self):
        self.waiting = deque()
        self.wake = -1

    def __dealloc__(self):
        if self.wake >= 0:
            close(self.wake)

    # Run a command now, on the loop's own thread; else as soon as the loop goes on.
    cdef int post(self, Command target, int operation, object first, object second, object third) except -1:
        cdef uint64_t one = 1
        if PyThread_get_thread_ident() == self.thread and not self.waiting:
            return target.run(operation, first, second, third)
        self.waiting.append((target, operation, first, second, third))
        if self.sleeping and self.wake >= 0:
            # One is enough for all that come before the loop has woken.
            self.sleeping = False
            write(self.wake, &one, sizeof(one))
        return 0

    cdef int run_waiting(self) except -1:
        cdef Command target
        while self.waiting:
            target, operation, first, second, third = self.waiting.popleft()
            target.run(operation, first, second, third)
        return 0


# Streams, connections and their lists: memory without Python objects.

cdef enum:
    # A stream's part in the answer of its call.
    ANSWER_NONE = 0
    ANSWER_BEGUN = 1
    ANSWER_FINISHING = 2
    ANSWER_SENT = 3
    # Faults of a request that are found while it is read.
    FAULT_NONE = 0
    FAULT_HEADERS = 1
    FAULT_SIZE = 2
    FAULT_COMPRESSED = 3
    # The parts of a request of gRPC: its method, a scheme, `te`, and its content type.
    IS_POST = 1
    IS_HTTP = 2
    HAS_TE = 4
    IS_GRPC = 8
    IS_GRPC_REQUEST = 15
    # Several `grpc-timeout` were sent.
    AMBIGUOUS = -2
    # Bytes of a frame's header (RFC 9113, section 4.1), and of a client's preface (section 3.4).
    FRAME_HEADER = 9
    PREFACE_BYTES = 24
    # Bytes before each message of gRPC: a flag, and the length.
    MESSAGE_PREFIX = 5
    # The callers that a connection caches.
    CALLERS = 4
    # Lanes of requests that wait: of strangers, of known callers, and of operators. The caller of one above them is
    # not looked up yet: LANE_NEW is that of a connection of strangers, then come one of known or new callers, and
    # one of operators.
    LANE_STRANGERS = 0
    LANE_KNOWN = 1
    LANE_OPERATORS = 2
    LANE_NEW = 3
    LANES = 6

cdef struct Header:
    HeaderBuffer name
    HeaderBuffer value

# A message on its way out, with its prefix.
cdef struct OutMessage:
    OutMessage *next
    size_t n
    size_t written
    uint8_t bytes[1]

# A caller of one method on one connection, found by the exact header values.
cdef struct Caller:
    HeaderBuffer path
    HeaderBuffer authorization
    # A DirectCaller, owned; NULL: the place is free.
    PyObject *direct

# A caller, known by the gate of its failed signatures, owned, and the bytes that its connections have not read.
cdef struct Account:
    Account *next
    PyObject *gate
    size_t unread

cdef struct Stream:
    int32_t id
    Connection *connection
    # Among the connection's streams.
    Stream *next
    Stream *previous
    # Among the streams that need the interpreter.
    Stream *next_ready
    Stream *previous_ready
    bint is_ready
    # Among the streams whose message is expected at once.
    Stream *next_expected
    Stream *previous_expected
    int64_t expected_until_ns
    # Among the requests of its connection that wait for their turn.
    Stream *next_waiting
    Stream *previous_waiting
    bint is_waiting
    int lane
    # It needs a thread.
    bint needs_thread
    # The time when its headers had come.
    int64_t arrived_ns
    # It is received while it is expected: one of the loop's `early`.
    bint is_early
    # The deadline of a call, 0 for none; it has passed before the answer.
    int64_t deadline_ns
    bint expired
    # The call as Python sees it, owned; NULL: not yet one.
    PyObject *call
    Header *headers
    int header_count
    int header_room
    size_t header_bytes
    # IS_POST and others.
    int form
    # Places in `headers`, -1 for none.
    int path
    int authorization
    int timeout
    bint several_authorizations
    # All headers have come; the client sends no more; the stream is closed.
    bint has_headers
    bint ended
    bint closed
    int fault
    # The messages, with their prefixes, from `body_begin`.
    uint8_t *body
    size_t body_begin
    size_t body_end
    size_t body_room
    # Bytes that the client may not yet send again.
    size_t unconsumed
    # The next message may be larger than the window.
    bint receiving
    # Nothing more is read.
    bint discarding
    int answer
    OutMessage *first_out
    OutMessage *last_out
    # Since when the client takes no byte of a message, 0 while it does.
    int64_t stalled_ns
    # Messages that were written since Python was last called.
    int written
    # libnghttp2 waits for more of the body.
    bint deferred
    # Trailers that follow the messages: owned text, NULL for those of a success.
    char *details
    int status
    char *status_details

cdef struct Connection:
    LoopMemory *loop
    int fd
    # TLS, NULL without.
    void *tls
    bint tls_ready
    Session session
    Connection *next
    Connection *previous
    Stream *streams
    int stream_count
    # Among the connections with something to write.
    Connection *next_dirty
    bint is_dirty
    # The highest lane of its callers: LANE_NEW before the first is looked up. It is read in this order.
    int lane
    uint8_t *out
    size_t out_begin
    size_t out_end
    size_t out_room
    # Requests that wait for their turn, by lane, and the place among the connections that have such ones.
    Stream *first_waiting[LANES]
    Stream *last_waiting[LANES]
    Connection *next_turn[LANES]
    bint has_turn[LANES]
    # Bytes of messages that the client has no window for.
    size_t unread
    # Its caller's; NULL before the caller is known.
    Account *account
    # The events that epoll waits for.
    uint32_t events
    bint failed
    Connection *next_failed
    # Among the connections whose TLS holds bytes that epoll does not see.
    Connection *next_again
    bint reads_again
    # Frames without a message since the last sweep.
    int idle_frames
    # Resets by their weight, less those that are permitted by now.
    int resets
    int64_t resets_counted_ns
    # The frame that is read: its header as far as it has come, the bytes of its payload that have not, and
    # CONTINUATION frames in a row.
    uint8_t frame_header[FRAME_HEADER]
    size_t frame_header_size
    size_t frame_left
    int continuations
    # The client's first SETTINGS have come.
    bint greeted
    # 1: the client has been asked to begin no calls here, 2: and those that it begins are ignored.
    int leaving
    int64_t opened_ns
    int64_t left_ns
    int64_t received_ns
    int64_t busy_ns
    # Since when the client reads nothing, 0 while it does.
    int64_t stalled_ns
    int64_t pinged_ns
    int64_t last_ping_ns
    int ping_strikes
    Caller callers[CALLERS]
    int next_caller
    # The generation of credentials that they were found under.
    uint64_t generation
    # The address, owned, and the facts of the certificate, owned or NULL.
    PyObject *peer
    PyObject *facts

cdef struct LoopMemory:
    Connection *connections
    int connection_count
    Stream *free_streams
    int free_count
    Stream *first_ready
    Stream *last_ready
    # The last operator's stream among them; operators' come before the others.
    Stream *last_urgent
    Stream *first_expected
    Stream *last_expected
    # Connections whose requests wait for their turn, by lane, and the lane of a new request.
    Connection *first_turn[LANES]
    Connection *last_turn[LANES]
    int first_lane
    Account *accounts
    # Streams that are received before they are admitted.
    int early
    Connection *first_dirty
    Connection *first_failed
    Connection *first_again
    int64_t now_ns
    int epoll
    void *callbacks
    void *options
    # Of credentials; grows when they change.
    uint64_t generation
    size_t max_message
    size_t max_headers


cdef enum:
    FIRST_HEADERS = 16
    FIRST_BODY = 1024
    # A body's memory above it is not kept for the next stream.
    KEPT_BODY = 4096
    KEPT_HEADERS = 64
    # Streams whose memory is kept: a flood leaves no more than these.
    KEPT_STREAMS = 1024
    # Bytes of answers that a client has not read: of one connection, and of one caller's connections.
    MAX_UNREAD = 1 << 20
    MAX_CALLER_UNREAD = 16 << 20


cdef Stream *stream_new(Connection *connection, int32_t id) noexcept nogil:
    """Return a stream of a connection, NULL without memory."""
    cdef LoopMemory *loop = connection.loop
    cdef Stream *stream = loop.free_streams
    cdef Header *headers = NULL
    cdef uint8_t *body = NULL
    cdef int header_room = 0
    cdef size_t body_room = 0
    if stream != NULL:
        loop.free_streams = stream.next
        loop.free_count -= 1
        headers, header_room = stream.headers, stream.header_room
        body, body_room = stream.body, stream.body_room
    else:
        stream = <Stream *> malloc(sizeof(Stream))
        if stream == NULL:
            return NULL
    memset(stream, 0, sizeof(Stream))
    stream.headers, stream.header_room = headers, header_room
    stream.body, stream.body_room = body, body_room
    stream.id = id
    stream.connection = connection
    stream.path = stream.authorization = stream.timeout = -1
    stream.lane = loop.first_lane
    stream.next = connection.streams
    if stream.next != NULL:
        stream.next.previous = stream
    connection.streams = stream
    connection.stream_count += 1
    return stream


cdef void stream_unlink(Stream *stream) noexcept nogil:
    """Take a stream from its connection."""
    cdef Connection *connection = stream.connection
    if connection == NULL:
        return
    if stream.next != NULL:
        stream.next.previous = stream.previous
    if stream.previous != NULL:
        stream.previous.next = stream.next
    else:
        connection.streams = stream.next
    connection.stream_count -= 1
    stream.next = stream.previous = NULL


cdef void stream_free(Stream *stream) noexcept nogil:
    """Keep the memory of a stream for the next one, unless enough is kept."""
    cdef LoopMemory *loop = stream.connection.loop
    drop_headers(stream)
    drop_out(stream)
    free(stream.details)
    free(stream.status_details)
    if loop.free_count == KEPT_STREAMS:
        free(stream.headers)
        free(stream.body)
        free(stream)
        return
    drop_body(stream)
    if stream.header_room > KEPT_HEADERS:
        free(stream.headers)
        stream.headers = NULL
        stream.header_room = 0
    stream.next = loop.free_streams
    loop.free_streams = stream
    loop.free_count += 1


cdef void make_ready(Stream *stream) noexcept nogil:
    """Add a stream to those that need the interpreter; operators' come before the others."""
    cdef LoopMemory *loop = stream.connection.loop
    if stream.is_ready:
        return
    stream.is_ready = True
    stream.previous_ready = loop.last_urgent if stream.lane == LANE_OPERATORS else loop.last_ready
    if stream.previous_ready != NULL:
        stream.next_ready = stream.previous_ready.next_ready
        stream.previous_ready.next_ready = stream
    else:
        stream.next_ready = loop.first_ready
        loop.first_ready = stream
    if stream.next_ready != NULL:
        stream.next_ready.previous_ready = stream
    else:
        loop.last_ready = stream
    if stream.lane == LANE_OPERATORS:
        loop.last_urgent = stream


cdef void unready(Stream *stream) noexcept nogil:
    """Take a stream from those that need the interpreter."""
    cdef LoopMemory *loop = stream.connection.loop
    if not stream.is_ready:
        return
    stream.is_ready = False
    if loop.last_urgent == stream:
        # All before it are operators'.
        loop.last_urgent = stream.previous_ready
    if stream.next_ready != NULL:
        stream.next_ready.previous_ready = stream.previous_ready
    else:
        loop.last_ready = stream.previous_ready
    if stream.previous_ready != NULL:
        stream.previous_ready.next_ready = stream.next_ready
    else:
        loop.first_ready = stream.next_ready


cdef Stream *take_ready(LoopMemory *loop) noexcept nogil:
    """Take the first stream that needs the interpreter, NULL if none does."""
    cdef Stream *stream = loop.first_ready
    if stream != NULL:
        unready(stream)
    return stream


cdef void expect(Stream *stream, int64_t until_ns) noexcept nogil:
    """Add a stream to those whose message is expected at once. The times of all grow."""
    cdef LoopMemory *loop = stream.connection.loop
    if stream.expected_until_ns:
        return
    stream.expected_until_ns = until_ns
    stream.next_expected = NULL
    stream.previous_expected = loop.last_expected
    if loop.last_expected != NULL:
        loop.last_expected.next_expected = stream
    else:
        loop.first_expected = stream
    loop.last_expected = stream


cdef void unexpect(Stream *stream) noexcept nogil:
    """Take a stream from those whose message is expected."""
    cdef LoopMemory *loop = stream.connection.loop
    if not stream.expected_until_ns:
        return
    stream.expected_until_ns = 0
    if stream.is_early:
        stream.is_early = stream.receiving = False
        loop.early -= 1
    if stream.next_expected != NULL:
        stream.next_expected.previous_expected = stream.previous_expected
    else:
        loop.last_expected = stream.previous_expected
    if stream.previous_expected != NULL:
        stream.previous_expected.next_expected = stream.next_expected
    else:
        loop.first_expected = stream.next_expected


cdef void unwait(Stream *stream) noexcept nogil:
    """Take a stream from the requests that wait. Its connection may keep a turn without a request."""
    cdef Connection *connection = stream.connection
    if not stream.is_waiting:
        return
    stream.is_waiting = False
    if stream.next_waiting != NULL:
        stream.next_waiting.previous_waiting = stream.previous_waiting
    else:
        connection.last_waiting[stream.lane] = stream.previous_waiting
    if stream.previous_waiting != NULL:
        stream.previous_waiting.next_waiting = stream.next_waiting
    else:
        connection.first_waiting[stream.lane] = stream.next_waiting


cdef void wait(Stream *stream) noexcept nogil:
    """Add a request to those of its connection that wait: many of one client delay only its own."""
    cdef Connection *connection = stream.connection
    stream.is_waiting = True
    stream.next_waiting = NULL
    stream.previous_waiting = connection.last_waiting[stream.lane]
    if stream.previous_waiting != NULL:
        stream.previous_waiting.next_waiting = stream
    else:
        connection.first_waiting[stream.lane] = stream
    connection.last_waiting[stream.lane] = stream
    give_turn(connection)


cdef void wait_for_look_up(Stream *stream) noexcept nogil:
    """Add a request to those whose callers are looked up, by the lane of its connection."""
    cdef int lane = stream.connection.lane
    stream.lane = LANE_NEW + (LANE_KNOWN if lane >= LANE_NEW else lane)
    wait(stream)


# Give a connection its turns again in the lanes where its requests wait, unless it owes too much.
cdef void give_turn(Connection *connection) noexcept nogil:
    cdef LoopMemory *loop = connection.loop
    cdef int lane
    if owes(connection):
        return
    for lane in range(LANES):
        if connection.has_turn[lane] or connection.first_waiting[lane] == NULL:
            continue
        connection.has_turn[lane] = True
        connection.next_turn[lane] = NULL
        if loop.last_turn[lane] != NULL:
            loop.last_turn[lane].next_turn[lane] = connection
        else:
            loop.first_turn[lane] = connection
        loop.last_turn[lane] = connection


# Take the next request of a lane, one of each connection in its turn; NULL: none may go on now.
cdef Stream *take_waiting(LoopMemory *loop, int lane) noexcept nogil:
    cdef Connection *connection
    cdef Stream *stream
    while loop.first_turn[lane] != NULL:
        connection = loop.first_turn[lane]
        loop.first_turn[lane] = connection.next_turn[lane]
        if loop.first_turn[lane] == NULL:
            loop.last_turn[lane] = NULL
        connection.has_turn[lane] = False
        # Its requests may have ended, or its answers waited, since it was given its turn.
        if connection.first_waiting[lane] == NULL or connection.failed or owes(connection):
            continue
        stream = connection.first_waiting[lane]
        unwait(stream)
        give_turn(connection)
        return stream
    return NULL


cdef bint anyone_waits(const LoopMemory *loop) noexcept nogil:
    """Return True if a connection has a turn in any lane."""
    cdef int lane
    for lane in range(LANES):
        if loop.first_turn[lane] != NULL:
            return True
    return False


# True if the client reads its answers so late that no more are made for it.
cdef bint owes(const Connection *connection) noexcept nogil:
    return connection.unread >= MAX_UNREAD or (
        connection.account != NULL and connection.account.unread >= MAX_CALLER_UNREAD
    )


cdef void make_dirty(Connection *connection) noexcept nogil:
    """Add a connection to those with something to write."""
    if not connection.is_dirty:
        connection.is_dirty = True
        connection.next_dirty = connection.loop.first_dirty
        connection.loop.first_dirty = connection


# The connection is closed as soon as nothing else uses it.
cdef void fail(Connection *connection) noexcept nogil:
    if not connection.failed:
        connection.failed = True
        connection.next_failed = connection.loop.first_failed
        connection.loop.first_failed = connection


cdef bint add_header(Stream *stream, HeaderBuffer name, HeaderBuffer value) noexcept nogil:
    """Keep a header; False without memory."""
    cdef int room
    cdef void *grown
    if stream.header_count == stream.header_room:
        room = stream.header_room * 2 if stream.header_room else FIRST_HEADERS
        grown = realloc(stream.headers, room * sizeof(Header))
        if grown == NULL:
            return False
        stream.headers = <Header *> grown
        stream.header_room = room
    nghttp2.rcbuf_incref(name)
    nghttp2.rcbuf_incref(value)
    stream.headers[stream.header_count].name = name
    stream.headers[stream.header_count].value = value
    stream.header_count += 1
    return True


cdef void drop_headers(Stream *stream) noexcept nogil:
    """Forget the headers. No place in them remains valid."""
    cdef int i
    for i in range(stream.header_count):
        nghttp2.rcbuf_decref(stream.headers[i].name)
        nghttp2.rcbuf_decref(stream.headers[i].value)
    stream.header_count = 0
    stream.path = stream.authorization = stream.timeout = -1


cdef bint add_body(Stream *stream, const uint8_t *data, size_t n) noexcept nogil:
    """Append to the body; False without memory."""
    cdef size_t room
    cdef void *grown
    if stream.body_begin == stream.body_end:
        stream.body_begin = stream.body_end = 0
    elif stream.body_begin and stream.body_end + n > stream.body_room:
        memmove(stream.body, stream.body + stream.body_begin, stream.body_end - stream.body_begin)
        stream.body_end -= stream.body_begin
        stream.body_begin = 0
    if stream.body_end + n > stream.body_room:
        room = max(2 * stream.body_room, stream.body_end + n, <size_t> FIRST_BODY)
        grown = realloc(stream.body, room)
        if grown == NULL:
            return False
        stream.body = <uint8_t *> grown
        stream.body_room = room
    memcpy(stream.body + stream.body_end, data, n)
    stream.body_end += n
    return True


# The size in the prefix of the first message. The prefix has come.
cdef size_t stated_size(const Stream *stream) noexcept nogil:
    cdef const uint8_t *p = stream.body + stream.body_begin
    return (<size_t> p[1] << 24) | (<size_t> p[2] << 16) | (<size_t> p[3] << 8) | p[4]


# The length of the first message, which is complete; -1: it is not.
cdef Py_ssize_t message_size(const Stream *stream) noexcept nogil:
    cdef size_t n = stream.body_end - stream.body_begin
    cdef size_t size
    if n < MESSAGE_PREFIX:
        return -1
    size = stated_size(stream)
    return <Py_ssize_t> size if n - MESSAGE_PREFIX >= size else -1


# Note a message that is too long or compressed, as soon as its prefix has come.
cdef void check_prefix(Stream *stream) noexcept nogil:
    if stream.body_end - stream.body_begin < MESSAGE_PREFIX:
        return
    if stated_size(stream) > stream.connection.loop.max_message:
        stream.fault = FAULT_SIZE
    elif stream.body[stream.body_begin]:
        stream.fault = FAULT_COMPRESSED


cdef void drop_message(Stream *stream) noexcept nogil:
    """Remove the first message, which is complete. The next one may have come with it."""
    stream.body_begin += MESSAGE_PREFIX + message_size(stream)
    check_prefix(stream)


cdef void drop_body(Stream *stream) noexcept nogil:
    """Forget the body, and free its memory if it is large."""
    stream.body_begin = stream.body_end = 0
    if stream.body_room > KEPT_BODY:
        free(stream.body)
        stream.body = NULL
        stream.body_room = 0


cdef bint add_out(Stream *stream, const char *message, size_t n) noexcept nogil:
    """Add a message to those that are sent; False without memory."""
    cdef OutMessage *out = <OutMessage *> malloc(sizeof(OutMessage) + MESSAGE_PREFIX + n)
    if out == NULL:
        return False
    out.next = NULL
    out.n = MESSAGE_PREFIX + n
    out.written = 0
    out.bytes[0] = 0
    out.bytes[1] = <uint8_t> (n >> 24)
    out.bytes[2] = <uint8_t> (n >> 16)
    out.bytes[3] = <uint8_t> (n >> 8)
    out.bytes[4] = <uint8_t> n
    memcpy(out.bytes + MESSAGE_PREFIX, message, n)
    _count_unread(stream.connection, out.n)
    if stream.last_out != NULL:
        stream.last_out.next = out
    else:
        stream.first_out = out
    stream.last_out = out
    return True


cdef void drop_out(Stream *stream) noexcept nogil:
    """Forget the messages that were not sent."""
    while stream.first_out != NULL:
        drop_first_out(stream)


# Forget the first message of those that are sent.
cdef void drop_first_out(Stream *stream) noexcept nogil:
    cdef OutMessage *out = stream.first_out
    stream.first_out = out.next
    if stream.first_out == NULL:
        stream.last_out = NULL
    _count_unread(stream.connection, -<Py_ssize_t> out.n)
    free(out)


cdef inline void _count_unread(Connection *connection, Py_ssize_t n) noexcept nogil:
    connection.unread += n
    if connection.account != NULL:
        connection.account.unread += n
