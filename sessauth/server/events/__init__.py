"""Session events, published to subscribers."""
