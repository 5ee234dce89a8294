"""What goes along with the calls of a program to the hosts that run them.

Owns both ends of a call's result. It runs where nothing of BitDew is installed, with whatever Python is there: it
imports the standard library alone.
"""
