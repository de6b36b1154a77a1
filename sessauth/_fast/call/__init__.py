"""One call: its action, resource and arguments, as they are judged."""
