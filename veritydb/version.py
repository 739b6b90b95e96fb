"""The version, in the one place that the package reads it from."""

from __future__ import annotations

VERSION = "0.1.0"
SOFTWARE = f"veritydb {VERSION}"
