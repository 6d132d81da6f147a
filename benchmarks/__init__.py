"""Benchmarks: one command for each question, with a table as the answer.

    ./run bench                     all questions, in under 15 minutes; writes benchmarks/results/
    ./run bench throughput latency  only these
    ./run bench --quick             everything once with small numbers, to check that it works

`frame` has what all questions share (rounds, medians, ratios, tables). `peers/` has one file for each contestant, which
runs in a process of its own. `environment` installs other queues into environments beside this project.
"""
