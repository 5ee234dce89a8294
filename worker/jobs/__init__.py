"""Jobs on this host: one command each, confined, bounded, and ended with all that it started.

Owns the running of commands that the worker was ordered to run. It must not decide which job runs where.
"""
