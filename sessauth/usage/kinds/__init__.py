"""The fit by kinds: each argument is held by the kind of its values, and by how many sessions brought them."""
