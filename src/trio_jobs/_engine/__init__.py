"""The engine: `decide` turns commands into events, `fold` applies events to jobs. Pure."""
