"""Conditions, evaluated (docs/token-format.md, sections 6.2 to 6.9)."""

from libc.stdint cimport uint32_t

from sessauth._fast.condition cimport Condition, Fact
from sessauth._fast.request cimport Document
from sessauth._fast.text cimport bytes_t

# What a condition is evaluated against.
cdef struct Context:
    const Document *arguments
    const Document *tool
    bytes_t facts_base
    const Fact *facts
    int fact_count
    bint visible_only
    uint32_t work
    bint overworked

# `base` is where the condition's spans count from.
cdef bint holds(const Condition *condition, bytes_t base, Context *context) noexcept nogil
# Count n × max(1, times) steps of work; 0 when the check has done too much.
cdef bint spend(Context *context, uint32_t n, uint32_t times) noexcept nogil
