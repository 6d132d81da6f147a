"""Whether a person should believe that we are fast: one command for each question, a table at the end of each.

    ./run bench                     all of it, in under 15 minutes; writes benchmarks/results/
    ./run bench throughput latency  only these
    ./run bench --quick             everything once with small numbers, to see that it works; writes nothing there

`frame` is what all questions share (rounds, medians, ratios, tables); `peers/` holds one file for each contestant,
which runs in a process of its own; `environment` installs other people's queues beside this project, never into it.
"""
