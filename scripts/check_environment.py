"""Exit with 0 if the running Python has what a requirements file asks for, else name what lacks."""

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def numbers(text: str) -> tuple[int, ...]:
    """Turn a version into its leading numbers: "2.11.0+cpu" → (2, 11, 0)."""
    return tuple(int(n) for n in re.match(r"[0-9.]*", text).group().strip(".").split("."))


def lacking(path: Path) -> list[str]:
    """Return the lines of a requirements file that the running Python does not meet."""
    missing = []
    for line in path.read_text().split("\n"):
        line = line.split("#")[0].strip()
        if line.startswith("-r "):
            missing += lacking(path.parent / line[3:])
        elif line:
            name, minimum, limit = re.match(r"([^<>=]+)>=([^,]+)(?:,<(.+))?", line).groups()
            try:
                own = numbers(version(name))
                fits = numbers(minimum) <= own and (limit is None or own < numbers(limit))
            except PackageNotFoundError:
                fits = False
            if not fits:
                missing.append(line)
    return missing


if __name__ == "__main__":
    absent = lacking(Path(sys.argv[1]))
    if absent:
        print(f"not there: {', '.join(absent)}")
    sys.exit(1 if absent else 0)
