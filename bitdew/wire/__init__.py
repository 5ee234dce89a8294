"""The wire: request and reply models, their limits, and the two ends of HTTP.

Owns what crosses a process boundary and how it is bounded, and the translation of errors to and from HTTP. It must
not decide anything: no room's rule lives here.
"""

API_VERSION = 1
