"""Scripts with this folder in PYTHONPATH find it before matplotlib: as if that were missing."""

raise ImportError("left out", name="matplotlib")
