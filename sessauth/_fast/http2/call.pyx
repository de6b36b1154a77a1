"""A call: the answer of its stream, the object that Python sees, and the callers that a connection caches.

The methods of a NativeCall may be called on any thread. Everything else runs on the thread of the loop.
"""

import base64
import time
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int32_t, uint32_t, uint8_t
from libc.stdio cimport snprintf
from libc.string cimport memcmp, memcpy, strdup, strlen
from urllib.parse import quote


# The answers of a connection's streams, submitted without the interpreter lock.

cdef enum:
    STATUS_BYTES = 12


cdef inline Field _field(const char *name, const char *value) noexcept nogil:
    """Return a field. nghttp2 copies its name and value, unless its flags are set to NV_NO_COPY."""
    cdef Field field
    field.name = <const uint8_t *> name
    field.name_size = strlen(name)
    field.value = <const uint8_t *> value
    field.value_size = strlen(value)
    field.flags = 0
    return field


cdef bint _begin(Stream *stream) noexcept nogil:
    cdef Field fields[3]
    cdef Body body
    fields[0] = _field(b":status", b"200")
    fields[1] = _field(b"content-type", b"application/grpc")
    fields[2] = _field(b"grpc-accept-encoding", b"identity")
    fields[0].flags = fields[1].flags = fields[2].flags = NV_NO_COPY
    body.source = stream
    body.read = _read_body
    return nghttp2.submit_response(stream.connection.session, stream.id, fields, 3, &body) == 0


cdef Py_ssize_t _read_body(
    Session session, int32_t stream_id, uint8_t *buffer, size_t length, uint32_t *flags, void **source, void *user
) noexcept nogil:
    cdef Stream *stream = <Stream *> source[0]
    cdef OutMessage *out
    cdef size_t n = 0
    cdef size_t part
    while n < length and stream.first_out != NULL:
        out = stream.first_out
        part = min(out.n - out.written, length - n)
        memcpy(buffer + n, out.bytes + out.written, part)
        out.written += part
        n += part
        if out.written == out.n:
            drop_first_out(stream)
            if stream.call != NULL:
                stream.written += 1
                make_ready(stream)
    if n:
        stream.stalled_ns = 0
        give_turn(stream.connection)
    if stream.first_out == NULL and stream.answer == ANSWER_FINISHING:
        flags[0] |= DATA_EOF | DATA_NO_END_STREAM
        if not _submit_status(stream, False):
            return CALLBACK_FAILURE
    elif n == 0:
        stream.deferred = True
        return DATA_DEFERRED
    return n


cdef bint _submit_status(Stream *stream, bint alone) noexcept nogil:
    """Submit the status of a call: as trailers, or ``alone`` as the whole answer."""
    cdef Field fields[5]
    cdef char number[STATUS_BYTES]
    cdef int count = 0
    cdef int refused
    if alone:
        fields[0] = _field(b":status", b"200")
        fields[1] = _field(b"content-type", b"application/grpc")
        fields[0].flags = fields[1].flags = NV_NO_COPY
        count = 2
    if stream.status:
        snprintf(number, STATUS_BYTES, b"%d", stream.status)
        fields[count] = _field(b"grpc-status", number)
    else:
        fields[count] = _field(b"grpc-status", b"0")
        fields[count].flags = NV_NO_COPY
    count += 1
    if stream.details != NULL:
        fields[count] = _field(b"grpc-message", stream.details)
        count += 1
    if stream.status_details != NULL:
        fields[count] = _field(b"grpc-status-details-bin", stream.status_details)
        count += 1
    if alone:
        refused = nghttp2.submit_response(stream.connection.session, stream.id, fields, count, NULL)
    else:
        refused = nghttp2.submit_trailer(stream.connection.session, stream.id, fields, count)
    return refused == 0


# Parts of an answer. False without memory, and then nothing was begun.
cdef bint answer(Stream *stream, const char *message, size_t n) noexcept nogil:
    if not add_out(stream, message, n):
        return False
    stream.answer = ANSWER_FINISHING
    stream.discarding = True
    make_dirty(stream.connection)
    return _begin(stream)


cdef bint send_message(Stream *stream, const char *message, size_t n) noexcept nogil:
    if not add_out(stream, message, n):
        return False
    make_dirty(stream.connection)
    if stream.answer == ANSWER_NONE:
        stream.answer = ANSWER_BEGUN
        return _begin(stream)
    return _resume(stream)


# `details` and `status_details` may be NULL; they are copied.
cdef bint finish(Stream *stream, int status, const char *details, const char *status_details) noexcept nogil:
    if details != NULL:
        stream.details = strdup(details)
    if status_details != NULL:
        stream.status_details = strdup(status_details)
    if (details != NULL and stream.details == NULL) or (status_details != NULL and stream.status_details == NULL):
        return False
    stream.status = status
    stream.discarding = True
    make_dirty(stream.connection)
    if stream.answer == ANSWER_NONE:
        stream.answer = ANSWER_FINISHING
        return _submit_status(stream, True)
    stream.answer = ANSWER_FINISHING
    return _resume(stream)


cdef bint _resume(Stream *stream) noexcept nogil:
    if stream.deferred:
        stream.deferred = False
        return nghttp2.session_resume_data(stream.connection.session, stream.id) == 0
    return True


cdef bint refuse_request(Stream *stream, const char *http_status) noexcept nogil:
    """Answer a request that is not gRPC."""
    cdef Field field = _field(b":status", http_status)
    stream.answer = ANSWER_FINISHING
    stream.discarding = True
    make_dirty(stream.connection)
    return nghttp2.submit_response(stream.connection.session, stream.id, &field, 1, NULL) == 0


cdef void reset(Stream *stream, uint32_t error) noexcept nogil:
    stream.discarding = True
    nghttp2.submit_rst_stream(stream.connection.session, 0, stream.id, error)
    make_dirty(stream.connection)


# Let the client send as much as the next message needs.
cdef void receive(Stream *stream) noexcept nogil:
    stream.receiving = True
    if stream.unconsumed:
        nghttp2.session_consume_stream(stream.connection.session, stream.id, stream.unconsumed)
        stream.unconsumed = 0
        make_dirty(stream.connection)


# nghttp2 calls it for each frame that was sent.
cdef int on_frame_sent(Session session, const FrameHeader *frame, void *user) noexcept nogil:
    cdef Stream *stream
    cdef uint32_t error
    if frame.type == FRAME_RST_STREAM:
        error = (<const ResetFrame *> frame).error
        if error != NO_ERROR and error != CANCEL:
            # The client made the server reset it.
            (<Connection *> user).idle_frames += 1
    if frame.type != FRAME_HEADERS and frame.type != FRAME_DATA:
        return 0
    (<Connection *> user).ping_strikes = 0
    (<Connection *> user).last_ping_ns = 0
    if not frame.flags & FLAG_END_STREAM:
        return 0
    stream = <Stream *> nghttp2.session_get_stream_user_data(session, frame.stream_id)
    if stream != NULL:
        stream.answer = ANSWER_SENT
        if not stream.ended:
            # The answer is complete: the client need send no more (RFC 9113, 8.1).
            nghttp2.submit_rst_stream(session, 0, frame.stream_id, NO_ERROR)
    return 0


cdef enum:
    RECEIVE = 0
    ANSWER = 1
    SEND = 2
    END = 3
    CANCEL_CALL = 4
    # gRPC's codes.
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    MAX_HOURS = 2_000_000

cdef long long SECOND_NS = 1_000_000_000
# Headers of HTTP and gRPC, which are not metadata (gRPC over HTTP/2, "Requests").
cdef frozenset RESERVED = frozenset(
    {"te", "content-type", "grpc-timeout", "grpc-encoding", "grpc-accept-encoding", "grpc-message-type"}
)
# Characters of a status message that are sent as they are (gRPC over HTTP/2, "Responses").
cdef str PLAIN = "".join([chr(code) for code in range(0x20, 0x7F) if code != 0x25])
cdef CommandQueue _NO_LOOP = CommandQueue.__new__(CommandQueue)
cdef bytes COMPRESSED_TEXT = b"compressed messages are not accepted; send them without grpc-encoding"


cdef class NativeCall(Command):
    """One call on a stream of HTTP/2. The loop creates it."""

    # NULL once the stream is closed. Only the thread of the loop reads it.
    cdef Stream *stream
    cdef CommandQueue commands
    cdef readonly str method
    # Pairs of names and values, as grpcio has them.
    cdef readonly tuple metadata
    # Seconds since 1970; infinite without a timeout.
    cdef readonly double deadline
    cdef str _peer
    cdef object _facts
    cdef object _on_end
    cdef object _on_message
    cdef object _on_written

    def peer(self):
        """Return the address of the client, as gRPC writes it."""
        return self._peer

    def certificate_facts(self):
        """Return the facts of the client's certificate by gRPC's names; empty without one."""
        return self._facts or {}

    def notice_end(self, on_end not None):
        """Call ``on_end(cancelled)`` when the call has ended; ``cancelled``: without its status."""
        self._on_end = on_end

    def receive(self, on_message not None):
        """Call ``on_message(message)`` with the next message; None if the client sends no more."""
        self.commands.post(self, RECEIVE, on_message, None, None)

    def answer(self, bytes message not None):
        """Send the message of a unary call and the status OK."""
        self.commands.post(self, ANSWER, message, None, None)

    def send(self, bytes message not None, on_written not None, *, bint first=False):
        """Send a message of a stream; ``on_written()`` is called when it is on its way."""
        self.commands.post(self, SEND, message, on_written, None)

    def end(self, int code, str details not None, status_details=None, *, bint first=False):
        """Send the status of the call; ``status_details`` is its google.rpc.Status, encoded."""
        text = encoded_text(details) if details else None
        encoded = encoded_details(status_details) if status_details else None
        self.commands.post(self, END, code, text, encoded)

    def cancel(self):
        """End the call without a status."""
        self.commands.post(self, CANCEL_CALL, None, None, None)

    def __cinit__(self):
        # For calls that no loop created: their commands have no effect.
        self.commands = _NO_LOOP

    cdef int run(self, int operation, object first, object second, object third) except -1:
        cdef Stream *stream = self.stream
        cdef bint done = True
        if operation == RECEIVE:
            self._on_message = first
        elif operation == SEND:
            # A sender waits for each message before the next.
            self._on_written = second
        if stream == NULL:
            if operation == RECEIVE:
                self._deliver(None)
            elif operation == SEND:
                self._on_written = None
                second()
            return 0
        if stream.closed:
            # It is ready: advance() calls back.
            return 0
        if operation == RECEIVE:
            receive(stream)
            # Not delivered here: a callback that receives the next message would be called within itself.
            if stream.fault or stream.ended or message_size(stream) >= 0:
                make_ready(stream)
        elif operation == ANSWER:
            done = stream.answer != ANSWER_NONE or answer(
                stream, PyBytes_AS_STRING(first), PyBytes_GET_SIZE(first)
            )
        elif operation == SEND:
            done = stream.answer >= ANSWER_FINISHING or send_message(
                stream, PyBytes_AS_STRING(first), PyBytes_GET_SIZE(first)
            )
        elif operation == END:
            done = stream.answer >= ANSWER_FINISHING or finish(
                stream,
                first,
                NULL if second is None else PyBytes_AS_STRING(second),
                NULL if third is None else PyBytes_AS_STRING(third),
            )
        else:
            reset(stream, CANCEL)
        if not done:
            fail(stream.connection)
        return 0

    # Call back for the events of the stream. A closed one is no longer this call's, even if this raises.
    cdef int advance(self) except -1:
        cdef Stream *stream = self.stream
        if stream.closed:
            # First: the stream is freed even if a callback raises.
            self.stream = NULL
            return self._end(stream.expired or stream.answer != ANSWER_SENT)
        if stream.written:
            stream.written = 0
            self._report_written()
        if self._on_message is not None:
            self._deliver_next()
        return 0

    cdef int _end(self, bint cancelled) except -1:
        """Call back for the last time, for everything that still waits. Each callback is called if another raises."""
        on_end, self._on_end = self._on_end, None
        try:
            # The messages of a call that has ended count as written too.
            self._report_written()
        finally:
            try:
                if on_end is not None:
                    on_end(cancelled)
            finally:
                self._deliver(None)
        return 0

    cdef int _report_written(self) except -1:
        on_written, self._on_written = self._on_written, None
        if on_written is not None:
            on_written()
        return 0

    cdef int _deliver_next(self) except -1:
        """Deliver the next message if it has come, or the end of the messages."""
        cdef Stream *stream = self.stream
        cdef Py_ssize_t size
        cdef bytes text
        if stream.fault:
            if stream.answer >= ANSWER_FINISHING:
                return 0
            if stream.fault == FAULT_SIZE:
                # The text of gRPC's core.
                text = b"SERVER: Received message larger than max (%d vs. %d)" % (
                    stated_size(stream), stream.connection.loop.max_message
                )
                finish(stream, RESOURCE_EXHAUSTED, PyBytes_AS_STRING(text), NULL)
            elif stream.fault == FAULT_COMPRESSED:
                finish(stream, UNIMPLEMENTED, PyBytes_AS_STRING(COMPRESSED_TEXT), NULL)
            return 0
        size = message_size(stream)
        if size < 0:
            if stream.ended:
                self._deliver(None)
            return 0
        stream.receiving = False
        message = PyBytes_FromStringAndSize(<const char *> stream.body + stream.body_begin + MESSAGE_PREFIX, size)
        drop_message(stream)
        return self._deliver(message)

    cdef int _deliver(self, object message) except -1:
        on_message, self._on_message = self._on_message, None
        if on_message is not None:
            on_message(message)
        return 0


cdef bytes encoded_text(str text):
    """Return the text of a status as it is sent."""
    return quote(text, safe=PLAIN).encode()


cdef bytes encoded_details(bytes status):
    """Return an encoded google.rpc.Status as it is sent."""
    return base64.b64encode(status).rstrip(b"=")


cdef NativeCall call_of(Stream *stream, CommandQueue commands):
    """Create the call of a stream whose headers have come."""
    cdef NativeCall call = NativeCall.__new__(NativeCall)
    cdef Vector value
    cdef long long ns = -1
    cdef long long waited_ns
    call.stream = stream
    call.commands = commands
    call._peer = <object> stream.connection.peer
    call._facts = None if stream.connection.facts == NULL else <object> stream.connection.facts
    call.method = "" if stream.path < 0 else _text(stream.headers[stream.path].value)
    if stream.timeout >= 0:
        value = nghttp2.rcbuf_get_buf(stream.headers[stream.timeout].value)
        ns = timeout_ns(value.p, value.n)
    if ns >= 0:
        stream.deadline_ns = stream.arrived_ns + ns
    waited_ns = stream.connection.loop.now_ns - stream.arrived_ns
    call.deadline = float("inf") if ns < 0 else time.time() + (ns - waited_ns) / 1e9
    call.metadata = _metadata(stream)
    drop_headers(stream)
    return call


cdef tuple _metadata(const Stream *stream):
    cdef list found = []
    cdef int i
    for i in range(stream.header_count):
        name = _text(stream.headers[i].name)
        if name.startswith(":") or name in RESERVED:
            continue
        value = _text(stream.headers[i].value)
        if not name.endswith("-bin"):
            found.append((name, value))
            continue
        for part in value.split(","):
            part = part.strip()
            try:
                found.append((name, base64.b64decode(part + "=" * (3 - (len(part) + 3) % 4), validate=True)))
            except ValueError:
                # Not of the form that its name promises: nobody may mistake it for that.
                continue
    return tuple(found)


cdef str _text(HeaderBuffer buffer):
    cdef Vector text = nghttp2.rcbuf_get_buf(buffer)
    data = PyBytes_FromStringAndSize(<const char *> text.p, text.n)
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")


# The value of a grpc-timeout header in ns; -1: it is malformed.
cdef long long timeout_ns(const unsigned char *p, size_t n) noexcept nogil:
    cdef long long value = 0
    cdef unsigned char unit
    cdef size_t i
    # At most eight digits and a unit.
    if n < 2 or n > 9:
        return -1
    for i in range(n - 1):
        if p[i] < b"0" or p[i] > b"9":
            return -1
        value = value * 10 + (p[i] - <unsigned char> b"0")
    unit = p[n - 1]
    if unit == b"n":
        return value
    if unit == b"u":
        return value * 1_000
    if unit == b"m":
        return value * 1_000_000
    if unit == b"S":
        return value * SECOND_NS
    # 10^8 minutes are 6 * 10^18 ns; 10^8 hours are more than 63 bits hold.
    if unit == b"M":
        return value * 60 * SECOND_NS
    if unit == b"H":
        return (value if value < MAX_HOURS else MAX_HOURS) * 3_600 * SECOND_NS
    return -1


# The callers that a connection caches, by the exact values of ``:path`` and ``authorization``.
#
# They are valid for one generation of credentials, and dropped when it changes.

# The DirectCaller of a stream, borrowed; NULL: none is cached.
cdef PyObject *cached_caller(const Stream *stream) noexcept nogil:
    cdef Connection *connection = stream.connection
    cdef Caller *caller
    cdef int i
    if connection.generation != connection.loop.generation or stream.several_authorizations:
        return NULL
    for i in range(CALLERS):
        caller = &connection.callers[i]
        if (
            caller.direct != NULL
            and _equal(caller.path, _value(stream, stream.path))
            and _equal(caller.authorization, _value(stream, stream.authorization))
        ):
            return caller.direct
    return NULL


cdef void cache_caller(Stream *stream, object direct) noexcept:
    cdef Connection *connection = stream.connection
    cdef Caller *caller
    if connection.generation != connection.loop.generation:
        drop_callers(connection)
        connection.generation = connection.loop.generation
    caller = &connection.callers[connection.next_caller]
    connection.next_caller = (connection.next_caller + 1) % CALLERS
    _drop(caller)
    caller.path = _value(stream, stream.path)
    caller.authorization = _value(stream, stream.authorization)
    nghttp2.rcbuf_incref(caller.path)
    if caller.authorization != NULL:
        nghttp2.rcbuf_incref(caller.authorization)
    Py_INCREF(direct)
    caller.direct = <PyObject *> direct


cdef void drop_callers(Connection *connection) noexcept:
    cdef int i
    for i in range(CALLERS):
        _drop(&connection.callers[i])


cdef void _drop(Caller *caller) noexcept:
    cdef PyObject *direct = caller.direct
    if direct == NULL:
        return
    caller.direct = NULL
    nghttp2.rcbuf_decref(caller.path)
    if caller.authorization != NULL:
        nghttp2.rcbuf_decref(caller.authorization)
    # Last: it may run Python.
    Py_XDECREF(direct)


cdef inline HeaderBuffer _value(const Stream *stream, int place) noexcept nogil:
    return NULL if place < 0 else stream.headers[place].value


cdef bint _equal(HeaderBuffer a, HeaderBuffer b) noexcept nogil:
    cdef Vector first, second
    # An indexed header is the same buffer each time.
    if a == b:
        return True
    if a == NULL or b == NULL:
        return False
    first = nghttp2.rcbuf_get_buf(a)
    second = nghttp2.rcbuf_get_buf(b)
    return first.n == second.n and memcmp(first.p, second.p, first.n) == 0
