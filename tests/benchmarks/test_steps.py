"""Forms of a training step, and whose operations the profiler's times are."""

import argparse

import pytest
import torch
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks import profile_step, train_step, tuning
from utils.errors import UserError

SIZE = {"trunk": "resnet_mini", "crop": 64, "batch": 2, "classes": 5}


def test_floor_and_step_are_timed_and_compared():
    options = argparse.Namespace(
        forms=["floor", "srha"], rounds=1, no_memory=True, decoder="deeplabv3plus", crop=64
    )
    found = train_step.measure(options, "resnet_mini", 2, 5)
    floor, srha = train_step.rows_of(found)
    assert floor[:4] == ["resnet_mini", "2", "5", "floor"] and floor[5] == "1.00"
    ratio = found["seconds"]["srha"] / found["seconds"]["floor"]
    assert srha[3] == "srha" and srha[5] == f"{ratio:.2f}" and srha[7] == "-"


@pytest.mark.parametrize(
    "form, decoder", [("without SRMM", "deeplabv3plus"), ("floor", "mask2former")]
)
def test_unknown_form(form, decoder):
    with pytest.raises(UserError, match=f"unknown form '{form}'.*baseline"):
        train_step.build_step(form, decoder=decoder, **SIZE)


def test_gradients_count_where_their_operation_does():
    x, kernel = torch.randn(2, 8, 32, 32), torch.randn(8, 8, 3, 3, requires_grad=True)
    with profile(activities=[ProfilerActivity.CPU]) as measured:
        with record_function("part"):
            y = torch.nn.functional.conv2d(x, kernel, padding=1)
        y.sum().backward()
    events = measured.events()
    seconds = profile_step.measure(events, ["part"])
    assert "conv" not in seconds
    assert sum(seconds.values()) == pytest.approx(sum(e.self_cpu_time_total for e in events) / 1e6)
    seconds = profile_step.measure(events, [])
    assert seconds["conv"] > 0 and "part" not in seconds


def test_what_a_tuning_costs():
    """Frozen weights keep nothing for the trunk, and a tuned teacher has none of its own."""
    size = ("plain", "dinov2_mini", 64, 2)
    frozen, soma, full = (tuning.sizes_of(form, *size) for form in ("frozen", "soma", "full"))
    assert frozen["kept"] < min(soma["kept"], full["kept"])
    srha, copied = (tuning.sizes_of(form, *size) for form in ("srha, soma", "srha, full"))
    assert srha["states"] == soma["states"] and srha["kept"] == 2 * soma["kept"]
    # The teacher of a trunk that is trained whole: layers 1 to 4 once more; layer 0 has no moments.
    method = tuning.build("srha, full", *size[:2], "cpu")
    teacher, stem = (
        sum(p.nbytes for p in (*part.parameters(), *part.buffers()))
        for part in (method.teacher, method.trunk.layer0)
    )
    assert copied["states"] == full["states"] + teacher - 3 * stem
    row = tuning.row_of({"form": "soma", "seconds": 2.0, "small": soma, "large": full}, 1.0)
    assert row[0] == "soma" and row[3] == "2.00" and row[5] == "-" and len(row) == 10
