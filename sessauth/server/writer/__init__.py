"""The way of a call's change or cost to the writer of the state."""
