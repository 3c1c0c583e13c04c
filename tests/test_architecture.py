"""Imports go one way: a module may import its own layer and lower ones."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# From high to low. A module belongs to the longest name here that it begins with.
LAYERS = [
    {"tests"},
    {"benchmarks", "studies", "scripts"},
    {"train", "valid", "predict"},
    {"datasets.pseudo_target.report"},
    {"utils.report"},
    {
        *("utils.compare", "utils.styles", "utils.balance", "utils.restyling_picture"),
        *(
            "utils.predict",
            "utils.export",
            "datasets.check",
            "datasets.pseudo_target",
            "network.pretrain_objects",
        ),
    },
    {"utils.evaluate"},
    {"utils.engine", "utils.draw"},
    {"network", "network.build", "network.checkpoint", "network.kept", "network.published"},
    {"network.methods"},
    {"network.self_training"},
    {"network.memory"},
    {"network.decoders", "network.inference"},
    {
        *("network.blocks", "network.clusters", "network.dictionary", "network.neutral"),
        "network.two_step",
    },
    {"network.tuning"},
    {"network.trunks", "network.regions"},
    {"loss"},
    {"datasets.miniature"},
    {"datasets"},
    {"transforms"},
    {"config"},
    {"utils"},
]
LEVEL = {name: len(LAYERS) - i for i, names in enumerate(LAYERS) for name in names}
OWN = {name.split(".")[0] for name in LEVEL}


def part_of(module: str) -> str:
    """The name in LAYERS that a module belongs to."""
    parts = module.split(".")
    names = (".".join(parts[:n]) for n in range(len(parts), 0, -1))
    return next(name for name in names if name in LEVEL)


def modules() -> dict[str, Path]:
    """The project's modules by dotted name."""
    paths = [*ROOT.glob("*.py"), *(p for name in OWN for p in (ROOT / name).rglob("*.py"))]
    names = {path: ".".join(path.relative_to(ROOT).with_suffix("").parts) for path in paths}
    return {name.removesuffix(".__init__"): path for path, name in names.items()}


def imports(path: Path, known: dict[str, Path]) -> set[str]:
    """The project's modules that a file imports, also inside functions, but not as a script."""
    tree = ast.parse(path.read_text())
    body = [node for node in tree.body if not (isinstance(node, ast.If) and "__main__" in
            ast.unparse(node.test))]  # fmt: skip
    found = set()
    for node in (inner for outer in body for inner in ast.walk(outer)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = path.relative_to(ROOT).parts[: -node.level] if node.level else ()
            origin = ".".join([*above, *filter(None, [node.module])])
            names = {f"{origin}.{alias.name}" for alias in node.names}
            found |= {name if name in known else origin for name in names}
    return {name for name in found if name.split(".")[0] in OWN}


def test_imports_go_down_the_layers():
    known = modules()
    arrows = {(m, imported) for m, path in known.items() for imported in imports(path, known)}
    upward = [f"{a} → {b}" for a, b in arrows if LEVEL[part_of(b)] > LEVEL[part_of(a)]]
    assert len(known) > 100
    assert not upward
    # Neighbours in a layer do not import each other both ways.
    parts = {(part_of(a), part_of(b)) for a, b in arrows}
    assert not [(a, b) for a, b in parts if a < b and (b, a) in parts]


def loaded_by(statement: str) -> list[str]:
    code = f"import sys; before = set(sys.modules); {statement}; print(*set(sys.modules) - before)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_a_small_loss_loads_little():
    loaded = loaded_by("import loss.cross_entropy")
    assert not {"scipy", "torchvision", "PIL"} & {name.split(".")[0] for name in loaded}
    assert len([name for name in loaded if name.split(".")[0] in OWN]) <= 5


@pytest.mark.parametrize("name", ["config", "utils.settings"])
def test_settings_load_no_torch(name):
    assert "torch" not in loaded_by(f"import {name}")
