"""Admission of requests: each is answered on the loop, or becomes a call that Python accepts."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport calloc

from sessauth._fast._codec cimport DirectCaller

cdef enum:
    # Messages of up to 12 MiB each.
    MAX_EARLY = 4

# The message of a call that can be answered at once comes with its headers, or right after them.
cdef int64_t EXPECTED_NS = 10_000_000
cdef uint64_t FAILED_GENERATION = <uint64_t> 1 << 63
# A call with less time than this is answered by a thread, which looks at the clock.
cdef int64_t SHORTEST_NS = 1_000_000


cdef class Admission:
    """Answers or admits the requests of a loop. See Loop for the parameters."""

    cdef LoopMemory memory
    cdef CommandQueue commands
    cdef object _accept
    cdef object _fault
    cdef object _direct
    cdef frozenset _direct_paths
    cdef object _certificate_facts
    # Returns the lane of a caller; None: all wait in one.
    cdef object _lane_of
    # Counts the refusal of a stranger's call of a path. True: the refusal needs nothing more.
    cdef object _counts_refusal
    # The status of such a refusal, as it is sent: code, text and google.rpc.Status. None: none is refused here.
    cdef tuple _refusal
    # Python was called for a call since this was last reset: its timers may have changed.
    cdef bint called_back
    # Calls that were answered on the loop.
    cdef readonly uint64_t answered

    def __cinit__(self):
        self.commands = CommandQueue.__new__(CommandQueue)
        # No descriptor yet: the memory is closed even if construction fails later.
        self.memory.epoll = -1

    cdef int refresh(self) except -1:
        """Note if callers that were found earlier may no longer be valid."""
        try:
            self.memory.generation = self._direct.generation()
        except Exception as error:
            # A number that `generation` never returns: callers that are found now may not be valid later.
            self.memory.generation = FAILED_GENERATION | (self.memory.generation + 1)
            self._fault(error)
        return 0

    cdef int advance_stream(self, Stream *stream) except -1:
        """Answer a ready stream at once, let it wait for its turn, or call back for it."""
        cdef bint closed = stream.closed
        if stream.call != NULL:
            self.called_back = True
            try:
                (<NativeCall> stream.call).advance()
            except Exception as error:
                self._fault(error)
            finally:
                if closed:
                    let_go(stream)
            return 0
        if not stream.has_headers or stream.answer != ANSWER_NONE or stream.is_waiting:
            return 0
        if stream.lane >= LANE_NEW:
            if cached_caller(stream) == NULL:
                # Looking a caller up takes Python: each connection has its turn.
                wait_for_look_up(stream)
                return 0
            stream.lane = LANE_KNOWN
        if not owes(stream.connection) and self._goes_on_here(stream):
            return 0
        unexpect(stream)
        wait(stream)
        return 0

    cdef int look_up(self, Stream *stream) except -1:
        """Find the lane of a new request by its caller, and continue it there."""
        cdef int lane = LANE_STRANGERS
        try:
            if not stream.several_authorizations:
                lane = self._lane_of(self._authorization(stream), self._facts(stream.connection))
            stream.lane = lane if LANE_STRANGERS <= lane < LANE_NEW else LANE_STRANGERS
            if stream.connection.lane == LANE_NEW or stream.connection.lane < stream.lane:
                stream.connection.lane = stream.lane
            if stream.lane == LANE_STRANGERS:
                stream.needs_thread = True
                if self._refuses_here(stream):
                    return 0
        except Exception as error:
            stream.lane = LANE_STRANGERS
            self._fault(error)
        if stream.lane == LANE_STRANGERS or owes(stream.connection) or not self._goes_on_here(stream):
            wait(stream)
        return 0

    cdef bint _refuses_here(self, Stream *stream) except -1:
        """Refuse a stranger's call without a call of Python, if its refusal is not logged."""
        cdef Vector path
        if self._refusal is None or stream.fault or stream.form != IS_GRPC_REQUEST or stream.path < 0:
            return False
        path = nghttp2.rcbuf_get_buf(stream.headers[stream.path].value)
        if not self._counts_refusal(PyBytes_FromStringAndSize(<const char *> path.p, path.n)):
            return False
        code, message, details = self._refusal
        if not finish(stream, code, PyBytes_AS_STRING(message), PyBytes_AS_STRING(details)):
            fail(stream.connection)
        return True

    cdef int admit_waiting(self, Stream *stream) except -1:
        """Answer a request whose turn it is, or admit it."""
        if stream.needs_thread or not self._goes_on_here(stream):
            unexpect(stream)
            self.admit(stream)
        return 0

    cdef bint _goes_on_here(self, Stream *stream) except -1:
        """Return True for a request that is answered here and now, or whose message is expected at once."""
        cdef Py_ssize_t size
        if self._direct is not None and not stream.fault and self._may_be_direct(stream):
            size = message_size(stream)
            if size < 0 or not stream.ended:
                if not stream.ended:
                    self._expect_message(stream)
                    return True
            elif stream.body_end - stream.body_begin == <size_t> size + MESSAGE_PREFIX:
                if self._answer_directly(stream, size):
                    unexpect(stream)
                    return True
        stream.needs_thread = True
        return False

    cdef bint _may_be_direct(self, const Stream *stream) except -1:
        cdef Vector path
        if stream.path < 0 or stream.timeout < 0 or stream.several_authorizations:
            return False
        if stream.form != IS_GRPC_REQUEST:
            return False
        if cached_caller(stream) != NULL:
            return True
        path = nghttp2.rcbuf_get_buf(stream.headers[stream.path].value)
        return PyBytes_FromStringAndSize(<const char *> path.p, path.n) in self._direct_paths

    cdef int _expect_message(self, Stream *stream) except -1:
        """Wait for the rest of a message. A known caller may send more than a stream's first window.

        That takes the memory of a whole message before a pool has a place for the call, so only a few may do so at once.
        """
        expect(stream, self.memory.now_ns + EXPECTED_NS)
        if stream.receiving or self.memory.early >= MAX_EARLY:
            return 0
        try:
            if self._caller(stream) != NULL:
                stream.is_early = True
                self.memory.early += 1
                receive(stream)
        except Exception as error:
            self._fault(error)
        return 0

    cdef PyObject *_caller(self, Stream *stream) except? NULL:
        """Return the caller of a stream, borrowed from the connection; NULL for an unknown one."""
        cdef PyObject *caller = cached_caller(stream)
        cdef object direct
        if caller == NULL:
            direct = self._find_caller(stream)
            if direct is None:
                return NULL
            cache_caller(stream, direct)
            if stream.connection.account == NULL:
                self._set_account(stream.connection, direct)
            caller = <PyObject *> direct
        return caller

    cdef bint _answer_directly(self, Stream *stream, Py_ssize_t size) except -1:
        """Answer a call here and now. False: it needs a thread."""
        cdef PyObject *caller
        cdef DirectCaller direct
        cdef Vector text
        cdef object reply
        cdef int64_t left_ns
        text = nghttp2.rcbuf_get_buf(stream.headers[stream.timeout].value)
        left_ns = timeout_ns(text.p, text.n)
        left_ns -= self.memory.now_ns - stream.arrived_ns
        if left_ns < SHORTEST_NS:
            return False
        try:
            caller = self._caller(stream)
            if caller == NULL:
                return False
            direct = <DirectCaller> caller
            reply = direct.answer(
                PyBytes_FromStringAndSize(<const char *> stream.body + stream.body_begin + MESSAGE_PREFIX, size),
                self.memory.now_ns,
            )
        except Exception as error:
            self._fault(error)
            return False
        if reply is None:
            return False
        if not answer(stream, PyBytes_AS_STRING(<bytes> reply), PyBytes_GET_SIZE(<bytes> reply)):
            fail(stream.connection)
        drop_body(stream)
        self.answered += 1
        return True

    cdef DirectCaller _find_caller(self, Stream *stream):
        cdef Vector path = nghttp2.rcbuf_get_buf(stream.headers[stream.path].value)
        return self._direct.admit(
            PyBytes_FromStringAndSize(<const char *> path.p, path.n),
            self._authorization(stream),
            self._facts(stream.connection),
        )

    cdef object _authorization(self, const Stream *stream):
        """Return the value of the last ``authorization`` header; None without one."""
        cdef Vector credential
        if stream.authorization < 0:
            return None
        credential = nghttp2.rcbuf_get_buf(stream.headers[stream.authorization].value)
        return PyBytes_FromStringAndSize(<const char *> credential.p, credential.n)

    cdef int _set_account(self, Connection *connection, DirectCaller direct) except -1:
        """Count a connection's unread answers with those of its caller's other connections."""
        cdef PyObject *gate = <PyObject *> direct._gate
        cdef Account *account = self.memory.accounts
        while account != NULL and account.gate != gate:
            account = account.next
        if account == NULL:
            account = <Account *> calloc(1, sizeof(Account))
            if account == NULL:
                raise MemoryError
            Py_INCREF(direct._gate)
            account.gate = gate
            account.next = self.memory.accounts
            self.memory.accounts = account
        connection.account = account
        account.unread += connection.unread
        return 0

    cdef int admit(self, Stream *stream) except -1:
        """Create the call of a stream, and have Python accept it."""
        cdef NativeCall call
        cdef const char *fault
        if stream.fault == FAULT_HEADERS:
            if not finish(stream, RESOURCE_EXHAUSTED, b"the metadata is too large", NULL):
                fail(stream.connection)
            return 0
        fault = request_fault(stream)
        if fault != NULL:
            if not refuse_request(stream, fault):
                fail(stream.connection)
            return 0
        try:
            self._facts(stream.connection)
            call = call_of(stream, self.commands)
            Py_INCREF(call)
            stream.call = <PyObject *> call
            self.called_back = True
            self._accept(call)
        except Exception as error:
            # Not admitted again for frames that arrive before the client sees the reset.
            stream.answer = ANSWER_FINISHING
            reset(stream, CANCEL)
            self._fault(error)
        return 0

    cdef object _facts(self, Connection *connection):
        """Return the facts of the client's certificate; None without TLS or without one."""
        if connection.tls == NULL or connection.facts != NULL:
            return None if connection.facts == NULL else <object> connection.facts
        der = tls_peer_certificate(connection.tls)
        try:
            facts = self._certificate_facts(der) if der else {}
        except ValueError as error:
            # A certificate that can't be read names nobody.
            self._fault(error)
            facts = {}
        Py_INCREF(facts)
        connection.facts = <PyObject *> facts
        return facts


cdef const char *request_fault(const Stream *stream) noexcept:
    """Return the HTTP status for a request that is not gRPC; NULL for one that is."""
    if not stream.form & IS_POST:
        return b"405"
    if not stream.form & IS_GRPC:
        return b"415"
    if stream.form != IS_GRPC_REQUEST:
        return b"400"
    return NULL
