"""Jobs: submitted, matched with hosts, run there, their results taken in.

What happens to a job is decided by two pure parts: `judging` says what its runs make of it, and `matching` which host
a run is given to. `matchmaker` is the loop around them, `runs` hears the hosts, `desk` people, and `results` turns what
a run left into data.
"""
