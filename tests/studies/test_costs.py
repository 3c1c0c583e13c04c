"""What the rows of a study cost."""

import json

import pytest

from network.build import build_method
from studies.costs import added_at_inference, cost_columns
from tests.utils.results_of_runs import run_result, write_results
from utils.settings import flatten


@pytest.fixture
def finished(tmp_path, settings):
    """Return `finished(method, seed)` → (results.json, results) of a run with these settings."""

    def make(method, seed=0, **overrides):
        cfg = settings(METHOD=method, SEED=seed, DATASET__LABEL_SPACE="cityscapes19", **overrides)
        results = run_result({"cityscapes": 0.2}, method, seed, settings=flatten(cfg))
        folder = tmp_path / f"{method}{seed}{len(overrides)}"
        return write_results(folder, results) / "results.json", results

    return make


def test_speed_and_memory_of_the_log(finished):
    runs = [finished("baseline", seed) for seed in (1, 2, 3)]
    for number, (file, _) in enumerate(runs[:2]):
        speeds = [
            {"step": step, "speed/images_per_second": speed + number, "speed/memory_gib": 1 / step}
            for step, speed in ((1, 90.0), (2, 4.0), (4, 5.0))
        ]
        lines = map(json.dumps, [*speeds, {"step": 4, "mIoU/gtav": 0.5}])
        file.with_name("metrics.jsonl").write_text("\n".join(lines) + "\n")
    speed, memory, added = cost_columns({"baseline": runs})
    assert (speed.cells[0].values, speed.cells[0].runs) == ({1: 5.0, 2: 6.0}, 3)
    assert memory.cells[0].values == {1: 1.0, 2: 1.0}
    assert added.cells[0].values == {0: 0.0}
    assert not any(column.best() for column in (speed, memory, added))


def test_what_inference_keeps_beyond_trunk_and_decoder(finished, settings):
    channels = build_method(settings(DATASET__LABEL_SPACE="cityscapes19"))[0].trunk.channels
    assert added_at_inference(*finished("srha")) == 0
    assert added_at_inference(*finished("srha", STYLE_REFERENCE=4)) == 2 * channels[0]
    assert added_at_inference(*finished("dacs")) == 0
    # The stem's batch norm has a scale, a shift and two statistics, an instance norm no statistics;
    # two more of those stand behind layers 1 and 2.
    more = 2 * channels[1] + 2 * channels[2] - 2 * channels[0]
    assert added_at_inference(*finished("ibn")) == more
    assert added_at_inference(*finished("iw")) == -4 * channels[0]
    file, results = finished("hrda")
    network, _ = build_method(
        settings(**{k.replace(".", "__"): v for k, v in results["settings"].items()})
    )
    assert added_at_inference(file, results) == sum(
        own.numel() for own in network.attention.state_dict().values() if own.is_floating_point()
    )
