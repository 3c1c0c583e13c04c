"""Which revision of the code runs."""

import subprocess
from functools import cache
from pathlib import Path


@cache
def revision() -> str:
    """Return the git commit of this project, with "+changes" where files of it differ from that;
    "unknown" without git. What it says first it says until the process ends."""
    root = Path(__file__).parent.parent

    def git(*words: str) -> str:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        if Path(git("rev-parse", "--show-toplevel")) != root.resolve():
            return "unknown"
        changes = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD")[:12] + ("+changes" if changes else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
