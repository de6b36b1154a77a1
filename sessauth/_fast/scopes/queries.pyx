"""Single queries on scopes and conditions, for builders, containment and tests.

Checks don't use this module, but the same code evaluates both.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from sessauth._fast._check cimport (
    EXCEPTED,
    MALFORMED_TOKEN,
    MATCHED,
    OUTSIDE,
    OVERWORKED,
    UNKNOWN_NOWHERE,
    Arena,
    Condition,
    Context,
    Document,
    Fact,
    MatchResult,
    Resource,
    Scope,
    ScopeList,
    TextSlice,
    WireReader,
    arena_free,
    arena_init,
    begin_work,
    bytes_t,
    document_free,
    document_init,
    is_action,
    left_text,
    match_scopes,
    parse_condition,
    parse_facts,
    parse_scope,
    read_document,
    split_resource,
)
from sessauth._fast._check import encode_message
from sessauth._fast.codec.errors import FormError


def check_scope(bytes scope not None):
    """Raise FormError unless the encoded Scope is well-formed (at most 64 KiB)."""
    has_unknown_kind(scope)


def has_unknown_kind(bytes scope not None):
    """Return True if the encoded Scope has a kind that this version does not know.

    Raises FormError for a scope that is not well-formed.
    """
    cdef Arena arena
    cdef Scope out
    cdef const char *wrong
    arena_init(&arena)
    try:
        wrong = parse_scope(_reader(scope), _base(scope), &arena, &out)
        if wrong != NULL:
            raise FormError(MALFORMED_TOKEN, wrong.decode("ascii"))
        return out.unknown != UNKNOWN_NOWHERE
    finally:
        arena_free(&arena)


def check_condition(bytes condition not None):
    """Raise FormError unless the encoded Condition is well-formed (at most 64 KiB)."""
    cdef Arena arena
    cdef Condition out
    cdef const char *wrong
    arena_init(&arena)
    try:
        wrong = parse_condition(_reader(condition), _base(condition), &arena, &out)
        if wrong != NULL:
            raise FormError(MALFORMED_TOKEN, wrong.decode("ascii"))
    finally:
        arena_free(&arena)


def matches(bytes scope not None, bytes action not None, bytes resource not None, bytes arguments=b"", *, facts=None):
    """Return ``(matched, clause, argument)`` for one encoded Scope and one request. An exception matches what it permits.

    ``facts`` is a list of Fact records, all of them readable. ``clause`` is the failing condition,
    -1 for none (``argument`` then names a left-over argument), -2 when action or resource are outside,
    -3 when the request is malformed or takes too much work. Raises FormError for the scope's form.
    """
    cdef Arena arena
    cdef Scope compiled
    cdef ScopeList scopes
    cdef Context context
    cdef Document documents[2]
    cdef Resource split
    cdef TextSlice action_part
    cdef MatchResult verdict
    cdef const char *wrong
    cdef Fact *fact_array
    cdef int fact_count
    cdef bytes record = encode_message("UpdateFacts", {"set": facts or []})
    arena_init(&arena)
    document_init(&documents[0])
    document_init(&documents[1])
    try:
        wrong = parse_scope(_reader(scope), _base(scope), &arena, &compiled)
        if wrong == NULL:
            wrong = parse_facts(_reader(record), _base(record), &arena, 1, &fact_array, &fact_count)
        if wrong != NULL:
            raise FormError(MALFORMED_TOKEN, wrong.decode("ascii"))
        action_part.p = _base(action)
        action_part.n = PyBytes_GET_SIZE(action)
        if not (
            is_action(action_part.p, action_part.n)
            and split_resource(_base(resource), PyBytes_GET_SIZE(resource), &split)
            and read_document(&documents[0], _base(arguments), PyBytes_GET_SIZE(arguments))
            and read_document(&documents[1], NULL, 0)
        ):
            return False, -3, ""
        scopes.scopes = &compiled
        scopes.count = not compiled.exception
        scopes.exceptions = compiled.exception
        scopes.base = _base(scope)
        context.arguments = &documents[0]
        context.tool = &documents[1]
        context.facts = fact_array
        context.fact_count = fact_count
        context.facts_base = _base(record)
        context.visible_only = 0
        begin_work(&context, PyBytes_GET_SIZE(arguments))
        match_scopes(&scopes, action_part, &split, &context, &verdict)
        if verdict.match == MATCHED:
            return True, -1, ""
        if verdict.match == OUTSIDE or verdict.match == EXCEPTED:
            return False, -2, ""
        if verdict.match == OVERWORKED:
            return False, -3, ""
        return False, verdict.clause, left_text(&verdict)
    finally:
        arena_free(&arena)
        document_free(&documents[0])
        document_free(&documents[1])


cdef bytes_t _base(bytes data) noexcept:
    return <bytes_t> PyBytes_AS_STRING(data)


cdef WireReader _reader(bytes data) except *:
    cdef WireReader reader
    if PyBytes_GET_SIZE(data) > 0xFFFF:
        raise FormError(MALFORMED_TOKEN, "longer than 64 KiB")
    reader.p = <bytes_t> PyBytes_AS_STRING(data)
    reader.end = reader.p + PyBytes_GET_SIZE(data)
    return reader
