"""Where the worker's settings come from: what was said by commands, the environment, a file, and defaults."""
