"""The journal: a store in one SQLite file."""
