"""libnghttp2, loaded at run time: nothing is needed to build, and a server without it serves through grpcio."""

from pathlib import Path

from sessauth._fast.http2.library cimport Nghttp2, nghttp2

__all__ = ["LIBRARY", "load"]

# Its stable ABI; present wherever curl is.
LIBRARY = "libnghttp2.so.14"
# 1.61.0 bounds CONTINUATION frames (CVE-2024-28182).
cdef int OLDEST = 0x013D00

cdef extern from "<dlfcn.h>" nogil:
    void *dlopen(const char *name, int flags)
    void *dlsym(void *library, const char *name)
    const char *dlerror()
    int RTLD_NOW, RTLD_LOCAL

cdef struct Version:
    int age
    int number
    const char *text

cdef str _version = ""


def load(paths=None):
    """Load the library from the first of ``paths`` that is there, once. Return its version, such as ``1.64.0``.

    By default that is the library beside this module, which a binary wheel has, else the system's. Raises OSError,
    with the reason, if there is none, it is older than 1.61.0, or it lacks a function.
    """
    global _version
    if _version:
        return _version
    cdef void *library = NULL
    cdef list problems = []
    cdef bytes name
    if paths is None:
        bundled = Path(__file__).with_name(LIBRARY)
        paths = (bundled, LIBRARY) if bundled.exists() else (LIBRARY,)
    for path in paths:
        name = str(path).encode()
        library = dlopen(name, RTLD_NOW | RTLD_LOCAL)
        if library != NULL:
            break
        problems.append((<bytes> dlerror()).decode("utf-8", "replace"))
    if library == NULL:
        raise OSError("; ".join(problems) or "no library is named")
    cdef const Version *(*version)(int) noexcept nogil
    version = <const Version *(*)(int) noexcept nogil> _function(library, "version")
    cdef const Version *found = version(0)
    text = (<bytes> found.text).decode()
    if found.number < OLDEST:
        raise OSError(f"it is libnghttp2 {text}, and 1.61.0 is the oldest that bounds what a peer can cost")
    _fill(library)
    _version = text
    return text


cdef void *_function(void *library, str name) except NULL:
    symbol = f"nghttp2_{name}".encode()
    cdef void *found = dlsym(library, symbol)
    if found == NULL:
        raise OSError(f"it has no function nghttp2_{name}")
    return found


cdef int _fill(void *library) except -1:
    """Look up every function. The names of the struct's members, in their order, are those of the library."""
    cdef void **place = <void **> &nghttp2
    cdef list found = []
    cdef int i
    for name in NAMES:
        found.append(<size_t> _function(library, name))
    if len(found) * sizeof(void *) != sizeof(Nghttp2):
        raise AssertionError("a function has no name, or a name no function")
    for i in range(len(found)):
        place[i] = <void *> <size_t> found[i]
    return 0


NAMES = (
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
