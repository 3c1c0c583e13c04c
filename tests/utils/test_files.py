"""Damaged files of weights are noticed by every reader, and what is no such file is named."""

import random

import pytest
import torch

from network.build import open_run
from network.checkpoint import load_checkpoint
from utils import files
from utils.engine.saving import Checkpoints
from utils.errors import Stopped, UserError
from utils.export.__main__ import export
from utils.files import read_weights


@pytest.fixture
def checkpoint(saved):
    """A checkpoint as training writes it: sealed."""
    path = saved("baseline")[2] / "last.pth"
    state = torch.load(path, weights_only=True)
    Checkpoints(path.parent).save(state)
    return path


def flipped(content, generator):
    """The bytes with one random bit turned over."""
    damaged = bytearray(content)
    damaged[generator.randrange(len(damaged))] ^= 1 << generator.randrange(8)
    return bytes(damaged)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_hundred_flipped_bits_are_a_hundred_damaged_files(checkpoint, tmp_path, ending):
    path = checkpoint
    if ending == ".safetensors":
        path = tmp_path / "network.safetensors"
        export(checkpoint, path)
    whole, generator = path.read_bytes(), random.Random(0)
    load_checkpoint(path)
    # A third of them where the file says what is in it, and not in the weights.
    heads = [whole[:2000], whole[2000:-4000], whole[-4000:]]
    for number in range(100):
        part = heads[number % 3]
        parts = [flipped(own, generator) if own is part else own for own in heads]
        path.write_bytes(b"".join(parts))
        with pytest.raises(UserError, match=path.name):
            open_run(path, {})
    if ending == ".safetensors":
        path.write_bytes(whole.replace(b"sha256", b"sha257"))
        with pytest.raises(UserError, match="damaged"):
            open_run(path, {})
    path.write_bytes(whole[:-1])
    with pytest.raises(UserError, match="damaged"):
        open_run(path, {})


def test_a_file_of_plain_torch_is_compared_with_its_checksums(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save({"weight": torch.arange(10000.0)}, path)
    content = bytearray(path.read_bytes())
    assert read_weights(path)["weight"][7] == 7
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="weights.pth is damaged"):
        read_weights(path)


@pytest.mark.parametrize("number", [57, 58, 59, 60])
def test_a_plain_file_of_as_many_entries_as_a_seal_has_digits_is_sound(tmp_path, number):
    """Its end holds that number where a sealed file says how long its comment is."""
    state = {f"weight{i}": torch.ones(1) for i in range(number)}
    torch.save(state, tmp_path / "weights.pth")
    assert len(read_weights(tmp_path / "weights.pth")) == number


def test_being_stopped_while_reading_is_no_damage(checkpoint, monkeypatch):
    def stop(*arguments, **options):
        raise Stopped("asked to", 75, agreed=False)

    monkeypatch.setattr(torch, "load", stop)
    with pytest.raises(Stopped):
        read_weights(checkpoint)


def test_a_file_that_cannot_be_read(checkpoint, monkeypatch):
    def fail(path):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(files, "check_seal", fail)
    with pytest.raises(UserError, match="cannot read .*last.pth: input/output error"):
        read_weights(checkpoint)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"<!DOCTYPE html><html>", "holds no weights: it is a web page"),
        (b"\n<html lang='en'>", "holds no weights: it is a web page"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid",
            "it is a pointer of Git LFS; `git lfs",
        ),
        (b"", "is damaged or holds no weights"),
        (b"PK\x03\x04 and no more", "is damaged or holds no weights"),
    ],
)
def test_what_is_no_file_of_weights(tmp_path, content, message):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_weights(tmp_path / "weights.pth")


class Own:
    pass


def test_code_is_never_run(tmp_path):
    torch.save({"weight": Own()}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="holds more than tensors and plain values") as error:
        read_weights(tmp_path / "weights.pth")
    assert "weights_only" not in str(error.value)
