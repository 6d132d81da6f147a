"""Floor 6: hosts. Siblings; none imports another."""
