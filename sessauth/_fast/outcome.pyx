"""What a check was asked, and what it came to."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memset

from sessauth._fast.limits cimport ALLOWED
from sessauth._fast.request cimport document_free, document_init
from sessauth._fast.text cimport bytes_t

cdef extern from "Python.h":
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    unsigned char *PyUnicode_1BYTE_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)

cdef extern from *:
    """
    /* What a call of the type would do, without looking `__new__` up. */
    static PyObject *sessauth_new(PyObject *type, PyObject *arguments) {
        return ((PyTypeObject *) type)->tp_new((PyTypeObject *) type, arguments, NULL);
    }
    """
    object make "sessauth_new"(object type, tuple arguments)

cdef tuple NO_ARGUMENTS = ()

__all__ = ["Outcome"]


@cython.no_gc
cdef class Outcome:
    """What a check came to. Truth of an outcome is ``allowed``; positions are -1 where they don't apply.

    Everything is kept as the kernel found it, and made into an object when it is asked for.
    """

    def __cinit__(self):
        finding_init(&self.found)

    def __dealloc__(self):
        finding_free(&self.found)

    def __bool__(self):
        return self.found.allowed and self.found.reason == ALLOWED

    @property
    def allowed(self):
        """Whether the call may be made."""
        return self.found.allowed

    @property
    def reason(self):
        """The number of the reason."""
        return self.found.reason

    @property
    def stage(self):
        """The number of the stage that refused; 0 if none did."""
        return self.found.stage

    @property
    def level(self):
        """Where it was refused: 1 in a ceiling, 2 in a block, 0 in neither."""
        return self.found.level

    @property
    def index(self):
        """The ceiling layer or block that refused."""
        return self.found.index

    @property
    def scope(self):
        """The scope of it that came closest."""
        return self.found.scope

    @property
    def clause(self):
        """The condition that failed."""
        return self.found.clause

    @property
    def argument(self):
        """The argument at fault; empty if there is none."""
        if self.found.argument == NULL:
            return ""
        return self.found.argument[: self.found.argument_n].decode("utf-8", "replace")

    @property
    def matched_index(self):
        """The last block whose scope admitted the call."""
        return self.found.matched_index

    @property
    def matched_scope(self):
        """The scope of it that did."""
        return self.found.matched_scope

    @property
    def epoch(self):
        """The session's epoch; 0 until the signature stands."""
        return self.found.epoch

    @property
    def revision(self):
        """The revision of the state that was judged by."""
        return self.found.revision

    @property
    def expires_at_ms(self):
        """When this answer can first stop being true by time alone, in ms since 1970; 0 for a denial."""
        return self.found.expires_at_ms

    @property
    def checked_at_ms(self):
        """The time that was judged by, in ms since 1970."""
        return self.found.checked_at_ms

    @property
    def session_id(self):
        """The session's id, 16 bytes; empty until the signature stands."""
        return b"" if self.chain is None else self.chain.session_id

    @property
    def block_ids(self):
        """The ids of the chain's blocks, the root's first; empty until the signature stands."""
        return () if self.chain is None else self.chain.block_ids

    @property
    def view_age_ms(self):
        """How old the view may be, in ms: 0, since every check reads the state it shares a host with."""
        return 0

    @property
    def decision_id(self):
        """16 bytes, of this decision alone."""
        return self.prefix + self.count.to_bytes(8, "big")


cdef Outcome new_outcome(object outcome_type, bytes prefix, uint64_t count):
    cdef Outcome out = <Outcome> make(outcome_type, NO_ARGUMENTS)
    out.prefix = prefix
    out.count = count
    return out


@cython.final
@cython.no_gc
cdef class ScratchBox:
    """Memory for one request's JSON, used again by the next."""

    def __cinit__(self):
        document_init(&self.scratch.arguments)
        document_init(&self.scratch.tool)

    def __dealloc__(self):
        document_free(&self.scratch.arguments)
        document_free(&self.scratch.tool)


cdef void asked_init(Asked *asked) noexcept nogil:
    cdef bytes_t nothing = <bytes_t> <const char *> ""
    memset(asked, 0, sizeof(Asked))
    asked.token.p = asked.action.p = asked.resource.p = asked.arguments.p = asked.tool.p = nothing
    asked.session.p = asked.source.p = asked.audience.p = nothing
    asked.new_signatures = True


cdef void finding_init(Finding *found) noexcept nogil:
    memset(found, 0, sizeof(Finding))
    found.index = -1
    found.scope = -1
    found.clause = -1
    found.matched_index = -1
    found.matched_scope = -1


cdef void finding_free(Finding *found) noexcept nogil:
    free(found.argument)
    found.argument = NULL


cdef void set_argument(Finding *found, const char *text, size_t n) noexcept nogil:
    free(found.argument)
    found.argument_n = n
    found.argument = <char *> malloc(n if n else 1)
    if found.argument != NULL:
        memcpy(found.argument, text, n)


cdef void set_argument_path(Finding *found, const Part *names, int count) noexcept nogil:
    cdef size_t n = 0
    cdef int i
    for i in range(count):
        n += names[i].n + (i > 0)
    free(found.argument)
    found.argument_n = n
    found.argument = <char *> malloc(n if n else 1)
    if found.argument == NULL:
        return
    n = 0
    for i in range(count):
        if i > 0:
            found.argument[n] = 0x2E
            n += 1
        memcpy(found.argument + n, names[i].p, names[i].n)
        n += names[i].n


cdef object part_of(object text, Part *out):
    """Bytes as they are; a str in UTF-8, with what UTF-8 can't say made invalid, not lost."""
    if isinstance(text, bytes):
        set_part(out, <bytes_t> PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
        return None
    if not isinstance(text, str):
        raise TypeError(f"bytes or str expected, got {type(text).__name__}")
    if PyUnicode_IS_COMPACT_ASCII(text):
        set_part(out, PyUnicode_1BYTE_DATA(text), PyUnicode_GET_LENGTH(text))
        return None
    encoded = (<str> text).encode("utf-8", "surrogatepass")
    set_part(out, <bytes_t> PyBytes_AS_STRING(encoded), PyBytes_GET_SIZE(encoded))
    return encoded
