"""A transmitter of the Shared Signals Framework: other systems learn that a session's authority ended."""
