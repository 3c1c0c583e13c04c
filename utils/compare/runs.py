"""Finding the results of runs, and which of them may stand in one table and in one row."""

import json
import os
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from datasets import parse_domain
from utils.compare.paper_table import Groups
from utils.errors import UserError

# Settings in which two runs may differ and still be repetitions of one another: where things are,
# how often something is written, what is evaluated.
NUISANCE = re.compile(
    r"SEED|UNKNOWN_SETTINGS|EXPERIMENT|DEVICE|WORKERS|LOG\..*|VALID\..*|DATASET\.(ROOT|VALIDATION|.*_DIR)"
)
# What has to agree for two numbers of a domain to be comparable, in words.
SAME = {
    "label_space": "label space",
    "label_map": "label map",
    "list_sha256": "list of files",
    "images": "number of images",
}
MOST_LETTERS = 48  # of a row's name that lists settings
# What is read of results, and of each domain in them.
KEYS = {"step": int, "protocol": str, "unseen": list, "domains": dict, "settings": dict}
DOMAIN_KEYS = {"title": str, "means": dict, "iou": dict, "precision": dict, "recall": dict}


def group_runs(paths: list[Path], names: list[str] | None = None) -> Groups:
    """Read the results below `paths`; return {row name: [(results.json, results), …]}.

    Runs that differ in NUISANCE settings alone are one row, and so are those of which each begins
    from the run of its own seed (INIT). Rows are named by, in this order:
    `names`; the method; the method plus the settings that differ; the common prefix of the
    experiments. What chose a checkpoint, if it is not of the last step, follows the name.

    UserError for what holds no results, for a run given twice, for runs whose numbers cannot be
    compared (another protocol, label map or list of files), and for another number of names.
    """
    files = [file for path in paths for file in find_results(path)]
    runs = [(file, read_results(file)) for file in files]
    refuse_incomparable(runs)
    by_kind: dict[tuple[str, str], list] = defaultdict(list)
    for file, results in runs:
        key = {k: v for k, v in results["settings"].items() if not NUISANCE.fullmatch(k)}
        if key.get("INIT"):
            seed = rf"(?<!\d){results['settings'].get('SEED')}(?!\d)"
            key["INIT"] = re.sub(seed, "SEED", str(key["INIT"]))
        by_kind[json.dumps(key, sort_keys=True), selection(results)].append((file, results))
    settings = [json.loads(key) for key, _ in by_kind]
    groups: Groups = {}
    for own, ((_, chosen), members) in zip(settings, by_kind.items(), strict=True):
        suffix = f", {chosen}" if chosen else ""
        name, prefix = settings_name(own, settings) + suffix, experiments_name(members)
        if len(name) > MOST_LETTERS and prefix and prefix + suffix not in groups:
            name = prefix + suffix
        groups |= split_by_checkpoint(name, members)
    return renamed(groups, names) if names else groups


def settings_name(own: dict[str, Any], settings: list[dict[str, Any]]) -> str:
    """Name a row by its method, and by the settings in which rows of the same method differ."""
    rivals = [other for other in settings if other["METHOD"] == own["METHOD"]]
    differing = [key for key in own if any(other.get(key) != own[key] for other in rivals)]
    return ", ".join([own["METHOD"], *(f"{key} {own[key]}" for key in differing)])


def experiments_name(runs: list[tuple[Path, dict[str, Any]]]) -> str:
    """Name a row by the common prefix of its experiments; "" if there is none that is short."""
    names = [results["settings"].get("EXPERIMENT") or file.parent.name for file, results in runs]
    prefix = os.path.commonprefix(names).rstrip("_-. ")
    return prefix if len(prefix) < MOST_LETTERS else ""


def renamed(groups: Groups, names: list[str]) -> Groups:
    """Return the rows by other names; UserError unless there is one for each, and no two equal."""
    if len(names) != len(groups):
        rows = "; ".join(groups)
        raise UserError(f"{len(names)} names for {len(groups)} rows, which need one each: {rows}")
    if len(set(names)) < len(names):
        raise UserError(f"two rows would have one name: {', '.join(names)}")
    return dict(zip(names, groups.values(), strict=True))


def selection(results: dict[str, Any]) -> str:
    """Say by what the checkpoint of a run was chosen; nothing for its last step."""
    choice = results.get("chosen_by")
    if choice is None:
        return ""
    return f"best on {choice['domain']}" + (" (oracle)" if choice["oracle"] else "")


def find_results(path: Path) -> list[Path]:
    """Return the results.json that a path means: the file, that of a folder, or those of the
    folders in it; UserError if there is none."""
    if path.is_file():
        return [path]
    if (path / "results.json").is_file():
        return [path / "results.json"]
    found = sorted(path.glob("*/results.json"))
    if not found:
        raise UserError(
            f"no {path / 'results.json'}: {path} is no finished run, and holds no results of "
            "valid.py"
        )
    return found


def read_results(file: Path) -> dict[str, Any]:
    """Read a results.json; UserError if it is none. Domains are named without their split where
    that is val."""
    try:
        results = json.loads(file.read_text())
    except ValueError as error:
        raise UserError(f"{file} is no JSON: {error}") from None
    except OSError as error:
        raise UserError(f"cannot read {file}: {(error.strerror or str(error)).lower()}") from None
    if (
        not _holds(results, KEYS)
        or not _holds(results["settings"], {"METHOD": str, "SEED": int})
        or not results["domains"]
        or not all(_holds(result, DOMAIN_KEYS) for result in results["domains"].values())
    ):
        raise UserError(f"{file} does not hold the results of a run")
    results["domains"] = {plain_name(d): result for d, result in results["domains"].items()}
    results["unseen"] = [plain_name(d) for d in results["unseen"]]
    return results


def _holds(content: Any, kinds: dict[str, type]) -> bool:
    """Whether content is a mapping with values of these types."""
    return isinstance(content, dict) and all(
        isinstance(content.get(key), kind) for key, kind in kinds.items()
    )


def plain_name(domain: str) -> str:
    """Return NAME or NAME:SPLIT of a domain, without the split where that is val."""
    name, split = parse_domain(domain)
    return name if split == "val" else f"{name}:{split}"


def refuse_incomparable(runs: list[tuple[Path, dict[str, Any]]]) -> None:
    """Raise UserError, naming both runs, if numbers were not measured in the same way."""
    first_of: dict[str, tuple[Path, dict[str, Any]]] = {}
    for file, results in runs:
        known, first = runs[0]
        if results["protocol"] != first["protocol"]:
            raise UserError(
                f"{known} was evaluated with the protocol {first['protocol']!r} and {file} with "
                f"{results['protocol']!r}; evaluate one of them again (valid.py)"
            )
        for domain, result in results["domains"].items():
            known, other = first_of.setdefault(domain, (file, result))
            for key, name in SAME.items():
                if result.get(key) != other.get(key):
                    raise UserError(
                        f"{known} and {file} were evaluated on {domain} with another {name} "
                        f"({other.get(key)} and {result.get(key)}); their numbers cannot be "
                        "compared; evaluate one of them again (valid.py)"
                    )


def split_by_checkpoint(name: str, runs: list[tuple[Path, dict[str, Any]]]) -> Groups:
    """Return the rows that runs of the same settings make: one, or one for each kind of checkpoint.

    Runs are repetitions if their seeds differ and their steps agree. If not, those of one file name
    are (`best.pth` is of another step in each run). UserError for the same seed twice.
    """
    steps = {results["step"] for _, results in runs}
    if len(steps) == 1 and not _repeated(runs):
        return {name: runs}
    by_file: dict[str, list] = defaultdict(list)
    for run in runs:
        by_file[run[1].get("checkpoint", "last.pth")].append(run)
    for members in by_file.values():
        if twice := _repeated(members):
            raise UserError(
                f"{twice[0]} and {twice[1]} are of the same settings, seed and checkpoint name; "
                "give one of them"
            )
    if len(by_file) == 1:
        return {name: runs}
    return {f"{name}, {file}": members for file, members in by_file.items()}


def _repeated(runs: list[tuple[Path, dict[str, Any]]]) -> list[Path]:
    """Return the files of the first seed that occurs more than once, if there is one."""
    by_seed: dict[int, list[Path]] = defaultdict(list)
    for file, results in runs:
        by_seed[results["settings"]["SEED"]].append(file)
    return next((files for files in by_seed.values() if len(files) > 1), [])
