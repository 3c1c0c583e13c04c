"""scripts/check_environment.py: which lines of a requirements file the running Python lacks."""

import runpy
import sys
from pathlib import Path

import pytest

lacking = runpy.run_path(str(Path(__file__).parent.parent / "scripts/check_environment.py"))[
    "lacking"
]


@pytest.mark.parametrize(
    "line, there",
    [
        ("numpy>=1.0", True),
        ("numpy>=1.0,<99.1", True),
        ("numpy>=99.0", False),
        ("numpy>=0.9,<1.0", False),
        ("no-such-package>=1.0", False),
        ("# nothing is asked for", True),
    ],
)
def test_bounds_on_both_sides(tmp_path, line, there):
    (tmp_path / "inner.txt").write_text(line + "\n")
    (tmp_path / "outer.txt").write_text("-r inner.txt\npytest>=1.0\n")
    assert lacking(tmp_path / "outer.txt") == ([] if there else [line])


def test_nothing_is_there_without_packaging(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "packaging.requirements", None)
    (tmp_path / "all.txt").write_text("numpy>=1.0\npytest>=1.0\n")
    assert lacking(tmp_path / "all.txt") == ["numpy>=1.0", "pytest>=1.0"]
