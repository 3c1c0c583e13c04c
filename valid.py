"""Judge a checkpoint on any number of domains; the checkpoint knows its network.

    python valid.py --snapshot logs/my_run/last.pth --val_dataset cityscapes bdd100k mapillary

Prints a table and writes results.txt, results.json and results.csv. A checkpoint of the published
SRHA or RobustNet code does not know its network and source: name them with --method, --trunk and
--dataset.
"""

from pathlib import Path

from utils.checkpoint import build_method, file_hash, load_checkpoint, resolve
from utils.cli import parse_valid
from utils.distributed import runtime
from utils.errors import UserError, run_script
from utils.evaluation import evaluate, open_domain
from utils.results import gather, table, write


def main() -> None:
    """Load the checkpoint, judge it on each domain, write the results."""
    snapshot, out, network, overrides = parse_valid()
    path = Path(snapshot)
    state = load_checkpoint(path)
    if state.get("published"):
        unknown = {"DATASET.LABEL_SPACE": "cityscapes19", "DATASET.SOURCE": []}
        state["settings"] = unknown | network
    cfg = resolve(state["settings"] | overrides)
    if not cfg.DATASET.VALIDATION:
        raise UserError("no domain to judge on; name some with --val_dataset")
    with runtime(cfg) as here:
        method, space = build_method(cfg, state)
        method.to(here.device, memory_format=here.memory_format)
        domains = {name: open_domain(name, cfg, space) for name in cfg.DATASET.VALIDATION}
        results = {
            name: evaluate(method, domain, space, cfg, here) for name, domain in domains.items()
        }
        if here.is_main:
            summary = gather(results, cfg, state["step"]) | {"checkpoint_sha256": file_hash(path)}
            folder = Path(out) if out else path.parent / "valid"
            write(summary, folder)
            print(f"{table(summary)}\n\nwritten to {folder}")


if __name__ == "__main__":
    run_script(main)
