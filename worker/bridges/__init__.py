"""Bridges to other systems on the same host: plug-ins of ours that tell XtremWeb-HEP, a webhook or a command.

`settings` is what the owner says of them; `making` makes the plug-in of each; `desk` shows and changes them.
"""
