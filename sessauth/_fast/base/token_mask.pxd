"""Where a text that whoever has it could use begins in another."""

from sessauth._fast.base.text cimport bytes_t

# What is written in the place of the secret part.
cdef const char *MASK

# How many bytes a secret has that begins here, 0 if none does; `shown` are those that say its kind.
cdef size_t secret_at(bytes_t p, bytes_t end, size_t *shown) noexcept nogil
