"""The volunteer's daemon: it holds copies of data and runs machines from them, as the scheduler orders.

Owns one host: its folder of copies, its machines and what it tells the service. It must not decide where data or
machines should be, and it must not import the catalog or the scheduler: they meet on the wire alone.
"""
