"""Measurements. ``python -m benchmarks`` prints each as a ratio against a peer that ran interleaved with it.

Machines are noisy, so nothing here is a test: the two sides of a comparison take turns within one run, the ratio of
each turn is taken, and the median of the ratios is what counts. An fsync probe beside them says what the disk did.
"""
