"""Floor 6: stores. Siblings; none imports another."""
