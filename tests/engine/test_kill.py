"""Four kills at random moments; a hundred: `python -m tests.engine.kill_test`."""

from tests.engine.kill_test import kill_and_compare


def test_a_run_that_is_killed_again_and_again(miniature, tmp_path):
    met = kill_and_compare(tmp_path, miniature, kills=4, seed=0)
    assert met["in a checkpoint"] >= 1


def test_a_rival_is_refused_and_changes_nothing(miniature, tmp_path):
    assert kill_and_compare(tmp_path, miniature, kills=2, seed=0, rivals=True)["a rival"] == 1
