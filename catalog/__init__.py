"""The catalog: the record of data, disks, identities, and the repository that first seeds them.

Owns the database and its migrations, join tokens and certificates, uploads and the repository's files. It knows nothing
of hosts' states or plans: the scheduler is told which datum changed, and asks.
"""
