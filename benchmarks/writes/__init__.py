"""Changes of the state: what they take, and how many share an fsync."""
