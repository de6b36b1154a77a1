"""The fit by kinds: arguments are held by the kind of their values, as far as sessions agree."""
