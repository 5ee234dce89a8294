"""The command line: one file per command group.

Owns words, options, tables and exit codes. It must not decide anything that the API does not offer to everyone.
Everything heavy is imported inside commands, so that `bitdew --help` answers at once.
"""
