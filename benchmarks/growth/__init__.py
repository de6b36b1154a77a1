"""Growing state: live sessions, revocations, cached chains, floods of one-off tokens, and their weight."""
