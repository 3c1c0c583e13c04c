"""One holder at a time, however the lock file comes and goes."""

import threading
import time

import pytest

from utils.locks import held


def test_threads_hold_it_one_after_another(tmp_path):
    inside, overlaps, finished = [], [], []

    def work():
        for _ in range(40):
            with held(tmp_path / "one.lock"):
                inside.append(1)
                time.sleep(0.0005)  # lets go of the interpreter
                overlaps.append(len(inside) > 1)
                inside.pop()
        finished.append(1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(finished) == 4 and len(overlaps) == 160 and not any(overlaps)
    assert not list(tmp_path.iterdir())


def test_who_finds_it_held_may_refuse(tmp_path):
    def refuse():
        raise ValueError("held")

    path = tmp_path / "one.lock"
    with held(path), pytest.raises(ValueError, match="held"), held(path, refuse):
        pass
    with held(path, refuse):
        assert path.is_file()
    assert not path.exists()


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError), held(tmp_path / "none" / "one.lock"):
        pass
