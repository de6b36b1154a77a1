"""The answers of a connection's streams."""

from libc.stdint cimport uint32_t

from sessauth._fast.http2.library cimport FrameHeader, Session
from sessauth._fast.http2.stream cimport Stream

# Parts of an answer. False without memory; nothing was begun then.
cdef bint answer(Stream *stream, const char *message, size_t n) noexcept nogil
cdef bint send_message(Stream *stream, const char *message, size_t n) noexcept nogil
# `details` and `status_details` may be NULL; they are copied.
cdef bint finish(Stream *stream, int status, const char *details, const char *status_details) noexcept nogil
cdef bint refuse_request(Stream *stream, const char *http_status) noexcept nogil
cdef void reset(Stream *stream, uint32_t error) noexcept nogil
# Let the client send as much as the next message needs.
cdef void receive(Stream *stream) noexcept nogil
# nghttp2 calls it for each frame that was sent.
cdef int on_frame_sent(Session session, const FrameHeader *frame, void *user) noexcept nogil
