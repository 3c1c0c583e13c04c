"""The check of a GPU: what it says of its checks, and that it goes through on a CPU."""

import json
import re
import sys
import time

import pytest
import torch

from benchmarks.networks import networks
from benchmarks.on_gpu import __main__ as script
from benchmarks.on_gpu import loading, loops, smoke, step
from benchmarks.on_gpu.checks import TINY, Check, DoesNotApply, Part, run_parts
from network.methods import METHODS
from network.regions import alignment, statistics
from network.regions.alignment import HierarchicalAlignment
from network.regions.rearrangement import SemanticRearrangement
from network.tuning import TUNINGS
from utils.chunks import ELEMENTS
from utils.errors import UserError

ON = (0.4, 0.6, 0.8, 1.0)


def test_what_is_said_of_checks():
    def fails(left):
        raise ValueError("no such thing")

    def no_use(left):
        raise DoesNotApply("there is one device")

    def forever(left):
        time.sleep(60)

    def figures(left):
        return {"left": left()}

    first = [Check("a", figures), Check("b", fails), Check("c", no_use), Check("d", forever)]
    parts = [
        Part("one", 0.5, lambda sizes: [*first, Check("e", figures)]),
        Part("two", 0.5, lambda sizes: [Check("f", figures)]),
    ]
    found = {one["check"]: one for one in run_parts(parts, TINY, seconds=10)}
    outcomes = {name: one["outcome"] for name, one in found.items()}
    assert outcomes == {"a": "ok", "b": "failed", "c": "does not apply", "d": "broken off",
                        "e": "left out", "f": "ok"}  # fmt: skip
    place = r"\(checks.py line \d+, test_on_gpu.py line \d+\)"
    assert re.fullmatch(f"ValueError: no such thing {place}", found["b"]["reason"])
    assert found["c"]["reason"] == "there is one device" and found["e"]["part"] == "one"
    assert all(1 < found[name]["figures"]["left"] < 5 for name in "af")


def test_every_method_trunk_family_and_tuning_is_in_the_smoke_test():
    every = networks()
    assert len(set(every)) == len(every)
    assert {method for method, *_ in every} == set(METHODS)
    assert {(m, t) for m, _, trunk, t in every if trunk == "dinov2_mini"} >= {
        (m, t) for m in ("srha", "mic", "pinmem") for t in TUNINGS
    }
    assert len(list(smoke.checks(TINY._replace(every=1)))) == len(every)


def test_loops_compute_what_our_forms_do(monkeypatch):
    torch.manual_seed(3)
    labels = torch.randint(0, 4, (2, 12, 10)).repeat_interleave(2, 1).repeat_interleave(2, 2)
    labels[0, :6] = 255
    features = torch.randn(2, 5, 12, 10)
    # Equal weights in both.
    alike = torch.distributions.Dirichlet.mean.fget
    monkeypatch.setattr(torch.distributions.Dirichlet, "sample", alike)
    srm = SemanticRearrangement(4)
    srm.draw = smoke.evenly
    looped = loops.LoopRearrangement(2**-6)(features, labels)
    torch.testing.assert_close(looped, srm(features, labels), rtol=1e-4, atol=1e-5)

    student = {i: torch.randn(4, 5, 12, 10) for i in range(1, 5)}
    teacher = {i: torch.randn(2, 5, 12, 10) for i in range(1, 5)}
    ours = HierarchicalAlignment(4, ON, ON, ON)
    expected = ours(student, teacher, labels)
    ours.__class__ = loops.LoopAlignment
    for name, value in ours(student, teacher, labels).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-5)


@pytest.fixture
def rounded():
    """Products of float32 matrices may be rounded, until the test ends."""
    torch.set_float32_matmul_precision("high")
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("elements", [10**9, 700, 40])
def test_a_product_with_the_labels_gives_the_sums_of_a_scatter(monkeypatch, rounded, elements):
    """With differences taken of all rows at once, and of parts that end within an image."""
    generator = torch.Generator().manual_seed(5)
    features, student = (
        torch.randn(images, 6, 12, 15, dtype=torch.float64, generator=generator)
        for images in (3, 6)
    )
    student.requires_grad_()
    labels = torch.randint(0, 4, (3, 12, 15), generator=generator)
    labels[0, :6] = 255
    regions = statistics.find_regions(labels, (12, 15), 4)
    monkeypatch.setitem(ELEMENTS, "cpu", elements)

    def found():
        terms = alignment.align(student, features, regions)
        gradient = torch.autograd.grad(sum(terms.values()), student)
        few = alignment.align(student, features, regions, ("global", "regional"))
        return [*terms.values(), *gradient, *few.values()]

    scattered = found()
    precisions, bmm = [], torch.bmm

    def multiplied(*given):
        precisions.append(torch.get_float32_matmul_precision())
        return bmm(*given)

    monkeypatch.setattr(torch, "bmm", multiplied)
    with step.forced("product"):
        for product, scatter in zip(found(), scattered, strict=True):
            torch.testing.assert_close(product, scatter, rtol=1e-12, atol=1e-12)
    assert set(precisions) == {"highest"} and torch.get_float32_matmul_precision() == "high"


def test_the_first_networks_have_every_choice():
    """Where the smoke test runs out of time, it has seen all of them."""
    every = networks()
    order = smoke.widely(every)
    assert sorted(order) == sorted(every)
    for place in range(4):
        assert {names[place] for names in order[:24]} == {names[place] for names in every}


def test_a_wrong_gradient_fails_parity(monkeypatch):
    gradients, calls = smoke.gradients, []

    def wrong(network, batch, device, dtype):
        losses, found = gradients(network, batch, device, dtype)
        calls.append(dtype)
        return losses, found * (1 + 1e-6 * (len(calls) == 2))

    monkeypatch.setattr(smoke, "gradients", wrong)
    with pytest.raises(ArithmeticError, match="gradients in float64 differ by 1.0e-06"):
        smoke.parity("baseline", "resnet_mini")


def test_the_rehearsal(tmp_path, monkeypatch, capsys):
    """All parts, with few networks and without the longest of each."""
    monkeypatch.setattr(script, "TINY", TINY._replace(every=200, classes=(19,), steps=2))
    parts = script.parts

    def fewer(data):
        kept = [part for part in parts(data) if part.name != "loading"]
        first = Part("loading", 0.1, lambda sizes: list(loading.checks(sizes))[:1])
        return [*kept, first]

    monkeypatch.setattr(script, "parts", fewer)
    out = tmp_path / "found.json"
    words = ["on_gpu", "--rehearse", "--minutes", "60", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", words)
    script.main()
    found = json.loads(out.read_text())
    assert found["rehearsal"] and found["machine"] and found["versions"]["torch"]
    outcomes = {(one["part"], one["check"]): one["outcome"] for one in found["checks"]}
    assert set(outcomes.values()) == {"ok", "does not apply"}
    run = {
        ("step", "time of a step"),
        ("step", "share of regions"),
        ("recipes", "train_r50os16_gtav_srha"),
        ("parity", "deterministic: dacs"),
        ("classes", "K = 19, bfloat16"),
        ("loading", "colours in the device"),
    }
    assert all(outcomes[check] == "ok" for check in run)
    assert outcomes["training", "CamVid → IDD-Lite: srha"] == "does not apply"
    table = capsys.readouterr().out
    assert "| smoke | 5 networks | ok |" in table and "CUDA graphs need a GPU" in table
    waits = next(one for one in found["checks"] if one["part"] == "loading")["figures"]
    assert 0 <= float(waits["data wait, %"]) <= 100 and waits["images/s"] > 0


def test_the_same_command_goes_on(tmp_path, monkeypatch, capsys):
    ran, well = [], []

    def check(name, fails):
        def run(left):
            ran.append(name)
            if fails and not well:
                raise ValueError("not yet")
            return {"ms": 1}

        return Check(name, run)

    parts = [
        Part("one", 0.5, lambda sizes: [check("a", False), check("b", True)]),
        Part("two", 0.5, lambda sizes: [check("c", True)]),
    ]
    monkeypatch.setattr(script, "parts", lambda data: parts)
    out = tmp_path / "found.json"

    def start(*words):
        monkeypatch.setattr(sys, "argv", ["on_gpu", "--rehearse", "--out", str(out), *words])
        script.main()
        return json.loads(out.read_text())

    with pytest.raises(SystemExit):
        start()
    found = json.loads(out.read_text())
    for one in found["checks"]:
        one["code"] = "older"
    out.write_text(json.dumps(found | {"note": "stays"}))
    well.append(True)
    with pytest.raises(SystemExit):
        start("--keep", "--parts", "one")
    found = json.loads(out.read_text())
    assert ran == ["a", "b", "c", "b"] and found["note"] == "stays"
    assert [one["outcome"] for one in found["checks"]] == ["ok", "ok", "failed"]
    assert [one["code"] for one in found["checks"]] == ["older", found["code"], "older"]
    start("--keep")
    capsys.readouterr()
    assert {one["outcome"] for one in start("--keep")["checks"]} == {"ok"} and ran[4:] == ["c"]
    assert capsys.readouterr().out.count("| ok |") == 3

    for name, other in (("machine", "another"), ("versions", {}), ("rehearsal", False)):
        out.write_text(json.dumps(found | {name: other}))
        with pytest.raises(UserError, match=f"--keep: {name} of .*found.json: .*, here"):
            start("--keep")
    for text in ("[]", "{", '{"checks": [1]}'):
        out.write_text(text)
        with pytest.raises(UserError, match="has no checks"):
            start("--keep")
    out.unlink()
    with pytest.raises(UserError, match="is not there"):
        start("--keep")


def test_wrong_words(monkeypatch):
    for words, said in (
        (["--parts", "smok"], "unknown part 'smok'.*did you mean smoke"),
        ([], "torch sees no GPU; --rehearse"),
        (["--minutes", "0"], "--minutes 0: more than 0"),
    ):
        monkeypatch.setattr(script, "ON_GPU", False)
        monkeypatch.setattr(sys, "argv", ["on_gpu", *words])
        with pytest.raises(UserError, match=said):
            script.main()
