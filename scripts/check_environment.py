"""Exit with 0 if the running Python meets a requirements file, else name the lines that fail."""

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def lacking(path: Path) -> list[str]:
    """Return the lines of a requirements file that the running Python does not meet."""
    missing = []
    for line in path.read_text().split("\n"):
        line = line.split("#")[0].strip()
        if line.startswith("-r "):
            missing += lacking(path.parent / line[3:])
        elif line and not fits(line):
            missing.append(line)
    return missing


def fits(line: str) -> bool:
    """Tell whether the running Python meets one requirement, such as `torch>=2.11,<3`."""
    try:
        # The packages that are asked for bring it; without it they are not there.
        from packaging.requirements import Requirement

        requirement = Requirement(line)
        return requirement.specifier.contains(version(requirement.name), prereleases=True)
    except (ImportError, PackageNotFoundError):
        return False


if __name__ == "__main__":
    absent = lacking(Path(sys.argv[1]))
    if absent:
        print(f"not there: {', '.join(absent)}")
    sys.exit(1 if absent else 0)
