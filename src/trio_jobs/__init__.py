"""A Trio job queue for the thing that can do only one thing at a time."""
