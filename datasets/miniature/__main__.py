"""`python -m datasets.miniature --out DIR`: write the miniature benchmark, or a contact sheet."""

import argparse
import difflib
import sys
import time

from .domains import DOMAINS, STANDARD
from .layouts import LAYOUTS
from .sheet import contact_sheet
from .write import NAMES, MiniatureError, write_domains


def _arguments(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m datasets.miniature", description=__doc__)
    parser.add_argument("--out", metavar="DIR", help="folder that gets one folder per domain")
    parser.add_argument("--domains", nargs="+", metavar="NAME", default=list(STANDARD),
                        help=f"some of: {' '.join(NAMES)}; all is all with labels "
                        f"(default: {' '.join(STANDARD)})")  # fmt: skip
    parser.add_argument("--layout", choices=LAYOUTS, default="default",
                        help="file tree of today's official downloads, or that of the published "
                        "code (default: the more common one of each domain)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, help="processes (default: one per CPU)")
    parser.add_argument("--train", type=int, metavar="N", help="training images per domain")
    parser.add_argument("--val", type=int, metavar="N", help="validation images per domain")
    parser.add_argument("--sheet", metavar="FILE.png", help="also draw a contact sheet")
    return parser.parse_args(argv)


def _known(names: list[str]) -> list[str]:
    by_lower = {name.lower(): name for name in NAMES}
    known = []
    for name in names:
        if name.lower() == "all":
            known += DOMAINS
            continue
        if name.lower() not in by_lower:
            close = difflib.get_close_matches(name.lower(), by_lower, 1, 0.3)
            hint = f"did you mean {by_lower[close[0]]}?" if close else "no such name."
            raise MiniatureError(f"unknown domain '{name}': {hint} There are {', '.join(NAMES)}")
        known.append(by_lower[name.lower()])
    return list(dict.fromkeys(known))


def main(argv: list[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    args = _arguments(argv)
    try:
        if not args.out and not args.sheet:
            raise MiniatureError("say where to write: --out DIR, or --sheet FILE.png")
        if args.workers is not None and args.workers < 1:
            raise MiniatureError(f"--workers must be at least 1, not {args.workers}")
        if args.seed < 0:
            raise MiniatureError(f"--seed must not be negative, not {args.seed}")
        domains = _known(args.domains)
        if args.out:
            start = time.monotonic()
            written = write_domains(
                args.out,
                domains,
                args.seed,
                args.workers,
                args.train,
                args.val,
                layout=args.layout,
            )
            for name, (folder, new) in written.items():
                print(f"{name:<14}{folder}{'' if new else '   (already there)'}")
            print(f"done in {time.monotonic() - start:.0f} s")
        if args.sheet:
            contact_sheet(domains, seed=args.seed).save(args.sheet)
            print(f"contact sheet: {args.sheet}")
    except (MiniatureError, OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
