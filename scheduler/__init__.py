"""The scheduler: which hosts hold which data and run which machines.

Owns hosts' liveness, placements, orders, deployments and machines, and the sync endpoint. Decisions are made
in `planner`, which is pure; everything else here gathers facts for it and carries out what it says.
"""
