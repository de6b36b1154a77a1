"""A connection: the callbacks of nghttp2, its times, its end, and its socket.

Everything here runs on the thread of the loop, mostly without the interpreter lock. From top to bottom: the callbacks,
which bound floods of frames; the sweep, for deadlines, slow readers, and idle and old connections; the release of
streams and connections; reads and writes, with TLS or without.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int32_t, int64_t, uint32_t, uint8_t
from libc.stdlib cimport calloc, free, realloc
from libc.string cimport memcmp, memcpy, memmove


cdef enum:
    # Streams of a connection, and pings without data between them.
    MAX_STREAMS = 256
    MAX_PING_STRIKES = 2
    # A connection's window; that of a stream is the protocol's 65,535 bytes until a message is received.
    WINDOW_BYTES = 1 << 20
    # Frames without a message between two sweeps: settings, pings, priorities, empty data, and faults of streams.
    MAX_IDLE_FRAMES = 2_000
    # A client of gRPC answers each message with a few of them: window updates, pings that measure the bandwidth, ACKs.
    IDLE_FRAMES_PER_MESSAGE = 8
    # A flood of resets (CVE-2023-44487): their weight at once, and regained a second. A gateway that gives up
    # thousands of calls is no attacker: a call that was reset costs no more than one that is answered.
    RESET_BURST = 10_000
    RESETS_PER_SECOND = 2_500
    # The weight of the reset of a request that came in the same turn, which no client needs: such requests are not
    # among the 256 at once. Then that of a request without an answer, on a connection without a known caller.
    HASTY_RESET = 5
    STRANGERS_RESET = 20
    # The bound of libnghttp2 from 1.57 on, out of reach: resets are bounded here for every version.
    LIBRARY_RESETS = 1 << 30
    # CONTINUATION frames in a row (CVE-2024-28182). libnghttp2 bounds them from 1.61 on, but counts a frame again for
    # each piece in which its header comes.
    MAX_CONTINUATIONS = 8
    LIBRARY_CONTINUATIONS = 1_000
    MAX_ACKS = 1_000
    MAX_SETTINGS = 32
    HEADER_OVERHEAD = 32
    # Times the limit of headers. No block is that long without references to the table: each is validated again.
    BOMB = 16

cdef int64_t MIN_PING_INTERVAL_NS = 5_000_000_000


# Create callbacks and options, once for a loop. False without memory.
cdef bint prepare(LoopMemory *loop) noexcept nogil:
    if nghttp2.session_callbacks_new(&loop.callbacks) or nghttp2.option_new(&loop.options):
        return False
    nghttp2.session_callbacks_set_on_begin_headers_callback(loop.callbacks, _on_begin_headers)
    nghttp2.session_callbacks_set_on_header_callback2(loop.callbacks, _on_header)
    nghttp2.session_callbacks_set_on_frame_recv_callback(loop.callbacks, _on_frame)
    nghttp2.session_callbacks_set_on_frame_send_callback(loop.callbacks, on_frame_sent)
    nghttp2.session_callbacks_set_on_data_chunk_recv_callback(loop.callbacks, _on_data)
    nghttp2.session_callbacks_set_on_stream_close_callback(loop.callbacks, _on_stream_close)
    nghttp2.option_set_no_auto_window_update(loop.options, 1)
    # The router refuses spaces around a value with a status, as gRPC's server does.
    if nghttp2.option_set_no_rfc9113_leading_and_trailing_ws_validation != NULL:
        nghttp2.option_set_no_rfc9113_leading_and_trailing_ws_validation(loop.options, 1)
    nghttp2.option_set_max_outbound_ack(loop.options, MAX_ACKS)
    nghttp2.option_set_max_settings(loop.options, MAX_SETTINGS)
    if nghttp2.option_set_max_continuations != NULL:
        nghttp2.option_set_max_continuations(loop.options, LIBRARY_CONTINUATIONS)
    if nghttp2.option_set_stream_reset_rate_limit != NULL:
        nghttp2.option_set_stream_reset_rate_limit(loop.options, LIBRARY_RESETS, LIBRARY_RESETS)
    return True


cdef void release(LoopMemory *loop) noexcept nogil:
    """Free the memory of streams that ended. Callbacks and options are small, and stay."""
    cdef Stream *stream
    while loop.free_streams != NULL:
        stream = loop.free_streams
        loop.free_streams = stream.next
        free(stream.headers)
        free(stream.body)
        free(stream)


# A connection on a socket that does not block; NULL without memory, and the socket stays open.
cdef Connection *open_connection(LoopMemory *loop, int fd, void *tls) noexcept nogil:
    cdef Connection *connection = <Connection *> calloc(1, sizeof(Connection))
    cdef Setting settings[2]
    if connection == NULL:
        return NULL
    connection.loop = loop
    connection.fd = fd
    connection.tls = tls
    if nghttp2.session_server_new2(&connection.session, loop.callbacks, connection, loop.options):
        free(connection)
        return NULL
    settings[0].id = SETTINGS_MAX_CONCURRENT_STREAMS
    settings[0].value = MAX_STREAMS
    settings[1].id = SETTINGS_MAX_HEADER_LIST_SIZE
    settings[1].value = <uint32_t> loop.max_headers
    nghttp2.submit_settings(connection.session, 0, settings, 2)
    nghttp2.session_set_local_window_size(connection.session, 0, 0, WINDOW_BYTES)
    connection.opened_ns = connection.received_ns = connection.busy_ns = loop.now_ns
    connection.resets_counted_ns = loop.now_ns
    connection.frame_left = PREFACE_BYTES
    connection.events = EPOLLIN
    connection.lane = loop.first_lane
    connection.next = loop.connections
    if connection.next != NULL:
        connection.next.previous = connection
    loop.connections = connection
    loop.connection_count += 1
    return connection


cdef void leave(Connection *connection) noexcept nogil:
    """Leave in two calls: the first sends a notice, the second GOAWAY with the last stream that counts."""
    if connection.failed or connection.leaving == 2:
        return
    connection.leaving += 1
    if connection.leaving == 1:
        connection.left_ns = connection.loop.now_ns
        nghttp2.submit_shutdown_notice(connection.session)
    else:
        nghttp2.submit_goaway(
            connection.session,
            0,
            nghttp2.session_get_last_proc_stream_id(connection.session),
            NO_ERROR,
            NULL,
            0,
        )
    make_dirty(connection)


cdef void end_with(Connection *connection, uint32_t error) noexcept nogil:
    """Send GOAWAY and close, even while calls run."""
    if not connection.failed:
        nghttp2.session_terminate_session(connection.session, error)
        make_dirty(connection)


cdef void ping(Connection *connection) noexcept nogil:
    connection.pinged_ns = connection.loop.now_ns
    nghttp2.submit_ping(connection.session, 0, NULL)
    make_dirty(connection)


cdef int _on_begin_headers(Session session, const FrameHeader *frame, void *user) noexcept nogil:
    cdef Connection *connection = <Connection *> user
    cdef Stream *stream
    if nghttp2.session_get_stream_user_data(session, frame.stream_id) != NULL:
        # Trailers.
        return 0
    if connection.idle_frames > MAX_IDLE_FRAMES:
        # Those that were counted when they were sent.
        end_with(connection, ENHANCE_YOUR_CALM)
    stream = stream_new(connection, frame.stream_id)
    if stream == NULL:
        return CALLBACK_FAILURE
    nghttp2.session_set_stream_user_data(session, frame.stream_id, stream)
    return 0


cdef int _on_header(
    Session session, const FrameHeader *frame, HeaderBuffer name, HeaderBuffer value, uint8_t flags, void *user
) noexcept nogil:
    cdef Stream *stream = <Stream *> nghttp2.session_get_stream_user_data(session, frame.stream_id)
    cdef Vector text
    if stream == NULL:
        return 0
    text = nghttp2.rcbuf_get_buf(name)
    stream.header_bytes += text.n + nghttp2.rcbuf_get_buf(value).n + HEADER_OVERHEAD
    if stream.header_bytes > BOMB * stream.connection.loop.max_headers:
        return CALLBACK_STREAM_FAILURE
    if stream.has_headers or stream.fault:
        return 0
    if stream.header_bytes > stream.connection.loop.max_headers:
        stream.fault = FAULT_HEADERS
        return 0
    if text.n == 5 and memcmp(text.p, b":path", 5) == 0:
        stream.path = stream.header_count
    elif text.n == 12 and memcmp(text.p, b"grpc-timeout", 12) == 0:
        stream.timeout = stream.header_count if stream.timeout == -1 else AMBIGUOUS
    elif text.n == 2 or text.n == 7 or text.n == 12:
        stream.form |= _form(text, nghttp2.rcbuf_get_buf(value))
    elif text.n == 13 and memcmp(text.p, b"authorization", 13) == 0:
        stream.several_authorizations = stream.authorization >= 0
        stream.authorization = stream.header_count
    return 0 if add_header(stream, name, value) else CALLBACK_FAILURE


cdef int _form(Vector name, Vector value) noexcept nogil:
    """Return the flags that a header sets for the form of a request (gRPC over HTTP/2, "Requests")."""
    if name.n == 2:
        return HAS_TE if memcmp(name.p, b"te", 2) == 0 else 0
    if name.n == 12:
        if memcmp(name.p, b"content-type", 12) == 0:
            return IS_GRPC if value.n >= 16 and memcmp(value.p, b"application/grpc", 16) == 0 else 0
    elif memcmp(name.p, b":method", 7) == 0:
        return IS_POST if value.n == 4 and memcmp(value.p, b"POST", 4) == 0 else 0
    elif memcmp(name.p, b":scheme", 7) == 0:
        if value.n == 4 or (value.n == 5 and value.p[4] == b"s"):
            return IS_HTTP if memcmp(value.p, b"http", 4) == 0 else 0
    return 0


cdef int _on_frame(Session session, const FrameHeader *frame, void *user) noexcept nogil:
    cdef Connection *connection = <Connection *> user
    cdef Stream *stream
    if frame.type != FRAME_HEADERS and frame.type != FRAME_DATA:
        if frame.type == FRAME_SETTINGS:
            connection.greeted = True
        elif frame.type == FRAME_PING and not frame.flags & FLAG_ACK:
            _count_ping(connection)
        if frame.type == FRAME_RST_STREAM:
            _count_reset(connection, <Stream *> nghttp2.session_get_stream_user_data(session, frame.stream_id))
        else:
            _count_idle_frame(connection)
        return 0
    stream = <Stream *> nghttp2.session_get_stream_user_data(session, frame.stream_id)
    if stream == NULL:
        return 0
    if frame.type == FRAME_HEADERS:
        if not stream.has_headers:
            stream.has_headers = True
            stream.arrived_ns = connection.loop.now_ns
        _go_on(stream)
    elif frame.length == 0 and not frame.flags & FLAG_END_STREAM:
        _count_idle_frame(connection)
    else:
        connection.idle_frames = max(0, connection.idle_frames - IDLE_FRAMES_PER_MESSAGE)
    if frame.flags & FLAG_END_STREAM:
        stream.ended = True
        _go_on(stream)
    return 0


cdef void _go_on(Stream *stream) noexcept nogil:
    """Let a stream continue. If its caller must be looked up, it waits for that."""
    if stream.call == NULL:
        if stream.is_waiting:
            return
        if stream.lane >= LANE_NEW and stream.has_headers and cached_caller(stream) == NULL:
            wait_for_look_up(stream)
            return
    make_ready(stream)


cdef void _count_idle_frame(Connection *connection) noexcept nogil:
    connection.idle_frames += 1
    if connection.idle_frames > MAX_IDLE_FRAMES:
        end_with(connection, ENHANCE_YOUR_CALM)


cdef void _count_reset(Connection *connection, const Stream *stream) noexcept nogil:
    """Refuse a client that resets too many streams. The resets of streams just begun weigh most."""
    cdef int64_t now = connection.loop.now_ns
    cdef int64_t regained = (now - connection.resets_counted_ns) * RESETS_PER_SECOND // SECOND_NS
    cdef int weight = 1
    if regained:
        connection.resets = <int> max(0, connection.resets - regained)
        connection.resets_counted_ns = now
    if stream != NULL and stream.call == NULL and stream.answer == ANSWER_NONE:
        if connection.lane == LANE_NEW or connection.lane == LANE_STRANGERS:
            connection.lane = LANE_STRANGERS
            weight = STRANGERS_RESET
        elif stream.arrived_ns == now:
            weight = HASTY_RESET
    connection.resets += weight
    if connection.resets > RESET_BURST:
        end_with(connection, ENHANCE_YOUR_CALM)


cdef bint frames_within_bounds(Connection *connection, const uint8_t *data, size_t n) noexcept nogil:
    """Follow the frames of bytes that the library has not seen; False if one more CONTINUATION is too many."""
    cdef size_t part
    cdef int kind
    while n:
        part = min(n, connection.frame_left)
        connection.frame_left -= part
        data += part
        n -= part
        part = min(n, FRAME_HEADER - connection.frame_header_size)
        memcpy(connection.frame_header + connection.frame_header_size, data, part)
        connection.frame_header_size += part
        data += part
        n -= part
        if connection.frame_header_size < FRAME_HEADER:
            return True
        connection.frame_header_size = 0
        connection.frame_left = (
            (<size_t> connection.frame_header[0] << 16) | (connection.frame_header[1] << 8) | connection.frame_header[2]
        )
        kind = connection.frame_header[3]
        connection.continuations = connection.continuations + 1 if kind == FRAME_CONTINUATION else 0
        if connection.continuations > MAX_CONTINUATIONS:
            return False
    return True


cdef void _count_ping(Connection *connection) noexcept nogil:
    """Refuse a client that sends pings more often than every five seconds, while nothing is sent to it."""
    cdef int64_t now = connection.loop.now_ns
    if connection.last_ping_ns and now - connection.last_ping_ns < MIN_PING_INTERVAL_NS:
        connection.ping_strikes += 1
        if connection.ping_strikes > MAX_PING_STRIKES:
            # Clients of gRPC know the text: they ping less often from then on.
            nghttp2.submit_goaway(
                connection.session,
                0,
                nghttp2.session_get_last_proc_stream_id(connection.session),
                ENHANCE_YOUR_CALM,
                <const uint8_t *> b"too_many_pings",
                14,
            )
            end_with(connection, ENHANCE_YOUR_CALM)
    connection.last_ping_ns = now


cdef int _on_data(
    Session session, uint8_t flags, int32_t stream_id, const uint8_t *data, size_t n, void *user
) noexcept nogil:
    cdef Stream *stream = <Stream *> nghttp2.session_get_stream_user_data(session, stream_id)
    # The connection's window is for all streams: one that is not received yet must not close it.
    nghttp2.session_consume_connection(session, n)
    if stream == NULL or stream.discarding or stream.fault:
        nghttp2.session_consume_stream(session, stream_id, n)
        return 0
    if not add_body(stream, data, n):
        return CALLBACK_FAILURE
    if stream.receiving:
        nghttp2.session_consume_stream(session, stream_id, n)
    else:
        stream.unconsumed += n
    check_prefix(stream)
    if stream.fault or message_size(stream) >= 0:
        _go_on(stream)
    return 0


cdef int _on_stream_close(Session session, int32_t stream_id, uint32_t error, void *user) noexcept nogil:
    cdef Stream *stream = <Stream *> nghttp2.session_get_stream_user_data(session, stream_id)
    if stream == NULL:
        return 0
    stream.closed = True
    unexpect(stream)
    unwait(stream)
    (<Connection *> user).busy_ns = (<Connection *> user).loop.now_ns
    if stream.call != NULL:
        make_ready(stream)
    else:
        unready(stream)
        stream_unlink(stream)
        stream_free(stream)
    return 0


# The times of connections.

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


# The end of streams and connections. The memory of a connection lasts until the last of its calls has ended.

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


# Close every connection of a loop that ends, and release their calls. None is called back.
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
    """Take a connection from every list of its loop, except that of failed ones, which it has left."""
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


# The sockets of connections, with TLS or without.

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
    """Read at most ``room`` bytes, since the other connections have their turn. Return their number."""
    cdef size_t left = room
    cdef Py_ssize_t n
    cdef int _
    if connection.tls != NULL and not connection.tls_ready and not _shake_hands(connection):
        return 0
    for _ in range(1 if connection.tls == NULL else TLS_READS):
        n = _receive(connection, buffer, left)
        if n == AGAIN:
            return room - left
        # A bad preface, a flood, or no memory: no answer would help.
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
    """Continue the handshake of TLS; True when it is done."""
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
    """Read in the next turn, even without an event: bytes may wait in TLS."""
    if connection.tls != NULL and not connection.reads_again:
        connection.reads_again = True
        connection.next_again = connection.loop.first_again
        connection.loop.first_again = connection


cdef void write_to(Connection *connection) noexcept nogil:
    """Send the output of nghttp2, as far as the client reads it."""
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
