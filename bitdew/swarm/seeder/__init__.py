"""The first seeder of a content: whoever has all of it, where no host has any yet.

Owns BitTorrent's sending side, so that it can choose which piece which peer hears of: what libtorrent's super-seeding
is for, without its wait of ten seconds. Peers are libtorrent's. It never fetches anything.
"""
