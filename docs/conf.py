"""Sphinx's settings. Nothing is fetched: no intersphinx, no fonts, no scripts from elsewhere."""

import tomllib
from pathlib import Path

_project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]

project = "BitDew"
author = copyright = "The BitDew developers"
version = release = _project["version"]
extensions = ["myst_parser"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"BitDew {release}"
html_show_sourcelink = False
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]
# States are drawn as Mermaid text: a forge renders it, and as plain text it is still read.
suppress_warnings = ["misc.highlighting_failure"]
highlight_language = "text"
