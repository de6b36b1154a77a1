"""A console for people: sessions, their use and their ends, in a browser on the same machine."""
