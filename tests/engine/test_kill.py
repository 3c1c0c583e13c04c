"""Three kills at random moments; a hundred: `python -m tests.engine.kill_test`."""

from tests.engine.kill_test import kill_and_compare


def test_a_run_that_is_killed_again_and_again_beside_rivals(miniature, tmp_path):
    met = kill_and_compare(tmp_path, miniature, kills=3, seed=0, rivals=True)
    assert met["in a checkpoint"] >= 1 and met["a rival"] == 2
