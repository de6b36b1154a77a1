"""Answers to checks that need no thread: every token was verified before, and nothing waits for the writer.

A loop answers one request after the other, so none may take long. The longest time of a request is estimated before its
check, from the bytes of its arguments and the values that its tokens compare them with. Ceilings are left out: they are
the operator's own.

The service answers all other requests: this module refuses nothing.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp

from sessauth._fast._check cimport (
    OP_GLOB,
    OP_SUBSET_OF,
    SOURCE_ELEMENTS,
    STAGE_NEEDS,
    Block,
    Chain,
    ChainCache,
    CheckCounters,
    Checker,
    Condition,
    Histograms,
    Item,
    Scope,
    TextSlice,
    compared_by,
    is_json,
    is_token_text,
    monotonic_ns,
)

cdef enum:
    MAX_ITEMS = 256
    # In ns: as long as three signatures take to verify.
    MAX_COST = 150000
    # Bytes of the denied tokens: reading them for an explanation costs more than a check.
    MAX_EXPLAINED = 512
    # Time of an item, and of a pattern for the shortest text, in ns.
    ITEM_COST = 50
    PATTERN_COST = 100
    # Time to read a byte of JSON, in quarters of a ns: small numbers and names take most.
    BYTE_COST = 14


cdef class DirectMethod:
    """Answers ``Check`` or ``CheckBatch``: ``kind`` is the kernel's word for its request.

    ``explain(decision, token)`` returns the text of a denial. The time of each call is counted in ``row`` of
    ``times``, unless that is None.
    """

    def __cinit__(self, str kind not None, Checker checker not None, explain not None, Histograms times=None,
                  Py_ssize_t row=0):  # fmt: skip
        if times is not None and not 0 <= row < times.rows:
            raise IndexError("no such row")
        self._kind = kind
        self._checker = checker
        self._explain = explain
        self._times = times
        self._row = row
        self._most = MAX_ITEMS if kind == "batch" else 1


cdef class DirectCaller:
    """A caller of a method: the audiences it may check for (none: any), and its gate of failed signatures."""

    def __cinit__(self, DirectMethod method not None, tuple audiences not None, gate):
        self._method = method
        self._audiences = audiences
        self._gate = gate

    def answer_bytes(self, bytes data not None):
        """Return the answer to a request, encoded; None if it needs a thread."""
        return self.answer(data, monotonic_ns())

    cdef bytes answer(self, bytes data, int64_t started_ns):
        cdef DirectMethod method = self._method
        cdef CheckMessage message
        cdef bytes reply
        cdef str audience
        cdef CheckCounters counters = method._checker.counters
        cdef ChainCache cache = method._checker.cache
        cdef int64_t began = 0
        cdef uint64_t before, found
        try:
            message = CheckMessage(method._checker, data, method._kind)
        except ValueError:
            return None
        if not _is_plain(message, method._most):
            return None
        audience = self._audience_of(message)
        if audience is None:
            return None
        # The thread that checks the call counts its hits.
        before = cache.hits
        if not _find_cached_tokens(message) or not _is_cheap(message):
            cache.hits = before
            return None
        found = cache.hits - before
        if counters is not None:
            began = counters.begin()
        message.judge(audience, self._gate, timed=False)
        if not _is_final(message):
            cache.hits -= found
            return None
        if counters is not None:
            counters.add_time(began, message.count)
        reply = message.answer(method._explain)
        method.answered += 1
        if method._times is not None:
            method._times.count(method._row, monotonic_ns() - started_ns)
        return reply

    cdef str _audience_of(self, CheckMessage message):
        """Return the audience that the service would check for; None: it would refuse."""
        cdef str stated
        if message.stated_audience.n == 0:
            return self._audiences[0] if len(self._audiences) == 1 else None
        stated = message.audience
        return stated if not self._audiences or stated in self._audiences else None


cdef bint _is_plain(CheckMessage message, int most) except -1:
    """Return True for well-formed items without options. A batch with proofs is checked once only, by the service."""
    cdef Py_ssize_t i
    if not 1 <= message.count <= most or message.stated != message.count or message.options != NULL:
        return False
    if most == 1 and message.token_indexes != NULL:
        return False
    if message.count > 1:
        for i in range(message.count):
            if message.items[i].input.proof.n:
                return False
    return message.well_formed()


cdef bint _is_final(CheckMessage message) noexcept:
    """Return True if no item waits for the writer. If one does, nothing was recorded or consumed yet."""
    cdef Py_ssize_t i
    cdef Item *item
    cdef int denied = 0
    cdef size_t explained = 0
    for i in range(message.count):
        item = &message.items[i]
        if not item.outcome.allowed:
            denied += 1
            explained += item.input.token.n if denied <= MAX_EXPLANATIONS else 0
            if item.outcome.stage == STAGE_NEEDS or explained > MAX_EXPLAINED:
                return False
    return True


cdef bint _is_cheap(CheckMessage message) noexcept:
    """Return True if checking the items takes at most MAX_COST for any arguments."""
    cdef Py_ssize_t i
    cdef Item *item
    cdef PyObject *chain
    cdef PyObject *known = NULL
    cdef uint64_t once = ITEM_COST, by_byte = BYTE_COST, cost = 0
    for i in range(message.count):
        item = &message.items[i]
        chain = item.chain
        if chain == NULL and message.token_indexes != NULL and message.token_indexes[i]:
            chain = message.table[message.token_indexes[i] - 1].chain
        # An item without a token is denied at once.
        if chain != NULL and chain != known:
            known = chain
            _cost_of(<Chain> chain, &once, &by_byte)
        cost += once + (item.input.arguments.n + item.input.tool.n) * by_byte // 4
        if cost > MAX_COST:
            return False
    return True


cdef void _cost_of(Chain chain, uint64_t *once, uint64_t *by_byte) noexcept nogil:
    """Estimate the time of a chain's conditions, in ns for a call, and in quarters of a ns for a byte of its JSON."""
    cdef Block *block
    cdef Scope *scope
    cdef int i, k
    once[0] = ITEM_COST + chain.length // 4
    by_byte[0] = BYTE_COST
    for i in range(chain.block_count):
        block = &chain.blocks[i]
        _add_conditions(block.where, block.where_count, once, by_byte)
        for k in range(block.scopes.count):
            scope = &block.scopes.scopes[k]
            _add_conditions(scope.conditions, scope.condition_count, once, by_byte)


cdef void _add_conditions(const Condition *conditions, int count, uint64_t *once, uint64_t *by_byte) noexcept nogil:
    cdef const Condition *c
    cdef int i
    for i in range(count):
        c = &conditions[i]
        # Each name of its path may be compared with all names of an object.
        by_byte[0] += c.path.count
        if compared_by(c) == OP_GLOB:
            once[0] += PATTERN_COST * c.count
            by_byte[0] += 4 * c.count
        elif c.quantifier or c.op == OP_SUBSET_OF or c.path.source == SOURCE_ELEMENTS or is_json(c):
            by_byte[0] += 4 + c.count


cdef bint _find_cached_tokens(CheckMessage message) except -1:
    """Point each item at its chain in the cache of verified ones, before it is checked. False: one is missing."""
    cdef Py_ssize_t i
    cdef Item *item
    cdef Item *before = NULL
    cdef TokenTableEntry *entry
    for i in range(message.stated_tokens if message.table != NULL else 0):
        entry = &message.table[i]
        entry.chain = _find_cached(message, &entry.token, &entry.refused)
        if entry.chain == NULL:
            return False
        message.references.append(<object> entry.chain)
        entry.looked_up = True
    for i in range(message.count):
        item = &message.items[i]
        if item.input.token.n == 0:
            continue
        if before != NULL and before.input.token.n == item.input.token.n and (
            memcmp(before.input.token.p, item.input.token.p, item.input.token.n) == 0
        ):
            item.chain = before.chain
        else:
            item.chain = _find_cached(message, &item.input.token, &item.refused)
        if item.chain == NULL:
            return False
        Py_INCREF(<object> item.chain)
        before = item
    return True


cdef PyObject *_find_cached(CheckMessage message, TextSlice *token, int *refused) except? NULL:
    """Return the chain of a token, borrowed from the cache; NULL if it was not verified before."""
    cdef ChainCache cache = message.checker.cache
    cdef PyObject *kept = NULL
    cdef Chain chain
    if is_token_text(token.p, token.n):
        message.read_text(token, refused, &kept)
        return kept
    chain = cache.find(token.p, token.n)
    if chain is None:
        # The thread that checks the call counts the miss.
        cache.misses -= 1
    return <PyObject *> chain if chain is not None else NULL
