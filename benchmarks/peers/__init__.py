"""One file for each contestant: a process that does the same work as the others and reports how long it took.

Each is started as `python -m benchmarks.peers.NAME ACTION ARGUMENTS` by the Python of its environment, so these files
import only the standard library, `common`, and the package that they measure.

The work: submit jobs one after another as fast as they are accepted, with a number as payload, to one worker whose
handler does nothing, and wait until the last one is done. The clock starts before the first submit, after a tenth as
many jobs to warm up.
"""
