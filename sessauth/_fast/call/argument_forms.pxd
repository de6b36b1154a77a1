"""One call: the input, outcome and scratch memory of its check, and its arguments as bytes."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.unicode cimport PyUnicode_CheckExact
from libc.stdint cimport uint64_t
from libc.stdlib cimport free
from libc.string cimport memset


# The input, outcome and scratch memory of one check.

cdef extern from "Python.h":
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    unsigned char *PyUnicode_1BYTE_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)

cdef enum:
    # No single element: an index beyond those of any list.
    ANY_ELEMENT = 0x7FFFFFFF

cdef enum:
    # PERMIT: the call asks for a permit. ONCE: a retry of the call must not consume again.
    CONSUMES_PERMIT = 1
    CONSUMES_ONCE = 2

# One call to check. Every part points into memory that the caller owns.
cdef struct CheckInput:
    TextSlice token
    TextSlice action
    TextSlice resource
    TextSlice arguments
    TextSlice tool
    TextSlice session            # n = 0: not given
    TextSlice source
    TextSlice audience
    TextSlice proof              # n = 0: none
    const TextSlice *peers
    int peer_count
    uint64_t at_least_revision
    uint64_t now_ms
    bint clock_suspect
    bint verify_new_signatures
    # Borrowed, or NULL. `may_fail(source)` is called before signatures are verified, `failed(source)` after a wrong one.
    PyObject *gate
    # Borrowed, or NULL. `charge(claims)` is called with the call's costs once all else allows (check/batch.pyx).
    PyObject *cost_handler
    # CONSUMES_* flags.
    int consumes
    # Verifies proofs: a ProofKeys, borrowed, or NULL.
    PyObject *proofs
    # The call was checked before. keep_nonce: its nonce is consumed already. skip_proof: its proof was verified.
    bint keep_nonce
    bint skip_proof
    # Check the token alone. The input has no call then: action, resource, arguments, tool and proof are empty.
    bint token_only
    # The call was checked before, and the signature of block `wrong_index` was wrong.
    bint signature_known_wrong
    int wrong_index

# The outcome of a check. Positions are -1 where they don't apply. Owns both arguments.
cdef struct CheckOutcome:
    bint allowed
    # All signatures are valid, so the token's content may be disclosed.
    bint signature_valid
    int reason
    int stage
    int level
    int index
    int scope
    int clause
    int matched_index
    int matched_scope
    uint64_t epoch
    uint64_t revision
    uint64_t expires_at_ms
    uint64_t checked_at_ms
    char *argument
    size_t argument_n
    # The first refusal by a ceiling in observe mode, which does not count; the layer is -1 without one.
    int observed_layer
    int observed_scope
    int observed_clause
    char *observed_argument
    size_t observed_argument_n

cdef struct Scratch:
    Document arguments
    Document tool
    Resource resource

# Memory for one request's JSON, reused by the next request.
cdef class ScratchBox:
    cdef Scratch scratch

# Copies a text. Without memory for it the argument stays unnamed.
cdef void set_argument(CheckOutcome *outcome, const char *text, size_t n) noexcept nogil
# slice_of for objects other than bytes and compact ASCII strings.
cdef object slice_of_object(object text, TextSlice *out)

cdef inline void input_init(CheckInput *input) noexcept nogil:
    cdef bytes_t nothing = <bytes_t> <const char *> ""
    memset(input, 0, sizeof(CheckInput))
    input.token.p = input.action.p = input.resource.p = input.arguments.p = input.tool.p = nothing
    input.session.p = input.source.p = input.audience.p = input.proof.p = nothing
    input.verify_new_signatures = True

cdef inline void outcome_init(CheckOutcome *outcome) noexcept nogil:
    memset(outcome, 0, sizeof(CheckOutcome))
    outcome.index = -1
    outcome.scope = -1
    outcome.clause = -1
    outcome.matched_index = -1
    outcome.matched_scope = -1
    outcome.observed_layer = -1

cdef inline void outcome_free(CheckOutcome *outcome) noexcept nogil:
    if outcome.argument != NULL:
        free(outcome.argument)
        outcome.argument = NULL
    if outcome.observed_argument != NULL:
        free(outcome.observed_argument)
        outcome.observed_argument = NULL

cdef inline void set_slice(TextSlice *out, bytes_t p, size_t n) noexcept nogil:
    out.p = p
    out.n = n

cdef inline object slice_of(object text, TextSlice *out):
    """Point at bytes, or at a str as UTF-8. Return the new owner of the bytes, or None. TypeError for other types."""
    if PyBytes_CheckExact(text):
        set_slice(out, <bytes_t> PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
        return None
    if PyUnicode_CheckExact(text) and PyUnicode_IS_COMPACT_ASCII(text):
        set_slice(out, PyUnicode_1BYTE_DATA(text), PyUnicode_GET_LENGTH(text))
        return None
    return slice_of_object(text, out)

cdef inline bint deny(CheckOutcome *out, int stage, int reason) noexcept nogil:
    out.allowed = False
    out.stage = stage
    out.reason = reason
    return False

cdef inline bint deny_block(CheckOutcome *out, int stage, int reason, int index) noexcept nogil:
    out.level = LEVEL_BLOCK
    out.index = index
    return deny(out, stage, reason)


# Never raises for values that an agent controls: values without a JSON form become bytes that are denied.
cdef bytes judged_bytes(object arguments)

cdef inline object json_slice(object arguments, TextSlice *out):
    """Point at the bytes to check. Return the object that owns them, or None if ``arguments`` does."""
    if PyBytes_CheckExact(arguments):
        return slice_of(arguments, out)
    cdef bytes encoded = judged_bytes(arguments)
    slice_of(encoded, out)
    return encoded
