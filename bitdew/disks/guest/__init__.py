"""The scripts that run inside a disk of our own making. They are shell, for they run before anything else is there."""
