"""How a host leaves: what only it has is handed over, its machines end, and nothing of the worker is left here."""
