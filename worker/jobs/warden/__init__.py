"""The process that runs one job's command: it bounds it, watches it, and ends it with all that it started.

Owns everything that happens beside the worker, so that a job is bounded whatever becomes of the worker. It is started
for each job, so that its start is what a short job costs: the modules here import neither the rest of the product nor
`typing`, `dataclasses`, `enum` or `json`, each of which takes longer than the interpreter itself.
"""
