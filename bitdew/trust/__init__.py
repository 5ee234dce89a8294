"""Who is who, and what is signed: the private CA, certificates, join tokens, TLS contexts and image records.

The one place that imports `cryptography`. It must not know HTTP routes, databases or swarms: it turns keys into
certificates, certificates into subjects, and bytes into records that a publisher answers for. Every function that
depends on the time has it handed in.
"""
