"""libnghttp2 (HTTP/2 without sockets, RFC 9113), loaded at run time. Its names are in its own documentation."""

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t

cdef enum:
    # Frame types and flags (RFC 9113, section 6).
    FRAME_DATA = 0
    FRAME_HEADERS = 1
    FRAME_PRIORITY = 2
    FRAME_RST_STREAM = 3
    FRAME_SETTINGS = 4
    FRAME_PING = 6
    FRAME_GOAWAY = 7
    FLAG_END_STREAM = 1
    FLAG_ACK = 1
    # Error codes (RFC 9113, section 7).
    NO_ERROR = 0
    PROTOCOL_ERROR = 1
    CANCEL = 8
    ENHANCE_YOUR_CALM = 11
    # Settings (RFC 9113, section 6.5.2).
    SETTINGS_MAX_CONCURRENT_STREAMS = 3
    SETTINGS_INITIAL_WINDOW_SIZE = 4
    SETTINGS_MAX_HEADER_LIST_SIZE = 6
    # libnghttp2's own numbers.
    NV_NO_COPY = 6
    DATA_EOF = 1
    DATA_NO_END_STREAM = 2
    DATA_DEFERRED = -508
    CALLBACK_FAILURE = -902
    # The stream is reset, and no more of its header block is validated or reported.
    CALLBACK_STREAM_FAILURE = -521

ctypedef void *Session
ctypedef void *HeaderBuffer

cdef struct Field:
    const uint8_t *name
    const uint8_t *value
    size_t name_size
    size_t value_size
    uint8_t flags

# The beginning of every frame that a callback gets.
cdef struct FrameHeader:
    size_t length
    int32_t stream_id
    uint8_t type
    uint8_t flags
    uint8_t reserved

cdef struct ResetFrame:
    FrameHeader header
    uint32_t error

cdef struct Vector:
    const uint8_t *p
    size_t n

cdef struct Setting:
    int32_t id
    uint32_t value

ctypedef Py_ssize_t (*ReadBody)(
    Session session, int32_t stream_id, uint8_t *buffer, size_t length, uint32_t *flags, void **source, void *user
) noexcept nogil
ctypedef int (*OnFrame)(Session session, const FrameHeader *frame, void *user) noexcept nogil
ctypedef int (*OnHeader)(
    Session session, const FrameHeader *frame, HeaderBuffer name, HeaderBuffer value, uint8_t flags, void *user
) noexcept nogil
ctypedef int (*OnData)(
    Session session, uint8_t flags, int32_t stream_id, const uint8_t *data, size_t n, void *user
) noexcept nogil
ctypedef int (*OnStreamClose)(Session session, int32_t stream_id, uint32_t error, void *user) noexcept nogil

cdef struct Body:
    void *source
    ReadBody read

# The functions, by their names without the prefix nghttp2_.
cdef struct Nghttp2:
    int (*session_callbacks_new)(void **) noexcept nogil
    void (*session_callbacks_del)(void *) noexcept nogil
    void (*session_callbacks_set_on_begin_headers_callback)(void *, OnFrame) noexcept nogil
    void (*session_callbacks_set_on_header_callback2)(void *, OnHeader) noexcept nogil
    void (*session_callbacks_set_on_frame_recv_callback)(void *, OnFrame) noexcept nogil
    void (*session_callbacks_set_on_frame_send_callback)(void *, OnFrame) noexcept nogil
    void (*session_callbacks_set_on_data_chunk_recv_callback)(void *, OnData) noexcept nogil
    void (*session_callbacks_set_on_stream_close_callback)(void *, OnStreamClose) noexcept nogil
    int (*option_new)(void **) noexcept nogil
    void (*option_del)(void *) noexcept nogil
    void (*option_set_no_auto_window_update)(void *, int) noexcept nogil
    void (*option_set_no_rfc9113_leading_and_trailing_ws_validation)(void *, int) noexcept nogil
    void (*option_set_max_outbound_ack)(void *, size_t) noexcept nogil
    void (*option_set_max_settings)(void *, size_t) noexcept nogil
    void (*option_set_max_continuations)(void *, size_t) noexcept nogil
    void (*option_set_stream_reset_rate_limit)(void *, uint64_t, uint64_t) noexcept nogil
    int (*session_server_new2)(Session *, void *, void *, void *) noexcept nogil
    void (*session_del)(Session) noexcept nogil
    Py_ssize_t (*session_mem_recv)(Session, const uint8_t *, size_t) noexcept nogil
    Py_ssize_t (*session_mem_send)(Session, const uint8_t **) noexcept nogil
    int (*session_want_read)(Session) noexcept nogil
    int (*session_want_write)(Session) noexcept nogil
    int (*session_consume_connection)(Session, size_t) noexcept nogil
    int (*session_consume_stream)(Session, int32_t, size_t) noexcept nogil
    int (*session_resume_data)(Session, int32_t) noexcept nogil
    int (*session_set_local_window_size)(Session, uint8_t, int32_t, int32_t) noexcept nogil
    int (*session_terminate_session)(Session, uint32_t) noexcept nogil
    void *(*session_get_stream_user_data)(Session, int32_t) noexcept nogil
    int (*session_set_stream_user_data)(Session, int32_t, void *) noexcept nogil
    int32_t (*session_get_last_proc_stream_id)(Session) noexcept nogil
    int (*submit_settings)(Session, uint8_t, const Setting *, size_t) noexcept nogil
    int (*submit_response)(Session, int32_t, const Field *, size_t, const Body *) noexcept nogil
    int (*submit_trailer)(Session, int32_t, const Field *, size_t) noexcept nogil
    int (*submit_rst_stream)(Session, uint8_t, int32_t, uint32_t) noexcept nogil
    int (*submit_goaway)(Session, uint8_t, int32_t, uint32_t, const uint8_t *, size_t) noexcept nogil
    int (*submit_shutdown_notice)(Session) noexcept nogil
    int (*submit_ping)(Session, uint8_t, const uint8_t *) noexcept nogil
    void (*rcbuf_incref)(HeaderBuffer) noexcept nogil
    void (*rcbuf_decref)(HeaderBuffer) noexcept nogil
    Vector (*rcbuf_get_buf)(HeaderBuffer) noexcept nogil

# Filled by load(); before that every pointer is NULL.
cdef Nghttp2 nghttp2
