"""The entry points of a check, and three-valued evaluation of scopes.

``Checker`` takes one call, a batch, or a prepared token. The functions below it serve surveys and redecisions.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint64_t


cdef str NOTHING = ""
cdef bytes NO_PROOF = b""


cdef class Checker(RecordingRunner):
    """Checks requests against one view; one for each process, for any number of threads.

    ``audience`` names this verifier. Tokens are bytes, texts, handles of ``prepare``, or objects of ``token_type``,
    whose ``data`` is a token's bytes. ``proofs`` verifies proofs (``_fast/token/proof.pyx``) and may be replaced at any
    time; with None every proof is denied PROOF_UNAVAILABLE. ``decision_queue``, None until it is set, receives a
    record of every decision (``_fast/record/decision_record.pyx``). ``counters``, likewise, counts them
    (``_fast/record/decision_record.pyx``).
    """

    def __cinit__(
        self,
        view,
        *,
        str audience not None="",
        cache_bytes=None,
        session_cache_bytes=None,
        token_type=None,
        ProofKeys proofs=None,
    ):
        # StageRunner reads the others. They are named here so that unknown parameters are refused.
        self.audience = audience
        self._token_type = token_type
        self.proofs = proofs

    def check(
        self,
        token not None,
        action not None,
        resource not None,
        arguments not None=b"",
        *,
        tool not None=b"",
        bytes session not None=b"",
        str source not None=NOTHING,
        peer=(),
        str audience=None,
        uint64_t at_least_revision=0,
        proof=NO_PROOF,
    ):
        """Check one call.

        Args:
            token: the presented token: bytes, text, or a handle of ``prepare``.
            action: the action, e.g. ``read``; str or bytes.
            resource: the resource, segments joined by ``/``; str or bytes.
            arguments: the exact JSON to forward, bytes or str, where empty means ``{}``; or a mapping, checked
                in its canonical form (``sessauth.scopes.call_arguments``).
            tool: the gateway's facts about the tool, in the forms of ``arguments``.
            session: the expected session (16 bytes), or empty.
            source: the agent's IP address, or empty.
            peer: the identities of the agent's certificate (``sha256:HEX``, ``spiffe://…``).
            audience: the verifier that the token must name; None for this checker's.
            at_least_revision: deny STALE_STATE unless the view has this revision.
            proof: the holder's proof of this call for a bound token, bytes or text.

        Raises:
            TypeError: for arguments of another type. Input that an agent controls raises nothing.
        """
        cdef CheckInput input
        input_init(&input)
        input.at_least_revision = at_least_revision
        return self._judge_call(
            &input, token, action, resource, arguments, tool, session, source, peer, audience, proof, -1, True
        )

    def _check(
        self,
        token not None,
        action not None,
        resource not None,
        arguments not None=b"",
        *,
        tool not None=b"",
        bytes session not None=b"",
        str source not None=NOTHING,
        peer=(),
        str audience=None,
        uint64_t at_least_revision=0,
        proof=NO_PROOF,
        int64_t now_ms=-1,
        bint clock_suspect=False,
        bint verify_new_signatures=True,
        bint consume_nonce=True,
        bint skip_proof=False,
        cost_handler=None,
        bint record_needs=True,
        bint token_only=False,
    ):
        """Check one call as ``check`` does, for the package's own processes and for tests.

        Args:
            token: as in ``check``; so are all up to ``proof``.
            now_ms: the time of the check, in ms since 1970; -1 reads the clock.
            clock_suspect: treat the time as unreliable.
            verify_new_signatures: False denies a chain that was not verified before BAD_SIGNATURE, at no block,
                without signature work. For callers that fail too often.
            consume_nonce: an allow consumes the proof's nonce, so the proof counts once. False is for a call
                whose nonce was consumed before, e.g. a retry.
            skip_proof: require no proof, since this call's proof was verified before. For the commit of a permit,
                when the proof may be too old.
            cost_handler: charges the costs of the scopes. When every stage before ``needs`` allows, even without
                costs, ``cost_handler.charge(claims)`` is called once, with the GIL. It returns 0 if all is charged,
                else the number of the reason for a denial at stage ``needs``. It reports the charged scopes, or
                the position of the denial, to ``claims`` (``_fast/check/batch.pyx``). An exception denies
                INTERNAL_ERROR. A stage after ``needs`` may still deny, so a charge must not last unless this
                decision allows. Without a cost handler a call with costs is denied.
            record_needs: record a denial at stage ``needs``. False is for callers that ask the writer next and
                call ``record_decision`` only without its answer.
            token_only: check the token alone (docs/token-format.md, section 9.14). The call's parts must be empty.
        """
        cdef CheckInput input
        input_init(&input)
        input.at_least_revision = at_least_revision
        input.clock_suspect = clock_suspect
        input.verify_new_signatures = verify_new_signatures
        input.keep_nonce = not consume_nonce
        input.skip_proof = skip_proof
        input.token_only = token_only
        if cost_handler is not None and not token_only:
            input.cost_handler = <PyObject *> cost_handler
        return self._judge_call(
            &input, token, action, resource, arguments, tool, session, source, peer, audience, proof, now_ms, record_needs
        )

    cdef Decision _judge_call(
        self, CheckInput *input, object token, object action, object resource, object arguments, object tool, bytes session,
        str source, object peer, str audience, object proof, int64_t now_ms, bint record_needs,
    ):  # fmt: skip
        """Check one call of these parts. ``input`` holds the other options."""
        cdef Decision out
        cdef CheckOutcome outcome
        cdef Chain chain = None
        cdef object data = token
        cdef object _held_action, _held_resource, _held_source, _held_audience, _held_peers, _held_proof
        cdef int refused = 0
        cdef CheckCounters counters = self.counters
        cdef int64_t started = 0 if counters is None else counters.begin()
        if not PyBytes_CheckExact(arguments):
            arguments = judged_bytes(arguments)
        if not PyBytes_CheckExact(tool):
            tool = judged_bytes(tool)
        if not PyBytes_CheckExact(token) or holds_token_text(token):
            data = self.read_token(token, &refused)
            if data is None:
                out = self.refuse(STAGE_DECODE, refused)
                if self.decision_queue is not None or counters is not None:
                    self.record_decision(
                        out, token, action, resource, arguments, source=source, audience=audience, now_ms=now_ms,
                        token_only=input.token_only,
                    )  # fmt: skip
                return out
            if type(data) is Chain:
                chain = data
                data = chain.raw
        slice_of(data, &input.token)
        _held_action = slice_of(action, &input.action)
        _held_resource = slice_of(resource, &input.resource)
        set_slice(&input.arguments, <bytes_t> PyBytes_AS_STRING(arguments), PyBytes_GET_SIZE(arguments))
        set_slice(&input.tool, <bytes_t> PyBytes_AS_STRING(tool), PyBytes_GET_SIZE(tool))
        set_slice(&input.session, <bytes_t> PyBytes_AS_STRING(session), PyBytes_GET_SIZE(session))
        _held_source = slice_of(source, &input.source) if source is not NOTHING else None
        _held_audience = slice_of(self.audience if audience is None else audience, &input.audience)
        _held_peers = set_peers(peer, input) if peer else None
        if proof is not NO_PROOF:
            _held_proof = self._set_proof(proof, input)
        out = self.new_decision()
        outcome_init(&outcome)
        try:
            self.clock(input, now_ms)
            if self.decision_queue is not None and self.decision_queue.refusing:
                deny(&outcome, STAGE_NONE, AUDIT_UNAVAILABLE)
            elif chain is None:
                chain = self.chain_of(input, data, &outcome)
            if chain is not None and not outcome.reason:
                outcome.allowed = self.judge(chain, input, now_ms < 0, &outcome)
        except Exception as fault:
            out._fault = fault
            set_fault(&outcome)
        if not outcome.allowed:
            clear_match(&outcome)
        if self.decision_queue is not None and (record_needs or outcome.stage != STAGE_NEEDS):
            self.decision_queue.put(input, &outcome, chain, <bytes_t> PyBytes_AS_STRING(out.prefix), out.number, False)
        if counters is not None:
            counters.count_check(&outcome, started, record_needs or outcome.stage != STAGE_NEEDS)
        out.fill(&outcome, chain)
        outcome_free(&outcome)
        return out

    def check_batch(self, calls not None, *, str audience=None, uint64_t at_least_revision=0):
        """Check a batch of calls by one state and one time, mostly without the GIL.

        Args:
            calls: tuples ``(token, action, resource[, arguments[, tool[, session[, source[, peer[,
                proof]]]]]])``, the parts as in ``check``.
            audience: as in ``check``, for every call.
            at_least_revision: as in ``check``, for every call.

        Returns:
            The decisions in the order of the calls, created on access.

        Raises:
            TypeError: for another form of call. Input that an agent controls raises nothing.
        """
        return self._check_batch(calls, audience=audience, at_least_revision=at_least_revision)

    def _check_batch(
        self,
        calls,
        *,
        str audience=None,
        uint64_t at_least_revision=0,
        int64_t now_ms=-1,
        bint clock_suspect=False,
        bint verify_new_signatures=True,
        bint record=True,
        bint record_needs=True,
    ):
        """Check a batch of calls as ``check_batch`` does, for the package's own processes and for tests.

        Args:
            calls: as in ``check_batch``. A tenth part is ``token_only``, as in ``_check``.
            audience: as in ``check_batch``; so is ``at_least_revision``.
            now_ms: as in ``_check``, for every call; so are the others.
            record: record the decisions. False is for callers that record some of them (``record_batch_item``).
        """
        cdef Batch batch = Batch.__new__(Batch)
        cdef list references = []
        cdef TextSlice shared_audience
        cdef Item *item
        cdef Py_ssize_t i = 0
        references.append(slice_of(self.audience if audience is None else audience, &shared_audience))
        calls = tuple(calls)
        references.append(calls)
        batch.references = references
        batch.allocate(len(calls))
        for call in calls:
            item = &batch.items[i]
            item.input.audience = shared_audience
            item.input.at_least_revision = at_least_revision
            item.clock_suspect = clock_suspect
            item.input.verify_new_signatures = verify_new_signatures
            self._read_call(call, item, references)
            i += 1
        self.name(batch)
        if not record:
            self.judge_batch(batch, 0, batch.count, now_ms)
            return batch
        self.judge_timed(batch, 0, batch.count, now_ms)
        if self.decision_queue is not None or self.counters is not None:
            for i in range(batch.count):
                if record_needs or batch.items[i].outcome.stage != STAGE_NEEDS:
                    self.record_item(batch, &batch.items[i], False)
        return batch

    def refuse(self, int stage, int reason, str argument=None):
        """Return a denial for a call that is refused before it reaches the kernel.

        ``argument`` names the part at fault, if it has a name. Raises ValueError for a number that is no reason of
        a denial: nothing here can allow.
        """
        cdef Decision out
        if reason <= ALLOWED:
            raise ValueError("a denial has a reason")
        out = self.new_decision()
        outcome_init(&out.outcome)
        deny(&out.outcome, stage, reason)
        out._argument = argument
        return out

    cdef int _read_call(self, object call, Item *item, list references) except -1:
        """Point an item at the parts of a call's tuple. Raises TypeError for another form."""
        cdef Chain chain
        cdef object data
        cdef CheckInput *input = &item.input
        if not isinstance(call, tuple) or not 3 <= len(call) <= 10:
            raise TypeError("a call is a tuple of token, action, resource and at most seven more parts")
        cdef tuple parts = tuple(call)
        cdef Py_ssize_t n = len(parts)
        if parts is not call:
            references.append(parts)
        token = parts[0]
        if not PyBytes_CheckExact(token) or holds_token_text(token):
            data = self.read_token(token, &item.refused)
            if type(data) is Chain:
                chain = data
                Py_INCREF(chain)
                item.chain = <PyObject *> chain
                token = chain.raw
            elif data is not None:
                token = data
            references.append(token)
        if not item.refused:
            slice_of(token, &input.token)
        elif isinstance(token, (bytes, str)):
            # Only the record's digest reads it.
            _hold(references, slice_of(token, &input.token))
        _hold(references, slice_of(parts[1], &input.action))
        _hold(references, slice_of(parts[2], &input.resource))
        if n > 3:
            _hold(references, json_slice(parts[3], &input.arguments))
        if n > 4:
            _hold(references, json_slice(parts[4], &input.tool))
        if n > 5:
            slice_of(<bytes?> parts[5], &input.session)
        if n > 6:
            _hold(references, slice_of(<str?> parts[6], &input.source))
        if n > 7 and parts[7]:
            references.append(set_peers(parts[7], input))
        if n > 8 and parts[8] is not NO_PROOF:
            references.append(self._set_proof(parts[8], input))
        if n > 9 and parts[9]:
            if input.action.n or input.resource.n:
                raise TypeError("a check of the token alone has no action and no resource")
            input.token_only = True
        return 0

    cdef tuple _set_proof(self, object proof, CheckInput *input):
        """Point at a proof and at the keys that verify it. Return their owners."""
        cdef ProofKeys proofs
        # The keys may have been replaced since the last check.
        self.recheck_if_due()
        proofs = self.proofs
        if not PyBytes_CheckExact(proof) or holds_token_text(proof):
            proof = proof_bytes(proof)
        slice_of(proof, &input.proof)
        input.proofs = NULL if proofs is None else <PyObject *> proofs
        return proof, proofs


cdef inline int _hold(list references, object thing) except -1:
    if thing is not None:
        references.append(thing)
    return 0


def session_refusal(int status, uint64_t expires_at_ms, uint64_t lease_ms, uint64_t lease_deadline_ms, uint64_t now_ms):
    """Return the reason to deny all calls of a session by its own row, SESSION_ENDED for any end; 0 if it lives."""
    cdef SessionEntry entry = SessionEntry.__new__(SessionEntry)
    cdef CheckOutcome out
    entry.status, entry.expires_at_ms = status, expires_at_ms
    entry.lease_ms, entry.lease_deadline_ms = lease_ms, lease_deadline_ms
    return 0 if check_session_alive(entry, now_ms, &out) else out.reason


# Three-valued evaluation of scopes for partially known calls: yes, no or maybe.
#
# A survey knows no arguments (docs/token-format.md, section 9.12). A replay of a log may know neither arguments nor the
# gateway's facts about the tool. ``scopes/match`` decides on scopes and conditions.

cdef enum:
    # The steps of all bytes that arguments may have, and the counter's start for arguments of none.
    ALL_BYTES = MAX_JSON_BYTES // BYTES_A_STEP
    WORK_OF_NO_BYTES = 3 * ALL_BYTES


cdef int eval_scopes3(const ScopeList *scopes, bint needs_are_maybe, PartialCall *call) noexcept nogil:
    cdef int out = NO
    cdef int i, one
    for i in range(scopes.count):
        one = eval_scope3(&scopes.scopes[i], scopes.base, call)
        if one == YES and needs_are_maybe and scopes.scopes[i].needs != NO_NEEDS:
            one = MAYBE
        if one == YES:
            out = YES
            break
        if one == MAYBE:
            out = MAYBE
    if not scopes.exceptions:
        return out
    if not scopes.count:
        out = YES
    for i in range(scopes.count, scopes.count + scopes.exceptions):
        out = and3(out, eval_exception3(&scopes.scopes[i], scopes.base, call))
    return out


cdef int eval_exception3(const Scope *exception, bytes_t base, PartialCall *call) noexcept nogil:
    cdef int out = NO
    cdef int i, one
    if exception.unknown != UNKNOWN_OUTSIDE_CONDITIONS and not pattern_matches(exception, base, call):
        return YES
    for i in range(exception.condition_count):
        one = eval_condition3(&exception.conditions[i], base, call)
        if one == YES:
            return YES
        if one == MAYBE:
            out = MAYBE
    return out


cdef bint pattern_matches(const Scope *scope, bytes_t base, PartialCall *call) noexcept nogil:
    cdef Scope outline = scope[0]
    cdef ScopeList alone
    cdef MatchResult verdict
    # A scope of the actions and the resource alone, for the matcher.
    outline.condition_count = 0
    outline.free_count = 0
    outline.needs = NO_NEEDS
    alone.scopes = &outline
    alone.count = 1
    alone.exceptions = 0
    alone.base = base
    match_scopes(&alone, call.action, call.resource, &call.context, &verdict)
    return verdict.match == MATCHED


cdef int eval_scope3(const Scope *scope, bytes_t base, PartialCall *call) noexcept nogil:
    cdef MatchResult left
    cdef int paths = closed_paths(scope)
    cdef int out = YES
    cdef int i
    if not pattern_matches(scope, base, call):
        return NO
    for i in range(scope.condition_count):
        out = and3(out, eval_condition3(&scope.conditions[i], base, call))
    if paths < 0:
        return out
    if not call.knows_arguments:
        call.work_by_values += MAX_JSON_VALUES * <uint64_t> (paths if paths else 1)
        return and3(out, MAYBE)
    if out == NO or covers(scope, base, &call.context, 0, &left):
        return out
    return MAYBE if call.context.overworked else NO


cdef int eval_condition3(const Condition *c, bytes_t base, PartialCall *call) noexcept nogil:
    cdef uint64_t values = c.count if c.count else 1
    cdef uint64_t compared = 1
    cdef uint64_t hashed
    cdef bint known = call.knows_facts
    cdef uint64_t marked = 0
    cdef uint8_t op = compared_by(c)
    if is_unknown(c):
        return NO
    if is_argument(&c.path):
        known = call.knows_arguments
    elif c.path.source == SOURCE_TOOL:
        known = call.knows_tool
    if known and (call.knows_facts or not c.fact.n):
        if holds(c, base, &call.context, &marked):
            return YES
        return MAYBE if call.context.overworked else NO
    call.work_by_values += MAX_JSON_VALUES // VALUES_A_STEP
    if c.quantifier or c.op == OP_SUBSET_OF or c.path.source == SOURCE_ELEMENTS:
        compared = MAX_JSON_VALUES
        call.work_by_values += compared * values
    if is_json(c):
        hashed = HASHED if has_digest(c) else 1
        call.work_by_values += compared * (FORM_STEPS + DIGEST_STEPS)
        # A number's canonical decimal may take a step more than its text: 1e20 has 21 digits.
        call.work_by_values += (FORM_STEPS + hashed) * MAX_JSON_VALUES
        call.work_by_bytes += ALL_BYTES * hashed
    else:
        call.work_by_values += compared * DECIMAL_STEPS
    if op == OP_GLOB or op == OP_UNDER:
        call.work_by_values += compared * values
        call.work_by_bytes += MAX_JSON_BYTES // WALKED_BYTES_A_STEP * values
    if op == OP_CIDR:
        call.work_by_values += compared * CIDR_STEPS * values
    if c.accessor > ACCESSOR_COUNT:
        call.work_by_values += compared * PART_STEPS
        call.work_by_bytes += ALL_BYTES
    return MAYBE


cdef bint may_overwork(const PartialCall *call) noexcept nogil:
    cdef uint64_t work = call.context.work + call.work_by_values
    if call.knows_arguments:
        return work + call.work_by_bytes > MAX_WORK
    # Both the counter's start and the sum are linear in the arguments' size, so its two ends decide.
    return WORK_OF_NO_BYTES + work > MAX_WORK or work + call.work_by_bytes > MAX_WORK
