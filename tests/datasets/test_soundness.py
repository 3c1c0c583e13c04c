"""Damage that decoders crash on or do not notice is found before they see it."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from datasets.files import read_image, read_label
from datasets.soundness import find_damage
from utils.errors import UserError

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


def encoded(tmp_path, name, **options):
    Image.fromarray(PIXELS).save(tmp_path / name, **options)
    return tmp_path / name


def damage_of(data: bytes):
    return find_damage(np.frombuffer(data, np.uint8))


@pytest.mark.parametrize(
    "name, options",
    [
        ("a.png", {}),
        ("b.png", {"dpi": (72, 72), "optimize": True}),
        ("c.jpg", {}),
        ("d.jpg", {"progressive": True, "exif": b"Exif\0\0" + bytes(900), "comment": b"x" * 700}),
        ("e.jpg", {"optimize": True, "icc_profile": bytes(70000)}),
    ],
)
def test_sound_files_pass(tmp_path, name, options):
    path = encoded(tmp_path, name, **options)
    assert damage_of(path.read_bytes()) is None
    assert read_image(path).shape == (3, 20, 30)


def test_every_changed_byte_of_a_png_is_noticed(tmp_path):
    path = encoded(tmp_path, "a.png")
    data = path.read_bytes()
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 0x55
        assert damage_of(bytes(changed)) is not None, place
    for length in range(len(data)):
        assert damage_of(data[:length]) is not None, length


def test_damage_that_crashes_the_decoder_is_an_error(tmp_path):
    path = encoded(tmp_path, "a.png")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    for read in (read_image, read_label):
        with pytest.raises(UserError, match="cannot read .*a.png: .*checksum of 'IDAT'"):
            read(path)


def test_headers_that_claim_too_much(tmp_path):
    png = bytearray(encoded(tmp_path, "a.png").read_bytes())
    png[16:20] = struct.pack(">I", 2**30)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    assert "claims 1073741824×20 pixels" in damage_of(bytes(png))
    jpeg = bytearray(encoded(tmp_path, "b.jpg").read_bytes())
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65500, 65000)
    assert "claims 65000×65500 pixels" in damage_of(bytes(jpeg))


@pytest.mark.parametrize(
    "data, message",
    [
        (b"", "is empty"),
        (b"GIF89a" + bytes(50), "no PNG, JPEG, TIFF or WebP"),
        (b"\xff\xd8\xff", "cut off"),
        (b"\xff\xd8\x00\x00\x00\x00", "a marker is missing"),
        (b"\xff\xd8\xff\xda\x00\x04", "no size before the pixels"),
    ],
)
def test_other_bytes(data, message):
    assert message in damage_of(data)


def test_a_png_without_enough_data_is_found():
    """torchvision's decoder would end the process."""
    buffer = io.BytesIO()
    Image.new("RGB", (40, 40)).save(buffer, "PNG")
    whole = buffer.getvalue()
    assert damage_of(whole) is None
    at = whole.index(b"IDAT") - 4
    empty = zlib.compress(b"")
    chunk = struct.pack(">I", len(empty)) + b"IDAT" + empty
    chunk += struct.pack(">I", zlib.crc32(chunk[4:]))
    assert damage_of(whole[:at] + chunk + whole[-12:]) == "it holds too few data for its size"
