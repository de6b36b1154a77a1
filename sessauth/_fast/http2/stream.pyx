"""Streams, connections and their lists. Only the thread of the loop touches them."""

from libc.stdint cimport int32_t, int64_t, uint8_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

cdef enum:
    FIRST_HEADERS = 16
    FIRST_BODY = 1024
    # A body's memory above it is not kept for the next stream.
    KEPT_BODY = 4096
    KEPT_HEADERS = 64
    # Streams whose memory is kept: a flood leaves no more behind.
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
    """Keep the memory of a stream for the next one, if there is not plenty."""
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
    """Add a stream to those that need the interpreter; operators' stand before the others."""
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
    """Take a stream from the requests that wait. Its connection may keep a turn for nothing."""
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
    """Add a request to those of its connection that wait: many of one client hold up its own alone."""
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
    """Add a request to those whose callers are looked up, in the order of what is known of its connection."""
    cdef int lane = stream.connection.lane
    stream.lane = LANE_NEW + (LANE_KNOWN if lane >= LANE_NEW else lane)
    wait(stream)


# Let a connection have its turns again, where requests of it wait and it does not owe too much.
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


# The client reads its answers so late that no more are made for it.
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
    """Forget the headers. No place in them stays."""
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


# The size that the prefix of the first message states. The prefix has come.
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
    """Forget what was not sent."""
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
