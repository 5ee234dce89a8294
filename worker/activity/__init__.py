"""When this host works and when it leaves its owner alone: rules, what is seen of the host, and what follows.

`rules` and `schedule` decide and are pure; `senses` and its probes look at the host; `guard` puts the verdict into
force.
"""
