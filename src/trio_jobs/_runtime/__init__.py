"""Floor 7: the queue. The only room that knows loops, stores and hosts at once."""
