"""A few dozen damaged files; `python -m tests.datasets.fuzz_files` reads 500."""

from fuzz_files import fuzz


def test_damaged_files_give_clear_errors(tmp_path):
    outcomes, failures = fuzz(tmp_path, count=60, seed=1)
    assert not failures
    assert sum(outcomes.values()) == 60 and outcomes["clear error"] > 20
