"""The answers of a connection's streams.

Everything here runs on the thread of the loop, without the interpreter lock.
"""

from libc.stdint cimport int32_t, uint8_t, uint32_t
from libc.stdio cimport snprintf
from libc.string cimport memcpy, strdup, strlen

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


# Parts of an answer. False without memory; nothing was begun then.
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
    """Answer a request that is none of gRPC."""
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
