"""Identity providers: their keys, the tokens that they sign, and the terms of sessions that these prove."""
