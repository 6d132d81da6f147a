"""The runtime of a queue: its parts, its loops, and the public class `Queue`."""
