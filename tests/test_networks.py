"""A line in a registry is all it takes to be tested; pages that say how to write one."""

import runpy
from pathlib import Path

import pytest

from benchmarks import networks as small
from network.decoders import DECODERS, Decoder
from network.methods import METHODS, Method, method_class
from network.trunks import TRUNKS, Trunk
from tests import networks


def test_the_tests_of_contracts_find_what_is_registered(monkeypatch):
    monkeypatch.setitem(METHODS, "toy", "tests.network.toy_methods:Toy")
    monkeypatch.setitem(DECODERS, "second", DECODERS["mask2former"])
    monkeypatch.setitem(TRUNKS, "patches16", "tests.network.toy_trunks:patches")
    found = runpy.run_path(small.__file__) | runpy.run_path(networks.__file__)
    assert {("toy", decoder) for decoder in DECODERS} < set(found["PAIRS"])
    assert ("spc", "second") in found["REFUSED"]
    contained = found["CONTAINED"]
    for position, names in enumerate((METHODS.keys() - contained.keys(), DECODERS.keys())):
        assert {pair[position] for pair in found["COVERING"]} == names
    for inner, outer in contained.items():
        steps = {method_class(name).training_losses for name in (inner, outer)}
        assert len(steps) == 1, "a step of another code is no part of it"
    assert len(found["COVERING"]) <= len(METHODS) + len(DECODERS)
    assert "patches16" in found["FAMILIES"] and len(found["FAMILIES"]) < len(TRUNKS)
    assert found["takes"]("toy", "resnet18") and not found["takes"]("toy", "patches16")


@pytest.mark.parametrize(("page", "contract"), [
    ("adding_a_method", Method), ("adding_a_trunk_or_decoder", Decoder),
    ("adding_a_trunk_or_decoder", Trunk),
])  # fmt: skip
def test_a_page_has_every_attribute(page, contract):
    text = (Path(__file__).parent.parent / f"docs/{page}.md").read_text()
    names = {name for name in vars(contract) if not name.startswith("_")} - {"forward", "pyramid"}
    assert not [name for name in names if f"`{name}" not in text and f".{name}" not in text]
