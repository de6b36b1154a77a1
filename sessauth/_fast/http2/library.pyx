"""libnghttp2, loaded at run time: nothing is needed to build."""

from pathlib import Path

from libc.stdint cimport int32_t, uint8_t, uint32_t, uint64_t
from posix.dlfcn cimport RTLD_LOCAL, RTLD_NOW, dlerror, dlopen, dlsym

cdef enum:
    # Frame types and flags (RFC 9113, section 6).
    FRAME_DATA = 0
    FRAME_HEADERS = 1
    FRAME_PRIORITY = 2
    FRAME_RST_STREAM = 3
    FRAME_SETTINGS = 4
    FRAME_PING = 6
    FRAME_GOAWAY = 7
    FRAME_CONTINUATION = 9
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

# Filled by load_nghttp2(); before that every pointer is NULL.
cdef Nghttp2 nghttp2


# Its stable ABI; present wherever curl is.
NGHTTP2_LIBRARY = "libnghttp2.so.14"
# 1.43.0 has every function but those that are optional.
cdef int OLDEST = 0x012B00
# Of 1.50, 1.57 and 1.61: what they turn off or bound, older ones don't have, or it is bounded here.
OPTIONAL_FUNCTIONS = (
    "option_set_max_continuations",
    "option_set_no_rfc9113_leading_and_trailing_ws_validation",
    "option_set_stream_reset_rate_limit",
)

cdef struct Version:
    int age
    int number
    const char *text

cdef str _loaded_version = ""


def load_nghttp2(paths=None):
    """Load the library from the first of ``paths`` that is there, once. Return its version, such as ``1.64.0``.

    By default that is the library beside this module, which a binary wheel has, else the system's. Raises OSError,
    with the reason, if there is none, it is older than 1.43.0, or it lacks a function.
    """
    global _loaded_version
    if _loaded_version:
        return _loaded_version
    cdef void *library = NULL
    cdef list problems = []
    cdef bytes name
    if paths is None:
        bundled = Path(__file__).with_name(NGHTTP2_LIBRARY)
        paths = (bundled, NGHTTP2_LIBRARY) if bundled.exists() else (NGHTTP2_LIBRARY,)
    for path in paths:
        name = str(path).encode()
        library = dlopen(name, RTLD_NOW | RTLD_LOCAL)
        if library != NULL:
            break
        problems.append((<bytes> dlerror()).decode("utf-8", "replace"))
    if library == NULL:
        raise OSError("; ".join(problems) or "no library is named")
    cdef const Version *(*version)(int) noexcept nogil
    version = <const Version *(*)(int) noexcept nogil> _nghttp2_function(library, "version")
    cdef const Version *found = version(0)
    text = (<bytes> found.text).decode()
    if found.number < OLDEST:
        raise OSError(f"it is libnghttp2 {text}, and 1.43.0 is the oldest that serves")
    _fill_nghttp2(library)
    _loaded_version = text
    return text


cdef void *_nghttp2_function(void *library, str name) except? NULL:
    symbol = f"nghttp2_{name}".encode()
    cdef void *found = dlsym(library, symbol)
    if found == NULL and name not in OPTIONAL_FUNCTIONS:
        raise OSError(f"it has no function nghttp2_{name}")
    return found


cdef int _fill_nghttp2(void *library) except -1:
    """Look up every function. The names of the struct's members, in their order, are those of the library."""
    cdef void **place = <void **> &nghttp2
    cdef list found = []
    cdef int i
    for name in NGHTTP2_FUNCTIONS:
        found.append(<size_t> _nghttp2_function(library, name))
    if len(found) * sizeof(void *) != sizeof(Nghttp2):
        raise AssertionError("a function has no name, or a name no function")
    for i in range(len(found)):
        place[i] = <void *> <size_t> found[i]
    return 0


NGHTTP2_FUNCTIONS = (
    "session_callbacks_new",
    "session_callbacks_del",
    "session_callbacks_set_on_begin_headers_callback",
    "session_callbacks_set_on_header_callback2",
    "session_callbacks_set_on_frame_recv_callback",
    "session_callbacks_set_on_frame_send_callback",
    "session_callbacks_set_on_data_chunk_recv_callback",
    "session_callbacks_set_on_stream_close_callback",
    "option_new",
    "option_del",
    "option_set_no_auto_window_update",
    "option_set_no_rfc9113_leading_and_trailing_ws_validation",
    "option_set_max_outbound_ack",
    "option_set_max_settings",
    "option_set_max_continuations",
    "option_set_stream_reset_rate_limit",
    "session_server_new2",
    "session_del",
    "session_mem_recv",
    "session_mem_send",
    "session_want_read",
    "session_want_write",
    "session_consume_connection",
    "session_consume_stream",
    "session_resume_data",
    "session_set_local_window_size",
    "session_terminate_session",
    "session_get_stream_user_data",
    "session_set_stream_user_data",
    "session_get_last_proc_stream_id",
    "submit_settings",
    "submit_response",
    "submit_trailer",
    "submit_rst_stream",
    "submit_goaway",
    "submit_shutdown_notice",
    "submit_ping",
    "rcbuf_incref",
    "rcbuf_decref",
    "rcbuf_get_buf",
)
