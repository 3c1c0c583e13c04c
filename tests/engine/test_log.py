"""What a run writes for TensorBoard, read back from its event files."""

import struct

import torch
from tensorboardX.proto.event_pb2 import Event, SessionLog

from utils.engine.log import ExperimentLog


def events(path):
    """Read a file of TFRecords: length, checksum, content, checksum."""
    content, found = path.read_bytes(), []
    while content:
        (length,) = struct.unpack("<Q", content[:8])
        found.append(Event.FromString(content[12 : 12 + length]))
        content = content[16 + length :]
    return found


def test_events_are_on_the_disk_at_once_and_hidden_after_resuming(settings, tmp_path):
    log = ExperimentLog(tmp_path, settings(), True, 0, 0)
    (first,) = tmp_path.glob("events.out.tfevents.*")
    log.scalars(4, {"loss/total": 0.5, "mIoU/gtav": None})
    position = log.position()
    log.scalars(8, {"loss/total": 0.25})
    log.picture(8, "crop", torch.zeros(3, 4, 6, dtype=torch.uint8))
    # Not closed: the run is killed here. What it recorded is there.
    found = [(e.step, v.tag) for e in events(first) for v in e.summary.value]
    assert found == [(4, "loss/total"), (8, "loss/total"), (8, "crop")]
    first.rename(tmp_path / "events.out.tfevents.0")

    # Continued from step 4: TensorBoard hides what it has of steps from 5 on.
    log = ExperimentLog(tmp_path, settings(), True, 4, position)
    log.scalars(8, {"loss/total": 0.125})
    log.close()
    (second,) = set(tmp_path.glob("events.out.tfevents.*")) - {tmp_path / "events.out.tfevents.0"}
    _, _, start, record = events(second)
    assert (start.step, start.session_log.status) == (5, SessionLog.START)
    assert (record.step, record.summary.value[0].simple_value) == (8, 0.125)
    assert (tmp_path / "metrics.jsonl").read_text().count('"step": 8') == 1


def test_other_processes_write_nothing(settings, tmp_path):
    log = ExperimentLog(tmp_path / "run", settings(), False, 0, 0)
    log.scalars(1, {"loss/total": 1.0})
    log.close()
    assert log.position() == 0 and not (tmp_path / "run").exists()
