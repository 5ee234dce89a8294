"""Moving bytes: closed BitTorrent v2 swarms over TLS, as asyncio sees them.

The one room that imports libtorrent. It owns sessions, transfers and the one form of a .torrent that this service
uses. It must not know what the bytes are for, who decides to move them, or where certificates come from.
"""
