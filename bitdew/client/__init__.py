"""The developer's API: a client of the public HTTP interface like any other, with nothing that only it may do."""
