"""The stages of a check that look at nothing but chain, session and request.

Each returns whether to go on; a refusal is in the outcome. Stages that read state or sign are in
``check``.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memcmp

from sessauth._fast.address cimport Address, in_cidr, parse_address, parse_cidr
from sessauth._fast.block cimport ENDING_BOUND, Block
from sessauth._fast.chain cimport Chain
from sessauth._fast.condition cimport SOURCE_SESSION, SOURCE_TOOL, Path, Span
from sessauth._fast.evaluate cimport Context, holds
from sessauth._fast.limits cimport *
from sessauth._fast.match cimport MATCHED, OUTSIDE, OVERWORKED, Verdict, left_text, match_scopes
from sessauth._fast.outcome cimport Outcome, Request, Scratch, deny, deny_block, utf8
from sessauth._fast.request cimport Part, read_document, split_resource
from sessauth._fast.scope cimport NEEDS_APPROVAL, NO_NEEDS, ScopeList
from sessauth._fast.text cimport bytes_t, is_action
from sessauth._fast.view cimport (
    CAUSE_EXPIRED,
    CAUSE_LEASE_LAPSED,
    STATUS_ACTIVE,
    STATUS_ENDED,
    STATUS_SUSPENDED,
    SessionEntry,
)


cdef bint judge_lives(SessionEntry entry, uint64_t now_ms, Outcome out) noexcept:
    cdef int reason
    if entry.status == STATUS_ENDED:
        reason = SESSION_ENDED
        if entry.end_cause == CAUSE_LEASE_LAPSED:
            reason = LEASE_LAPSED
        elif entry.end_cause == CAUSE_EXPIRED:
            reason = SESSION_EXPIRED
    elif now_ms >= entry.expires_at_ms:
        reason = SESSION_EXPIRED
    elif entry.lease_ms and now_ms >= entry.lease_deadline_ms:
        reason = LEASE_LAPSED
    elif entry.status == STATUS_SUSPENDED:
        reason = SESSION_SUSPENDED
    elif entry.status != STATUS_ACTIVE:
        reason = UNKNOWN_SESSION
    else:
        return True
    return deny(out, STAGE_SESSION, reason)


cdef bint judge_time(Chain chain, Request request, Outcome out) noexcept:
    cdef uint64_t now = request.now_ms
    cdef Block *block
    cdef int i
    if request.clock_suspect:
        return deny(out, STAGE_TIME, CLOCK_SUSPECT)
    if now < chain.expires_at_ms and now >= chain.not_before_ms and chain.issued_at_ms <= now + ISSUED_AT_LEEWAY_MS:
        return True
    for i in range(chain.block_count):
        if 0 < chain.blocks[i].expires_at_ms <= now:
            return deny_block(out, STAGE_TIME, EXPIRED, i)
    for i in range(chain.block_count):
        block = &chain.blocks[i]
        if block.not_before_ms > now or block.issued_at_ms > now + ISSUED_AT_LEEWAY_MS:
            return deny_block(out, STAGE_TIME, NOT_YET_VALID, i)
    return True


cdef bint _among(Chain chain, const Span *spans, int count, bytes text) noexcept:
    cdef size_t n = PyBytes_GET_SIZE(text)
    cdef int i
    for i in range(count):
        if spans[i].n == n and memcmp(chain.base + spans[i].at, PyBytes_AS_STRING(text), n) == 0:
            return True
    return False


cdef bint judge_audience(Chain chain, Request request, Outcome out) except -1:
    cdef Block *block
    cdef int i
    for i in range(chain.block_count):
        block = &chain.blocks[i]
        if block.audience_count and not _among(chain, block.audience, block.audience_count, request.audience):
            return deny_block(out, STAGE_AUDIENCE, WRONG_AUDIENCE, i)
        if block.source_count and not _from_source(chain, block, request.source):
            return deny_block(out, STAGE_AUDIENCE, WRONG_SOURCE, i)
        if block.peer_count:
            for peer in request.peer:
                if _among(chain, block.peer, block.peer_count, utf8(peer)):
                    break
            else:
                return deny_block(out, STAGE_AUDIENCE, WRONG_PEER, i)
    return True


cdef bint _from_source(Chain chain, const Block *block, str source) except -1:
    cdef Address address, network
    cdef int i, length
    cdef bytes text = utf8(source)
    if not parse_address(<bytes_t> PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text), &address):
        return False
    for i in range(block.source_count):
        if parse_cidr(chain.base + block.source[i].at, block.source[i].n, &network, &length):
            if in_cidr(&address, &network, length):
                return True
    return False


cdef bint _malformed_request(Outcome out, str argument) noexcept:
    out.argument = argument
    return deny(out, STAGE_SCOPE, MALFORMED_REQUEST)


cdef inline void _read_facts_of(SessionEntry entry, Context *context) noexcept:
    context.facts = entry.facts
    context.fact_count = entry.fact_count
    context.facts_base = entry.base


cdef bint judge_scope(Chain chain, SessionEntry session, Request request, Scratch scratch, Outcome out) except -1:
    """Stages scope, proof and needs: they share what the scopes said."""
    cdef Context context
    cdef Part action
    cdef Verdict verdict
    cdef Block *block
    cdef SessionEntry entry = session
    cdef int needs_index = -1
    cdef int needs_scope = -1
    cdef int needs = NO_NEEDS
    cdef int i
    cdef int layer = 0
    cdef int ancestor = 0
    cdef int ancestors = 0 if request.ancestors is None else len(request.ancestors)
    action.p = <bytes_t> PyBytes_AS_STRING(request.action)
    action.n = PyBytes_GET_SIZE(request.action)
    if not is_action(action.p, action.n):
        return _malformed_request(out, "action")
    if not split_resource(
        <bytes_t> PyBytes_AS_STRING(request.resource), PyBytes_GET_SIZE(request.resource), &scratch.resource
    ):
        return _malformed_request(out, "resource")
    if not read_document(
        &scratch.arguments, <bytes_t> PyBytes_AS_STRING(request.arguments), PyBytes_GET_SIZE(request.arguments)
    ):
        return _malformed_request(out, "arguments")
    if not read_document(&scratch.tool, <bytes_t> PyBytes_AS_STRING(request.tool), PyBytes_GET_SIZE(request.tool)):
        return _malformed_request(out, "tool")
    if chain.any_unknown:
        return _unknown_kind(chain, out)
    context.arguments = &scratch.arguments
    context.tool = &scratch.tool
    _read_facts_of(session, &context)
    context.visible_only = 0
    context.work = 0
    context.overworked = 0
    while True:
        for i in range(entry.layer_count):
            match_scopes(&entry.layers[i], action, &scratch.resource, &context, &verdict)
            if verdict.match != MATCHED:
                return _deny_scope(&entry.layers[i], &verdict, LEVEL_CEILING, layer, out)
            layer += 1
        if ancestor == ancestors:
            break
        entry = <SessionEntry> request.ancestors[ancestor]
        ancestor += 1
        # A ceiling reads the facts of the session that it belongs to: a child's owner sets the child's.
        _read_facts_of(entry, &context)
    _read_facts_of(session, &context)
    for i in range(chain.block_count):
        block = &chain.blocks[i]
        context.visible_only = i > 0
        if block.scopes.count:
            match_scopes(&block.scopes, action, &scratch.resource, &context, &verdict)
            if verdict.match != MATCHED:
                return _deny_scope(&block.scopes, &verdict, LEVEL_BLOCK, i, out)
            out.matched_index = i
            out.matched_scope = verdict.scope
            if needs == NO_NEEDS and block.scopes.scopes[verdict.scope].needs != NO_NEEDS:
                needs = block.scopes.scopes[verdict.scope].needs
                needs_index = i
                needs_scope = verdict.scope
        elif i == 0:
            return deny_block(out, STAGE_SCOPE, OUT_OF_SCOPE, 0)
        if block.where_count and not _where(chain, block, i, &context, out):
            return False
    if chain.blocks[chain.block_count - 1].ending == ENDING_BOUND:
        return deny(out, STAGE_PROOF, PROOF_REQUIRED)
    if needs != NO_NEEDS:
        out.scope = needs_scope
        return deny_block(out, STAGE_NEEDS, APPROVAL_REQUIRED if needs == NEEDS_APPROVAL else NEEDS_SERVER, needs_index)
    return True


cdef bint _where(Chain chain, const Block *block, int index, Context *context, Outcome out) except -1:
    cdef int i
    for i in range(block.where_count):
        if not holds(&block.where[i], chain.base, context):
            out.clause = i
            if context.overworked:
                out.argument = "arguments"
                return deny_block(out, STAGE_SCOPE, MALFORMED_REQUEST, index)
            out.argument = _path_text(&block.where[i].path, chain.base)
            return deny_block(out, STAGE_SCOPE, CONDITION_FAILED, index)
    return True


cdef bint _unknown_kind(Chain chain, Outcome out) noexcept:
    cdef int i
    for i in range(chain.block_count):
        if chain.blocks[i].unknown:
            out.scope = chain.blocks[i].unknown_scope
            out.clause = chain.blocks[i].unknown_clause
            return deny_block(out, STAGE_SCOPE, UNKNOWN_KIND, i)
    return deny(out, STAGE_SCOPE, UNKNOWN_KIND)


cdef bint _deny_scope(const ScopeList *scopes, const Verdict *verdict, int level, int index, Outcome out) except -1:
    out.level = level
    out.index = index
    if verdict.match == OUTSIDE:
        return deny(out, STAGE_SCOPE, OUT_OF_SCOPE)
    out.scope = verdict.scope
    out.clause = verdict.clause
    if verdict.match == OVERWORKED:
        out.argument = "arguments"
        return deny(out, STAGE_SCOPE, MALFORMED_REQUEST)
    if verdict.clause >= 0:
        out.argument = _path_text(&scopes.scopes[verdict.scope].conditions[verdict.clause].path, scopes.base)
    else:
        out.argument = left_text(verdict)
    return deny(out, STAGE_SCOPE, CONDITION_FAILED)


cdef str _path_text(const Path *path, bytes_t base):
    cdef int i
    names = [base[path.segments[i].at : path.segments[i].at + path.segments[i].n].decode("utf-8") for i in range(path.count)]
    if path.source == SOURCE_SESSION:
        names.insert(0, "session")
    elif path.source == SOURCE_TOOL:
        names.insert(0, "tool")
    return ".".join(names)
