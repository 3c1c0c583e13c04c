"""Reading and writing videos through PyAV, an extra of its own."""

import math
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from heapq import heappop, heappush
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from datasets.files import png_bytes
from utils.errors import UserError
from utils.extras import import_extra

SECONDS = Fraction(1, 90000)  # time base of what is written, where the source has none
RATE = Fraction(25)


def library() -> Any:
    """Return PyAV; UserError where it is not installed."""
    av = import_extra("videos", "av", "av.logging")
    # Decoders conceal damage, and say so in their log alone.
    av.logging.set_level(av.logging.ERROR)
    return av


class Unreadable(UserError):
    """A video that cannot be read; the others can."""


class Frame(NamedTuple):
    """A frame: `image` uint8 `[3, H, W]`, upright, or None with an `error`; its number in the
    video, and its `time` in units of the video's time base."""

    image: Tensor | None
    number: int
    time: int
    error: str = ""


class VideoReader:
    """The frames of a video file in order; close it in the end.

    `rate` is in frames per second, `length` the number of frames that the file claims (0: unknown).
    Unreadable for a file that holds no video.
    """

    def __init__(self, path: Path):
        self.path, self.av = path, library()
        try:
            self.container = self.av.open(str(path))
        except (self.av.FFmpegError, OSError) as error:
            raise Unreadable(f"cannot read {path}: {_reason(error)}") from None
        if not self.container.streams.video:
            self.container.close()
            raise Unreadable(f"cannot read {path}: it holds no video")
        self.stream = self.container.streams.video[0]
        self.rate = self.stream.average_rate or self.stream.guessed_rate or RATE
        self.time_base = self.stream.time_base or SECONDS
        self.length = self.stream.frames

    def close(self) -> None:
        """Close the file."""
        self.container.close()

    def __iter__(self) -> Iterator[Frame]:
        """Yield all frames; one that cannot be decoded, or is of another size than the first, has
        an error in place of its image."""
        number, last, size = 0, -1, None
        step = max(1, round(1 / (self.rate * self.time_base)))
        for frame, error in self._decoded():
            time, image = last + step if last >= 0 else 0, None
            if frame is not None:
                # A video's times may repeat where it is damaged; a player needs them to rise.
                time = max(time if frame.pts is None else frame.pts, last + 1)
                image = None if error else _upright(frame)
            if image is not None:
                size = size or image.shape
                if image.shape != size:
                    image, error = None, "it has another size than the first"
            yield Frame(image, number, time, error)
            number, last = number + 1, time

    def _decoded(self) -> Iterator[tuple[Any, str]]:
        """Yield each frame, None where it cannot be decoded at all, and what is wrong with it."""
        unreadable = (self.av.FFmpegError, OSError)
        # Frames come out later, and in another order, than their packets went in: what is wrong
        # with a packet waits for its time to come.
        damaged: dict[int | None, str] = {}
        lost: list[tuple[float, str]] = []
        with self.av.logging.Capture(local=False) as complaints:
            try:
                for packet in self.container.demux(self.stream):
                    # What the search for packets complains of, the decoder does too if it matters.
                    complaints.clear()
                    try:
                        frames = packet.decode()
                    except unreadable as error:
                        time = math.inf if packet.pts is None else packet.pts
                        heappush(lost, (time, f"it cannot be decoded ({_reason(error)})"))
                        continue
                    if complaints:
                        damaged[packet.pts] = f"it is damaged ({complaints[-1][2].strip()})"
                    for frame in frames:
                        while lost and frame.pts is not None and lost[0][0] < frame.pts:
                            yield None, heappop(lost)[1]
                        doubt = "it is damaged" if frame.is_corrupt else ""
                        yield frame, damaged.pop(frame.pts, doubt)
            except unreadable as error:
                reason = f"the file cannot be read on from here ({_reason(error)})"
                heappush(lost, (math.inf, reason))
        while lost:
            yield None, heappop(lost)[1]


def _upright(frame: Any) -> Tensor:
    pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    return torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1)


def _reason(error: Exception) -> str:
    return (getattr(error, "strerror", None) or str(error)).lower()


@contextmanager
def write_video(path: Path, source: VideoReader) -> Iterator[Callable[[Tensor, Frame], None]]:
    """Yield `write(picture, frame)`, which fills an H.264 file with the times of `source`.

    Pictures are uint8 `[3, H, W]`, or grey `[H, W]`, of one size. The file gets its name when it is
    complete; after an error nothing is left of it.
    """
    av, part = library(), path.with_name(path.name + ".part")
    path.parent.mkdir(parents=True, exist_ok=True)
    stream: Any = None

    def write(picture: Tensor, frame: Frame) -> None:
        nonlocal stream
        height, width = picture.shape[-2:]
        pixels = picture.expand(3, height, width).permute(1, 2, 0).numpy()
        if stream is None:
            stream = container.add_stream("libx264", rate=source.rate)
            stream.width, stream.height = width, height
            # Halved colours need even sides; few players know the other format.
            even = height % 2 == 0 and width % 2 == 0
            stream.pix_fmt = "yuv420p" if even else "yuv444p"
            stream.options = {"crf": "18", "preset": "fast"}
            stream.codec_context.time_base = source.time_base
        coded = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
        coded.pts, coded.time_base = frame.time, source.time_base
        container.mux(stream.encode(coded))

    try:
        with av.open(str(part), "w", format="mp4") as container:
            yield write
            container.mux(stream.encode(None))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def write_frames(path: Path, source: VideoReader) -> Iterator[Callable[[Tensor, Frame], None]]:
    """Yield `write(picture, frame)`, which writes a PNG, named by the number of its frame.

    Pictures are uint8 `[H, W]` or `[3, H, W]`. The folder gets its name when it is complete.
    """
    part = path.with_name(path.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)

    def write(picture: Tensor, frame: Frame) -> None:
        (part / f"{frame.number:06}.png").write_bytes(png_bytes(picture))

    try:
        yield write
        os.replace(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)
