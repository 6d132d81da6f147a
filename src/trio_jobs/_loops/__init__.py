"""Floor 6: loops, one a file: `run` around `run_once`. Siblings; none imports another."""
