"""Bootable disks of our own making: built from Debian's packages and Python's wheels, by recipes that are data.

Owns recipes, the fetching of what they name, and the disk's layout. Nothing here needs root, a loop device or a mount,
and the same inputs give the same bytes. It must not know services, hosts or hypervisors.
"""
