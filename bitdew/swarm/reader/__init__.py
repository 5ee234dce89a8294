"""Who reads parts of a content from a swarm, and keeps none of it: pieces on demand, in memory, verified.

Owns BitTorrent's asking side, so that what is asked for comes first and nothing else comes at all: libtorrent serves
deadlines once a second, and wants a file. Peers are libtorrent's, and the seeder's. It never offers anything.
"""
