"""The whole grid in one process, a clock that can be pushed ahead, and a hypervisor that fails on demand.

Product code, for tests and demonstrations of whatever is built on BitDew. Its parts are the real ones: the
same service, workers, database, TLS and swarms; only machines are pretended.
"""
