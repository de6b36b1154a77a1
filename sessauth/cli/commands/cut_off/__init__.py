"""Commands that cut agents off."""
