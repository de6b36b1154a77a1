"""Finds tokens, credentials and proofs inside other texts."""

from sessauth._fast.base.text cimport bytes_t

# Replaces the secret part.
cdef const char *MASK

# The length of the secret that begins here, 0 if none does. `shown`: the length of its visible prefix, which names
# the kind.
cdef size_t secret_at(bytes_t p, bytes_t end, size_t *shown) noexcept nogil
