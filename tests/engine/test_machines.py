"""Two machines, played by two torchrun agents that find one another by c10d rendezvous."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tests.engine.processes import (
    PATIENCE,
    Training,
    children,
    command_line,
    free_port,
    load,
    wait_for,
)

ROOT = Path(__file__).parent.parent.parent


class Machines:
    """Both agents, with one process each. `processes` and `output` are those of `Training`."""

    def __init__(self, folder, *arguments):
        command = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nnodes=2",
            "--nproc_per_node=1",
        ]
        command += ["--rdzv_backend=c10d", f"--rdzv_endpoint=localhost:{free_port()}"]
        command += ["--rdzv_id=test", "--local-addr=localhost", "--max-restarts=1"]
        command += ["--signals-to-handle=SIGTERM,SIGINT,SIGUSR1", str(ROOT / "train.py")]
        self.logs = [folder / f"agent_{number}.txt" for number in range(2)]
        self.processes = [self._start(command, arguments, folder, log) for log in self.logs]
        for process in self.processes:
            process.is_alive = lambda process=process: process.poll() is None

    @staticmethod
    def _start(command, arguments, folder, log):
        with log.open("w") as file:
            line = [*command, *command_line(*arguments)]
            # See docs/running.md.
            environment = os.environ | {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
            return subprocess.Popen(line, cwd=folder, env=environment, stdout=file, stderr=file)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        for agent in self.processes:
            for process in children(agent.pid):
                os.kill(process, signal.SIGKILL)
            agent.kill()

    def output(self):
        return "\n".join(log.read_text() for log in self.logs)


def test_two_machines_are_restarted_stopped_and_continued(miniature, tmp_path):
    options = ["--method", "baseline", "--exp", "two", "--resume", "auto", "WORKERS", 1]
    options += ["VALID.EVERY", 0, "LOG.CHECKPOINT_EVERY", 1, "--val_dataset", "bdd100k"]
    data = ["DATASET.ROOT", miniature]
    with Machines(tmp_path, *options, *data, "TRAIN.MAX_ITER", 100000) as machines:
        wait_for(tmp_path / "logs/two/last.pth", machines)
        # A training process dies, and torchrun starts all of them again: they continue.
        os.kill(children(machines.processes[1].pid)[0], signal.SIGKILL)
        end = time.monotonic() + PATIENCE
        while "continuing logs/two/last.pth from step" not in machines.output():
            assert time.monotonic() < end, machines.output()
            time.sleep(0.05)
        (tmp_path / "logs/two/previous.pth").unlink(missing_ok=True)
        wait_for(tmp_path / "logs/two/previous.pth", machines)
        # What a scheduler sends to the agents reaches the processes.
        for agent in machines.processes:
            agent.send_signal(signal.SIGUSR1)
        codes = [agent.wait(PATIENCE) for agent in machines.processes]
        printed = machines.output()
        assert 0 not in codes, "an agent answers every end but success with an error"
        assert "2 processes on CPU" in printed and "stopped and saved; --resume" in printed
    step = load(tmp_path / "logs/two/last.pth")["step"]

    again = Training(tmp_path, miniature, *options, "TRAIN.MAX_ITER", step + 2, world_size=2)
    assert again.wait() == [0, 0], again.output()
    assert again.output().count("mIoU  pixel acc") == 1, "only the main process prints"
    results = json.loads((tmp_path / "logs/two/results.json").read_text())
    confusion = torch.tensor(results["domains"]["bdd100k"]["confusion"])
    assert results["step"] == step + 2 and results["domains"]["bdd100k"]["images"] == 3
    assert 0 < confusion.sum() <= 3 * 320 * 180


SLURM = """#!/bin/sh
# Plays SLURM for one machine: srun runs its command, scontrol notes what it is asked for.
case $(basename "$0") in
    srun) shift; exec "$@" ;;
    scontrol) [ "$1" = show ] && echo localhost || echo "$@" >> requeued.txt ;;
esac
"""


@pytest.mark.parametrize("name", ["finished", "stopped", "failed"])
def test_the_slurm_script_queues_again_what_was_stopped(tmp_path, name):
    """With a torchrun that does as its name says."""
    for tool in ("srun", "scontrol"):
        (tmp_path / tool).write_text(SLURM)
        (tmp_path / tool).chmod(0o755)
    python = tmp_path / "python"
    python.write_text(
        "#!/bin/sh\necho \"$@\" > arguments.txt\ntrap 'echo saved > saved.txt; exit 1' USR1\n"
        "case $NAME in finished) exit 0 ;; failed) exit 1 ;; esac\n"
        "echo > ready.txt\nwhile :; do sleep 0.05; done\n"
    )
    python.chmod(0o755)
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "PYTHON": str(python),
        "NAME": name,
        "SLURM_JOB_ID": "77",
        "SLURM_JOB_NUM_NODES": "2",
        "SLURM_JOB_NODELIST": "localhost",
        "SLURM_GPUS_ON_NODE": "4",
        "SLURM_SUBMIT_DIR": str(tmp_path),
    }
    script = subprocess.Popen(
        ["sh", str(ROOT / "scripts/slurm_train.sh"), "--exp", "x"], cwd=tmp_path, env=environment
    )
    if name == "stopped":
        while not (tmp_path / "ready.txt").exists():
            assert script.poll() is None
            time.sleep(0.01)
        script.send_signal(signal.SIGUSR1)
    code = script.wait(PATIENCE)
    assert code == (1 if name == "failed" else 0)
    assert (tmp_path / "requeued.txt").exists() == (tmp_path / "saved.txt").exists()
    assert (tmp_path / "requeued.txt").exists() == (name == "stopped")
    words = (tmp_path / "arguments.txt").read_text().split()
    assert words[-5:] == ["train.py", "--resume", "auto", "--exp", "x"]
    assert {"--nnodes=2", "--nproc_per_node=4", "--rdzv_endpoint=localhost:20077"} <= set(words)
