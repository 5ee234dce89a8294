"""The words that every room shares: data, attributes, requirements, states, orders and errors.

Owns the vocabulary of the design and the rules that need nothing but the standard library. It must not
import an I/O library, read a clock, touch a file or know which room uses it.
"""
