"""Looking over a host for its volunteer: what works, what does not, and what to do about it."""
