"""A batch of calls, and the costs of a call.

A batch has the inputs and outcomes of its calls, and creates decisions on access. The costs of a call are collected for
the cost handler (docs/token-format.md, section 9.10).
"""

cimport cython
from collections import namedtuple
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_DECREF
from libc.stdint cimport uint32_t, uint64_t
from libc.stdlib cimport calloc, free


# The costs of a call.
#
# Only a check with a cost handler runs this code, once all else allows. A scope's needs are read from the token
# again, so that compiled scopes need not store them.

cdef enum:
    # Field numbers of Block, Scope, Needs and Budget.
    BLOCK_SCOPES = 6
    SCOPE_NEEDS = 6
    NEEDS_BUDGET = 3
    BUDGET_AMOUNT = 4

Price = namedtuple("Price", ("threshold", "keys", "uses", "name", "unit", "limit", "argument"))
Price.__doc__ = """The needs of one scope.

``threshold`` of the Ed25519 public keys ``keys`` (32 bytes each) must approve; 0 and no keys: no approval.
``uses`` is the total number of uses; 0: unlimited. ``name``, ``unit`` and ``limit`` (units and nanos) are the
budget's; empty, empty and None without one. ``argument`` names the argument with the amount, in the form of a
position.
"""


@cython.final
cdef class CostClaims:
    """The costs of a call: a sequence in order of blocks, which also records the cost handler's choices.

    Elements are ``(block, block_id, scopes)``, one for each block whose matching scopes all have needs. ``scopes``
    is a tuple of the matching scopes, in order: ``(scope, price, amount)``. ``price`` is a ``Price``. ``amount`` is
    the charge to its budget, as units and nanos, or None for an argument that is negative or not a number, and
    without a budget. Empty for a call without costs.

    ``session_id``, ``block_ids`` (the root's first), ``epoch``, ``revision`` and ``checked_at_ms`` are those of the
    check so far.
    """

    cdef readonly bytes session_id
    cdef readonly tuple block_ids
    cdef readonly uint64_t epoch
    cdef readonly uint64_t revision
    cdef readonly uint64_t checked_at_ms
    cdef tuple _items
    cdef dict _chosen
    cdef bint _placed
    cdef int _block
    cdef int _scope
    cdef bytes _argument

    def __len__(self):
        return len(self._items)

    def __getitem__(self, index):
        return self._items[index]

    def __iter__(self):
        return iter(self._items)

    def choose(self, int block, int scope):
        """Record the charged scope of a block. Without a call it is the first that matches.

        Raises ValueError for a scope that is not claimed.
        """
        if not self._claims(block, scope):
            raise ValueError("no such scope is claimed")
        self._chosen[block] = scope

    def fail(self, int block=-1, int scope=-1, str argument not None=""):
        """Record the position of the denial. Without a call it is the first scope of the first claim.

        With no block the position is ``argument`` alone. Raises ValueError for a scope that is not claimed.
        """
        if block != -1 and not self._claims(block, scope):
            raise ValueError("no such scope is claimed")
        if block == -1 and scope != -1:
            raise ValueError("a scope stands in a block")
        self._placed = True
        self._block = block
        self._scope = scope
        self._argument = argument.encode()

    cdef bint _claims(self, int block, int scope) except -1:
        for index, _, scopes in self._items:
            if index == block:
                return any(each[0] == scope for each in scopes)
        return False

    cdef bint apply(self, object answer, CheckOutcome *out) except -1:
        cdef int reason
        # False equals 0, but means the opposite.
        if isinstance(answer, bool) or not isinstance(answer, int):
            raise TypeError("charge returns 0 or the number of a reason")
        reason = answer
        if reason == 0:
            out.stage = STAGE_NONE
            out.reason = 0
            out.level = LEVEL_NONE
            out.index = -1
            out.scope = -1
            out.matched_scope = self._chosen.get(out.matched_index, out.matched_scope)
            return True
        if reason <= ALLOWED:
            raise ValueError("a denial has a reason")
        if self._placed:
            out.level = LEVEL_NONE if self._block < 0 else LEVEL_BLOCK
            out.index = self._block
            out.scope = self._scope
            if PyBytes_GET_SIZE(self._argument):
                set_argument(out, PyBytes_AS_STRING(self._argument), PyBytes_GET_SIZE(self._argument))
        return deny(out, STAGE_NEEDS, reason)


# The costs of a call whose scopes match. `scratch` holds its JSON, `rules` are those of the token's own session.
cdef CostClaims build_claims(
    Chain chain, const SessionRules *rules, const CheckInput *input, Scratch *scratch, const CheckOutcome *outcome
):
    cdef CostClaims out = CostClaims.__new__(CostClaims)
    cdef Context context
    cdef list items = []
    cdef tuple scopes
    cdef int i
    context.arguments = &scratch.arguments
    context.tool = &scratch.tool
    context.facts = rules.facts
    context.fact_count = rules.fact_count
    context.facts_base = rules.base
    begin_work(&context, input.arguments.n)
    out.session_id = chain.session_id
    out.block_ids = chain.block_ids
    out.epoch = outcome.epoch
    out.revision = outcome.revision
    out.checked_at_ms = outcome.checked_at_ms
    out._chosen = {}
    for i in range(chain.block_count):
        context.visible_only = i > 0
        if chain.blocks[i].scopes.count:
            scopes = _claimed(chain, i, input, scratch, &context)
            if scopes:
                items.append((i, out.block_ids[i], scopes))
    out._items = tuple(items)
    return out


cdef tuple _claimed(Chain chain, int index, const CheckInput *input, Scratch *scratch, Context *context):
    """Return a block's matching scopes with their prices; empty if one of them has no needs."""
    cdef ScopeList *scopes = &chain.blocks[index].scopes
    cdef ScopeList one
    cdef MatchResult verdict
    cdef list matching = []
    cdef int i
    one.count = 1
    one.exceptions = 0
    one.base = scopes.base
    for i in range(scopes.count):
        one.scopes = scopes.scopes + i
        match_scopes(&one, input.action, &scratch.resource, context, &verdict)
        if verdict.match == OVERWORKED:
            # The same work was within its bound before.
            raise RuntimeError("a scope that matched asks for more work")
        if verdict.match == MATCHED:
            if one.scopes.needs == NO_NEEDS:
                return ()
            matching.append((i, *_price(chain, index, i, &scratch.arguments)))
    return tuple(matching)


cdef tuple _price(Chain chain, int index, int scope, const Document *arguments):
    """Return a scope's price, and the charge to its budget for these arguments."""
    cdef Block *block = &chain.blocks[index]
    cdef WireReader reader
    cdef WireReader needs
    cdef Path path
    cdef const JsonNode *node
    reader.p = chain.base + block.payload.at
    reader.end = reader.p + block.payload.n
    if not _field(reader, BLOCK_SCOPES, scope, &reader) or not _field(reader, SCOPE_NEEDS, 0, &needs):
        raise RuntimeError("a scope that was compiled with needs states none")
    record = decode_message("Needs", PyBytes_FromStringAndSize(<const char *> needs.p, needs.end - needs.p))
    approval = record["approval"] or {"threshold": 0, "keys": ()}
    keys = tuple(approval["keys"])
    budget = record["budget"]
    if budget is None:
        return Price(approval["threshold"], keys, record["uses"], "", "", None, ""), None
    if (
        not _field(needs, NEEDS_BUDGET, 0, &reader)
        or not _field(reader, BUDGET_AMOUNT, 0, &reader)
        or parse_path(reader, chain.base, &path) != NULL
    ):
        raise RuntimeError("a budget that was compiled with a path has none")
    node = find_node(arguments, &path, chain.base)
    amount = None if node == NULL or node.type != TYPE_NUMBER or node.units < 0 else (node.units, node.nanos)
    price = Price(
        approval["threshold"],
        keys,
        record["uses"],
        budget["name"],
        budget["unit"],
        (budget["limit"]["units"], budget["limit"]["nanos"]),
        ".".join(budget["amount"]["segments"]),
    )
    return price, amount


cdef bint _field(WireReader reader, uint32_t wanted, int place, WireReader *out) noexcept nogil:
    """Find the ``place``-th field of a number in a message whose form was validated before."""
    cdef uint32_t number, wire
    cdef uint64_t value
    while reader.p < reader.end:
        if not read_tag(&reader, &number, &wire):
            return False
        if wire == WIRE_VARINT:
            if not read_varint(&reader, &value):
                return False
            continue
        if not read_bytes(&reader, out):
            return False
        if number == wanted:
            if place == 0:
                return True
            place -= 1
    return False


cdef class Batch:
    """The decisions of one batch, in the order of its calls: with a length, an index and an iterator.

    Each access creates a new object with the same ``decision_id``.
    """

    cdef int allocate(self, Py_ssize_t count) except -1:
        """Allocate the items. Called once."""
        cdef Py_ssize_t i
        self.items = <Item *> calloc(count if count else 1, sizeof(Item))
        if self.items == NULL:
            raise MemoryError
        self.count = count
        for i in range(count):
            input_init(&self.items[i].input)
            outcome_init(&self.items[i].outcome)
            self.items[i].lineage_of = <int> i
        return 0

    def __dealloc__(self):
        cdef Py_ssize_t i
        if self.items == NULL:
            return
        self.release_lineages(0, self.count)
        for i in range(self.count):
            outcome_free(&self.items[i].outcome)
            if self.items[i].chain != NULL:
                Py_DECREF(<object> self.items[i].chain)
        free(self.items)

    cdef Chain chain_of(self, Item *item):
        """Return the chain of a decoded item, or None."""
        return None if item.chain == NULL else <Chain> item.chain

    cdef void reset(self, Py_ssize_t first, Py_ssize_t end):
        """Reset outcomes, so that the items can be checked again."""
        cdef Py_ssize_t i
        self.release_lineages(first, end)
        for i in range(first, end):
            outcome_free(&self.items[i].outcome)
            outcome_init(&self.items[i].outcome)
            self.items[i].lineage_of = <int> i
            self.items[i].passed = False

    cdef void release_lineages(self, Py_ssize_t first, Py_ssize_t end):
        cdef Py_ssize_t i
        for i in range(first, end):
            lineage_clear(&self.items[i].own_lineage)

    cdef bytes token_of(self, Py_ssize_t i):
        """Return the token's bytes as presented."""
        cdef TextSlice *token = &self.items[i].input.token
        return PyBytes_FromStringAndSize(<const char *> token.p, token.n)

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.count))]
        cdef Py_ssize_t i = index
        cdef Decision out
        cdef Item *item
        if i < 0:
            i += self.count
        if not 0 <= i < self.count:
            raise IndexError("no such decision")
        item = &self.items[i]
        out = Decision.__new__(Decision)
        out.prefix = self.prefix
        out.number = self.number + i
        out.fill(&item.outcome, self.chain_of(item))
        if item.outcome.reason == INTERNAL_ERROR:
            out._fault = self._fault
        return out

    def __iter__(self):
        for i in range(self.count):
            yield self[i]

    @property
    def fault(self):
        """The exception that caused INTERNAL_ERROR, or None."""
        return self._fault

    @property
    def all_allowed(self):
        """True if every call is allowed; True for an empty batch."""
        cdef Py_ssize_t i
        for i in range(self.count):
            if not self.items[i].outcome.allowed:
                return False
        return True

    def __repr__(self):
        return f"<{type(self).__name__} of {self.count}>"
