"""Data as files of fsspec: `bitdew://name` opens in whatever reads by it, as pandas, dask and xarray do.

>>> import fsspec
>>> with fsspec.open("bitdew://notes", "wb") as file:
...     file.write(b"0123456789")
10
>>> with fsspec.open("bitdew://notes") as file:
...     file.seek(4)
...     file.read(3)
4
b'456'
"""

from __future__ import annotations

from .filesystem import BitDewFileSystem

__all__ = ["BitDewFileSystem"]
