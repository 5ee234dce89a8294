"""What the benchmarks share: real processes, peers to compare with, and reports that tell the machine's load.

It stands in a folder of its own, because every file beside this folder is a benchmark that `make bench` runs.
"""
