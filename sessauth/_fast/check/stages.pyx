"""The stages of a check that read only chain, session and request, and stage ``proof``.

Each returns True to continue; a refusal is in the outcome. None needs the GIL. Stages that read state or verify the
chain's signatures are in ``stage_runner``.
"""

from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy, strlen


# Stage ``proof``: the holder of a bound token made this request, at this host and time.
#
# An Ed25519 proof costs a verification. X25519 agrees on the key of a token's MACs once. It is stored with the chain,
# so every later MAC costs two hashes. The nonce is consumed last, once all else allows: a call that is denied for
# another reason consumes nothing (docs/token-format.md, section 9.9).

cdef extern from * nogil:
    """
    #include <stdint.h>
    /* Locked for the time of a copy. After a few attempts the caller continues without the lock. */
    static int sessauth_take(uint32_t *lock) {
        for (int turn = 0; turn < 64; turn++)
            if (__atomic_exchange_n(lock, 1, __ATOMIC_ACQUIRE) == 0)
                return 1;
        return 0;
    }
    static void sessauth_give(uint32_t *lock) { __atomic_store_n(lock, 0, __ATOMIC_RELEASE); }
    """
    bint take "sessauth_take"(uint32_t *lock)
    void give "sessauth_give"(uint32_t *lock)


# Verify the proof for a chain with a bound last block, except the nonce. False: the outcome is a denial.
cdef bint judge_proof(Chain chain, const CheckInput *input, CheckOutcome *out) noexcept nogil:
    cdef int reason
    if input.skip_proof:
        return True
    if input.proof.n == 0:
        reason = PROOF_REQUIRED
    elif input.proofs == NULL:
        reason = PROOF_UNAVAILABLE
    else:
        reason = _judge(chain, <ProofKeys> input.proofs, input)
    return reason == ALLOWED or deny_block(out, STAGE_PROOF, reason, chain.block_count - 1)


cdef int _judge(Chain chain, ProofKeys proofs, const CheckInput *input) noexcept nogil:
    cdef Proof proof
    cdef const VerifierKey *key
    cdef Block *block = &chain.blocks[chain.block_count - 1]
    # The library expects the signature before the message; a MAC has none.
    cdef unsigned char covered[SIGNATURE_BYTES + COVERED_BYTES]
    cdef unsigned char digest[32]
    cdef unsigned char tag[32]
    cdef unsigned char mac_key[32]
    if proofs.table == NULL or not _any_counts(proofs, input.now_ms):
        return PROOF_UNAVAILABLE
    if not parse_proof(input.proof.p, input.proof.n, &proof) or memcmp(proof.verifier_id, proofs.verifier, 16) != 0:
        return BAD_PROOF
    key = _key_of(proofs, proof.key_id, input.now_ms)
    if key == NULL or (proof.kind == PROOF_MAC and not block.proof_key):
        return BAD_PROOF
    if (
        proof.time_ms + PROOF_WINDOW_MS < input.now_ms
        or proof.time_ms > input.now_ms + PROOF_WINDOW_MS
        or proof.time_ms < proofs.table.made_at_ms
    ):
        return STALE_PROOF
    digest_request(
        digest,
        input.action.p, input.action.n,
        input.resource.p, input.resource.n,
        input.arguments.p, input.arguments.n,
    )
    put_covered_bytes(
        covered + SIGNATURE_BYTES, proof.kind, chain.base + block.signature, proof.verifier_id, proof.key_id, digest,
        proof.time_ms, proof.nonce,
    )
    if proof.kind == PROOF_ED25519:
        memcpy(covered, proof.tag, SIGNATURE_BYTES)
        return ALLOWED if verify_signed(covered, SIGNATURE_BYTES + COVERED_BYTES, chain.base + block.next_key) else BAD_PROOF
    if not _mac_key(chain, block, proofs, key, mac_key):
        return BAD_PROOF
    blake2b_mac(tag, mac_key, covered + SIGNATURE_BYTES, COVERED_BYTES)
    return ALLOWED if _same_tag(tag, proof.tag) else BAD_PROOF


cdef bint insert_nonce(Chain chain, const CheckInput *input, CheckOutcome *out) noexcept nogil:
    """Consume the nonce of a verified proof, unless `keep_nonce` is set."""
    cdef Proof proof
    cdef Block *block = &chain.blocks[chain.block_count - 1]
    cdef int reason = PROOF_UNAVAILABLE
    if block.ending != ENDING_BOUND or input.keep_nonce or input.skip_proof:
        return True
    if input.proofs != NULL and parse_proof(input.proof.p, input.proof.n, &proof):
        reason = table_insert(
            (<ProofKeys> input.proofs).table,
            chain.base + block.signature,
            proof.nonce,
            chain.base + block.next_key,
            proof.time_ms,
            input.now_ms,
        )
    return reason == ALLOWED or deny_block(out, STAGE_PROOF, reason, chain.block_count - 1)


# True if verifying the proof probably needs a public-key operation.
cdef bint proof_is_costly(Chain chain, const CheckInput *input) noexcept nogil:
    # An estimate without cost. A new host key also needs an agreement, once a token.
    if input.proof.n < 2:
        return False
    return input.proof.p[1] == PROOF_ED25519 or (chain.mac_keys != NULL and chain.mac_keys.next == 0)


cdef inline bint _counts(const VerifierKey *key, uint64_t now_ms) noexcept nogil:
    return key.not_before_ms <= now_ms < key.expires_at_ms


cdef bint _any_counts(ProofKeys proofs, uint64_t now_ms) noexcept nogil:
    cdef int i
    for i in range(proofs.count):
        if _counts(&proofs.keys[i], now_ms):
            return True
    return False


cdef const VerifierKey *_key_of(ProofKeys proofs, bytes_t key_id, uint64_t now_ms) noexcept nogil:
    """Return the host's key of an id if it is valid now, or NULL."""
    cdef int i
    for i in range(proofs.count):
        if memcmp(proofs.keys[i].id, key_id, 32) == 0 and _counts(&proofs.keys[i], now_ms):
            return &proofs.keys[i]
    return NULL


cdef bint _same_tag(const unsigned char *a, const unsigned char *b) noexcept nogil:
    """Compare tags in constant time."""
    cdef unsigned char difference = 0
    cdef int i
    for i in range(32):
        difference |= a[i] ^ b[i]
    return difference == 0


cdef bint _mac_key(
    Chain chain, const Block *block, ProofKeys proofs, const VerifierKey *key, unsigned char *out
) noexcept nogil:
    """Return the key of a chain's MACs under a host key: the stored one, or a new agreement. 0: none."""
    cdef MacKeys *stored = chain.mac_keys
    cdef unsigned char name[NAME_BYTES]
    cdef unsigned char shared[32]
    cdef int i
    memcpy(name, proofs.verifier, 16)
    memcpy(name + 16, key.id, 32)
    if take(&stored.lock):
        for i in range(2):
            if memcmp(stored.names[i], name, NAME_BYTES) == 0:
                memcpy(out, stored.keys[i], 32)
                give(&stored.lock)
                return True
        give(&stored.lock)
    if not agree(shared, key.secret, chain.base + block.proof_key):
        return False
    put_mac_key(
        out, shared, chain.base + block.proof_key, key.public, chain.base + block.next_key, proofs.verifier, key.id
    )
    if take(&stored.lock):
        # Replace the older of the two: a host has two keys at most, and a new one replaces an expired one.
        i = stored.next & 1
        stored.next += 1
        memcpy(stored.names[i], name, NAME_BYTES)
        memcpy(stored.keys[i], out, 32)
        give(&stored.lock)
    return True


cdef bint check_session_alive(SessionEntry entry, uint64_t now_ms, CheckOutcome *out) noexcept nogil:
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


cdef bint judge_time(Chain chain, const CheckInput *input, CheckOutcome *out) noexcept nogil:
    cdef uint64_t now = input.now_ms
    cdef Block *block
    cdef int i
    if input.clock_suspect:
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


cdef bint _among(Chain chain, const Texts *texts, const TextSlice *text) noexcept nogil:
    cdef ByteSpan span = texts.first
    cdef int i
    for i in range(texts.count):
        if i:
            next_text(chain.base, &span)
        if span.n == text.n and same(chain.base + span.at, text.p, text.n):
            return True
    return False


cdef bint judge_audience(Chain chain, const CheckInput *input, CheckOutcome *out) noexcept nogil:
    cdef Block *block
    cdef int i, k
    for i in range(chain.block_count):
        block = &chain.blocks[i]
        if block.audience.count and not _among(chain, &block.audience, &input.audience):
            return deny_block(out, STAGE_AUDIENCE, WRONG_AUDIENCE, i)
        if block.source.count and not _from_source(chain, &block.source, &input.source):
            return deny_block(out, STAGE_AUDIENCE, WRONG_SOURCE, i)
        if block.peer.count:
            for k in range(input.peer_count):
                if _among(chain, &block.peer, &input.peers[k]):
                    break
            else:
                return deny_block(out, STAGE_AUDIENCE, WRONG_PEER, i)
    return True


cdef bint _from_source(Chain chain, const Texts *networks, const TextSlice *source) noexcept nogil:
    cdef Address address, network
    cdef ByteSpan span = networks.first
    cdef int i, length
    if not parse_address(source.p, source.n, &address):
        return False
    for i in range(networks.count):
        if i:
            next_text(chain.base, &span)
        if parse_cidr(chain.base + span.at, span.n, &network, &length) and in_cidr(&address, &network, length):
            return True
    return False


cdef bint _malformed_request(CheckOutcome *out, const char *argument) noexcept nogil:
    set_argument(out, argument, strlen(argument))
    return deny(out, STAGE_SCOPE, MALFORMED_REQUEST)


cdef inline void _read_facts_of(const SessionRules *rules, Context *context) noexcept nogil:
    context.facts = rules.facts
    context.fact_count = rules.fact_count
    context.facts_base = rules.base


cdef bint judge_scope(
    Chain chain, const SessionRules **rules, int rules_count, const CheckInput *input, Scratch *scratch, CheckOutcome *out
) noexcept nogil:
    """Run stages scope, proof and needs, except a proof's nonce. They share the matched scopes.

    ``rules`` are those of the session and of its ancestors, the nearest first. A check of the token alone ends before
    the call is read.
    """
    cdef Context context
    cdef MatchResult verdict
    cdef Block *block
    cdef int needs_index = -1
    cdef int needs_scope = -1
    cdef int needs = NO_NEEDS
    cdef int i, k
    cdef int layer = 0
    if input.token_only:
        return judge_kinds(chain, out)
    if not is_action(input.action.p, input.action.n):
        return _malformed_request(out, "action")
    if not split_resource(input.resource.p, input.resource.n, &scratch.resource):
        return _malformed_request(out, "resource")
    if not read_document(&scratch.arguments, input.arguments.p, input.arguments.n):
        return _malformed_request(out, "arguments")
    if not read_document(&scratch.tool, input.tool.p, input.tool.n):
        return _malformed_request(out, "tool")
    if not judge_kinds(chain, out):
        return False
    context.arguments = &scratch.arguments
    context.tool = &scratch.tool
    context.visible_only = 0
    begin_work(&context, input.arguments.n)
    for k in range(rules_count):
        # A ceiling reads the facts of its own session: a child's owner sets the child's facts.
        _read_facts_of(rules[k], &context)
        for i in range(rules[k].layer_count):
            match_scopes(&rules[k].layers[i], input.action, &scratch.resource, &context, &verdict)
            if verdict.match != MATCHED:
                _deny_scope(&rules[k].layers[i], &verdict, LEVEL_CEILING, layer, out)
                if not rules[k].observe or verdict.match == OVERWORKED:
                    return False
                _set_observed(out)
            layer += 1
    _read_facts_of(rules[0], &context)
    for i in range(chain.block_count):
        block = &chain.blocks[i]
        context.visible_only = i > 0
        if block.scopes.count:
            match_scopes(&block.scopes, input.action, &scratch.resource, &context, &verdict)
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
    if chain.blocks[chain.block_count - 1].ending == ENDING_BOUND and not judge_proof(chain, input, out):
        return False
    if needs | input.consumes:
        return _needs(chain, input, needs, needs_index, needs_scope, out)
    return True


cdef bint _needs(Chain chain, const CheckInput *input, int needs, int index, int scope, CheckOutcome *out) noexcept nogil:
    """Deny calls that only the writer can allow, by the first scope with needs."""
    if needs != NO_NEEDS:
        out.scope = scope
        return deny_block(out, STAGE_NEEDS, APPROVAL_REQUIRED if needs == NEEDS_APPROVAL else NEEDS_SERVER, index)
    # A call without costs consumes at most its proof's nonce.
    if input.consumes & CONSUMES_PERMIT or chain.blocks[chain.block_count - 1].ending == ENDING_BOUND:
        return deny(out, STAGE_NEEDS, NEEDS_SERVER)
    return True


cdef bint _where(Chain chain, const Block *block, int index, Context *context, CheckOutcome *out) noexcept nogil:
    cdef uint64_t marked = 0
    cdef int i
    for i in range(block.where_count):
        if not holds(&block.where[i], chain.base, context, &marked):
            out.clause = i
            if context.overworked:
                set_argument(out, "arguments", 9)
                return deny_block(out, STAGE_SCOPE, MALFORMED_REQUEST, index)
            _name_path(&block.where[i].path, chain.base, context.place, context.depth, out)
            return deny_block(out, STAGE_SCOPE, CONDITION_FAILED, index)
    return True


cdef bint judge_kinds(Chain chain, CheckOutcome *out) noexcept nogil:
    """Deny a chain with an unknown kind: it may forbid every call."""
    cdef int i
    if not chain.any_unknown:
        return True
    for i in range(chain.block_count):
        if chain.blocks[i].unknown:
            out.scope = chain.blocks[i].unknown_scope
            out.clause = chain.blocks[i].unknown_clause
            return deny_block(out, STAGE_SCOPE, UNKNOWN_KIND, i)
    return deny(out, STAGE_SCOPE, UNKNOWN_KIND)


cdef bint _deny_scope(
    const ScopeList *scopes, const MatchResult *verdict, int level, int index, CheckOutcome *out
) noexcept nogil:
    out.level = level
    out.index = index
    if verdict.match == OUTSIDE:
        return deny(out, STAGE_SCOPE, OUT_OF_SCOPE)
    out.scope = verdict.scope
    out.clause = verdict.clause
    if verdict.match == EXCEPTED:
        return deny(out, STAGE_SCOPE, OUT_OF_SCOPE)
    if verdict.match == OVERWORKED:
        set_argument(out, "arguments", 9)
        return deny(out, STAGE_SCOPE, MALFORMED_REQUEST)
    if verdict.clause >= 0:
        _name_path(
            &scopes.scopes[verdict.scope].conditions[verdict.clause].path,
            scopes.base,
            verdict.place,
            verdict.depth,
            out,
        )
    else:
        set_argument_path(out, verdict.left, verdict.left_count)
    return deny(out, STAGE_SCOPE, CONDITION_FAILED)


cdef void _set_observed(CheckOutcome *out) noexcept nogil:
    """Take back a refusal by a ceiling in observe mode. The first one is remembered."""
    if out.observed_layer < 0:
        out.observed_layer = out.index
        out.observed_scope = out.scope
        out.observed_clause = out.clause
        out.observed_argument = out.argument
        out.observed_argument_n = out.argument_n
    else:
        free(out.argument)
    out.argument = NULL
    out.argument_n = 0
    out.level = LEVEL_NONE
    out.index = out.scope = out.clause = -1
    out.stage = STAGE_NONE
    out.reason = 0


cdef void _name_path(
    const Path *path, bytes_t base, const uint32_t *place, int depth, CheckOutcome *out
) noexcept nogil:
    """Name the argument of a condition. ``place``: the elements at which it failed, in as many lists as are known."""
    cdef TextSlice names[MAX_PATH_SEGMENTS + 1]
    cdef ByteSpan segment = path.first
    cdef int count = 0
    cdef int lists = 0
    cdef int i
    if path.source == SOURCE_SESSION:
        set_slice(&names[0], <bytes_t> <const char *> "session", 7)
        count = 1
    elif path.source == SOURCE_TOOL:
        set_slice(&names[0], <bytes_t> <const char *> "tool", 4)
        count = 1
    for i in range(path.count):
        if i:
            next_text(base, &segment)
        if path.source != SOURCE_ELEMENTS:
            set_slice(&names[count], base + segment.at, segment.n)
        elif is_each_element(base, &segment):
            set_slice(&names[count], NULL, place[lists] if lists < depth else ANY_ELEMENT)
            lists += 1
        else:
            set_slice(&names[count], base + segment.at + 1, segment.n - 1)
        count += 1
    set_argument_path(out, names, count)
