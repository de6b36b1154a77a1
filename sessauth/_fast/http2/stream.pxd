"""Streams, connections and their lists: memory without Python objects."""

from cpython.object cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t

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
    # What a request of gRPC has: its method, a scheme, `te`, and its content type.
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

# A caller, known by the gate of its failed signatures, owned, and what its connections have not read.
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
    # When its headers had come.
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
    # The last operator's stream among them; they stand before the others.
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
