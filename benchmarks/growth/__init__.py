"""What grows: live sessions, revocations, cached chains, floods of one-off tokens, and what they weigh."""
