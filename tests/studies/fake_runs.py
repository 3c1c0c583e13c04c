"""What tests of studies share."""

from pathlib import Path

ROOT = Path(__file__).parents[2]
TWO = {
    "title": "Two methods",
    "variants": {"baseline": {"METHOD": "baseline"}, "SRHA": {"METHOD": "srha"}},
}


def calls() -> list[str]:
    """Return what the fake in place of train.py was called with."""
    return Path("calls.txt").read_text().splitlines() if Path("calls.txt").exists() else []
