"""Which results make a row, and which must not stand in one table."""

import pytest

from tests.utils.results_of_runs import domain_result, run_result, write_results
from utils.compare.runs import group_runs
from utils.errors import UserError


@pytest.fixture
def folder(tmp_path):
    """Return `folder(name, scores, …)` → a folder with the results of a run."""

    def write(name, scores=None, **options):
        return write_results(tmp_path / name, run_result(scores or {"idd": 0.5}, **options))

    return write


def names(groups):
    return {name: [file.parent.name for file, _ in runs] for name, runs in groups.items()}


def test_runs_that_differ_in_seed_and_places_are_one_row(folder):
    runs = [
        folder("a", seed=1, settings={"DATASET.ROOT": "here", "WORKERS": 4, "VALID.EVERY": 5}),
        folder("b", seed=2, settings={"DATASET.ROOT": "there", "WORKERS": 0, "VALID.EVERY": 0}),
        folder("c", seed=1, method="baseline"),
    ]
    assert names(group_runs(runs)) == {"srha": ["a", "b"], "baseline": ["c"]}


def test_runs_that_begin_from_the_run_of_their_own_seed_are_one_row(folder):
    def begun(name, seed, start):
        return folder(name, seed=seed, settings={"INIT": f"logs/{start}"})

    own = [begun("a", 30, "start_seed30"), begun("b", 31, "start_seed31")]
    assert names(group_runs(own)) == {"srha": ["a", "b"]}
    others = [begun("c", 3, "start_seed30"), begun("d", 4, "start_seed30")]
    assert list(names(group_runs([*own, *others])).values()) == [["a", "b"], ["c", "d"]]


def test_rows_of_one_method_are_told_apart_by_their_settings(folder):
    runs = [folder(f"rate{rate}", settings={"RATE": rate, "SIZE": 7}) for rate in (1, 2)]
    runs.append(folder("other", method="baseline", settings={"RATE": 3}))
    assert list(group_runs(runs)) == ["srha, RATE 1", "srha, RATE 2", "baseline"]


def test_a_row_whose_settings_are_too_long_is_named_after_its_experiments(folder):
    weights = {"weak": [0.04, 0.06, 0.08, 0.1], "strong": [0.4, 0.6, 0.8, 1.0]}
    runs = [
        folder(
            f"{name}_{seed}",
            seed=seed,
            settings={"ALIGN.GLOBAL": own, "ALIGN.LOCAL": own, "EXPERIMENT": f"{name}_{seed}"},
        )
        for name, own in weights.items()
        for seed in (1, 2)
    ]
    assert list(group_runs(runs)) == ["weak", "strong"]
    assert list(group_runs(runs, ["a tenth", "as published"])) == ["a tenth", "as published"]


def test_names_of_rows_are_one_for_each(folder):
    runs = [folder("a"), folder("b", method="baseline")]
    with pytest.raises(UserError, match="1 names for 2 rows, .*: srha; baseline"):
        group_runs(runs, ["one"])
    with pytest.raises(UserError, match="two rows would have one name"):
        group_runs(runs, ["one", "one"])


def test_files_folders_and_folders_of_results_are_taken(folder, tmp_path):
    first, _ = folder("all/one", seed=1), folder("all/two", seed=2)
    assert names(group_runs([tmp_path / "all"])) == {"srha": ["one", "two"]}
    assert names(group_runs([first / "results.json"])) == {"srha": ["one"]}
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty/results.json: .*empty is no finished run"):
        group_runs([tmp_path / "empty"])


@pytest.mark.parametrize("content, message", [
    ("{", "is no JSON"),
    ("[]", "does not hold the results of a run"),
    ('{"method": "srha"}', "does not hold the results of a run"),
])  # fmt: skip
def test_other_files_are_refused(tmp_path, content, message):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(UserError, match=f"results.json {message}"):
        group_runs([tmp_path])


def test_a_domain_is_the_same_with_and_without_its_default_split(folder):
    runs = group_runs([folder("a", {"idd:val": 0.5}), folder("b", {"idd": 0.5}, seed=1)])
    assert [list(run["domains"]) for _, run in runs["srha"]] == [["idd"], ["idd"]]
    assert [run["unseen"] for _, run in runs["srha"]] == [["idd"], ["idd"]]


def test_protocols_are_not_mixed(folder):
    runs = [folder("a"), folder("b", seed=1), folder("c", seed=2, protocol="robustnet, flip")]
    message = "a/results.json was .* 'native' and .*c/results.json with 'robustnet, flip'"
    with pytest.raises(UserError, match=message):
        group_runs(runs)


@pytest.mark.parametrize("key, value, name", [
    ("label_map", "openseg", "another label map"),
    ("label_space", "idd_lite7", "another label space"),
    ("list_sha256", "def", "another list of files"),
    ("images", 3, "another number of images"),
])  # fmt: skip
def test_numbers_of_other_labels_or_files_are_not_mixed(folder, key, value, name):
    other = domain_result("MAPILLARY", {"road": 0.5}, **{key: value})
    runs = [
        folder("a", {"idd": 0.1, "mapillary": 0.2}),
        folder("b", {"idd": 0.1}, seed=1),
        folder("c", {"mapillary": other}, method="baseline"),
    ]
    assert len(group_runs(runs[:2])) == 1
    with pytest.raises(UserError, match=f"a/results.json and .*c/.* on mapillary with {name} "):
        group_runs(runs)


def test_the_same_seed_twice_is_refused(folder):
    runs = [folder("a", seed=1), folder("b", seed=2), folder("c", seed=2)]
    with pytest.raises(UserError, match="b/results.json and .*c/results.json are of the same"):
        group_runs(runs)


def test_checkpoints_of_one_training_are_rows_of_their_own(folder):
    """Seeds stay together by file name, also where their steps differ, as a best one's do."""
    runs = [
        folder(f"{name}{seed}", seed=seed, step=step, checkpoint=f"{name}.pth")
        for name, steps in {"last": (100, 100), "early": (20, 30)}.items()
        for seed, step in enumerate(steps)
    ]
    assert names(group_runs(runs)) == {
        "srha, last.pth": ["last0", "last1"],
        "srha, early.pth": ["early0", "early1"],
    }
    assert names(group_runs(runs[2:])) == {"srha": ["early0", "early1"]}


def test_how_a_checkpoint_was_chosen_is_said(folder):
    best = {"domain": "gtav", "oracle": False}
    runs = [
        folder("last", seed=1),
        folder("best", seed=2, chosen_by=best),
        folder("oracle", seed=3, chosen_by={"domain": "idd", "oracle": True}),
    ]
    assert list(group_runs(runs)) == ["srha", "srha, best on gtav", "srha, best on idd (oracle)"]
