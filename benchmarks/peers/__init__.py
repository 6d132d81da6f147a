"""One file for each contestant: a process that does the same work as all others, and says how long it took.

Each is started as `python -m benchmarks.peers.NAME ACTION ARGUMENTS`, by the Python of the environment it lives in, so
these files import nothing but the standard library, `common`, and the one package they are about.

The work: submit jobs one after another as fast as they are taken, with a number as payload, to one worker, whose
handler does nothing; until the last is done. The clock starts before the first submit, after a tenth as many jobs to
warm up.
"""
