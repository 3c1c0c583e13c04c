"""Segmenting files with one network: images in batches, videos frame by frame."""

import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import torch
from easydict import EasyDict
from torch import Tensor
from torch.utils.data import DataLoader
from tqdm import tqdm

from datasets.label_spaces import LabelSpace
from network.inference import predict_with_confidence
from network.methods import Method
from transforms import normalise
from utils.engine.failures import cannot_write
from utils.engine.interruption import start_workers
from utils.engine.runtime import Runtime
from utils.errors import UserError
from utils.evaluate.evaluation import check_size, predict_batch
from utils.predict.inputs import ImageFiles, Input
from utils.predict.record import Record, Stamp, is_of, stamp_of
from utils.predict.rendering import (
    CONTINUES,
    KINDS,
    LABEL_KINDS,
    SegmentedImage,
    render_kind,
    write_picture,
)
from utils.predict.video import Frame, Unreadable, VideoReader, write_frames, write_video


@dataclass
class Tally:
    """What became of the inputs."""

    predicted: int = 0
    replaced: int = 0
    present: int = 0
    frames: int = 0
    skipped: list[str] = field(default_factory=list)

    def skip(self, what: str) -> None:
        """Name an image, frame or video that cannot be read."""
        self.skipped.append(what)
        tqdm.write(f"skipped: {what}", file=sys.stderr)


class Predictor:
    """A network with settings, and where and in which kinds its predictions are written."""

    def __init__(
        self,
        method: Method,
        space: LabelSpace,
        cfg: EasyDict,
        kinds: list[str],
        out: Path,
        runtime: Runtime,
    ):
        self.method = method.to(runtime.device, memory_format=runtime.memory_format).eval()
        self.space, self.cfg, self.kinds, self.out, self.runtime = space, cfg, kinds, out, runtime
        self.record = Record(out, runtime.rank)
        self.tally = Tally()

    @torch.no_grad()
    def segment(self, images: list[Tensor]) -> list[SegmentedImage]:
        """Segment images uint8 `[3, H, W]` of one size."""
        batch, size = torch.stack([normalise(image) for image in images]), images[0].shape[1:]
        labels, confidence = predict_batch(
            self.method, batch, size, self.cfg, self.runtime, how=predict_with_confidence
        )
        return list(map(SegmentedImage, images, labels.cpu(), confidence.cpu()))

    def place(self, kind: str, source: Input) -> Path:
        """Return where a kind of prediction is written: a PNG; of a video an MP4, or a folder."""
        return self.out / kind / (source.name + (".mp4" if source.is_video else ".png"))

    def missing(self, source: Input) -> dict[str, Path]:
        """Return {kind: path} of what is still to be written of an input."""
        paths = {kind: self.place(kind, source) for kind in self.kinds}
        known = source.name in self.record.made
        return {kind: path for kind, path in paths.items() if not (known and path.exists())}

    def remove_outdated(self, inputs: list[Input]) -> None:
        """Remove what is there of inputs that have been replaced since.

        UserError, in all processes, where it is of another file, whose predictions it stays.
        """
        made = self.record.made
        known = [source for source in inputs if source.name in made]
        with ThreadPoolExecutor(max(1, self.cfg.WORKERS)) as pool:
            same = list(pool.map(lambda source: is_of(made[source.name], source.path), known))
        replaced = [source for source, is_same in zip(known, same, strict=True) if not is_same]
        foreign = [s for s in replaced if made[s.name].input != str(s.path.absolute())]
        for source, other in filter(None, self.runtime.gather(_first(foreign, made))):
            raise UserError(
                f"{self.out} holds the predictions of {other}; those of {source} would take their "
                "place; give another --out"
            )
        for source in replaced:
            self.record.add(source.name, None)
            del made[source.name]
            for kind in KINDS:
                _discard(self.place(kind, source))
        self.tally.replaced += len(replaced)

    def images(self, inputs: list[Input]) -> None:
        """Predict image files; those of a batch that have one size are segmented together."""
        todo = [source for source in inputs if self.missing(source)]
        self.tally.present += len(inputs) - len(todo)
        loader = DataLoader(
            ImageFiles(todo, self.cfg),
            batch_size=self.cfg.VALID.BATCH_SIZE,
            num_workers=min(self.cfg.WORKERS, len(todo)),
            collate_fn=list,
        )
        bar = tqdm(total=len(todo), desc="images", disable=None if self.runtime.is_main else True)
        samples = start_workers(loader)
        # Compressing pictures takes as long as a GPU takes to make them.
        with bar, ThreadPoolExecutor(max(1, self.cfg.WORKERS)) as pool:
            writing: list[Future] = []
            for batch in samples:
                for done in self._segmented(batch):
                    writing.append(pool.submit(self._write, *done))
                    self.tally.predicted += 1
                while len(writing) > 2 * max(1, self.cfg.WORKERS):
                    writing.pop(0).result()
                bar.update(len(batch))
            for future in writing:
                future.result()

    def _segmented(
        self, batch: list[tuple[Input, Tensor | str, Stamp | None]]
    ) -> Iterator[tuple[Input, SegmentedImage, Stamp]]:
        by_size: dict[torch.Size, list[tuple[Input, Tensor, Stamp]]] = defaultdict(list)
        for source, image, stamp in batch:
            if isinstance(image, str):
                self.tally.skip(image)
            else:
                by_size[image.shape].append((source, image, stamp))
        for group in by_size.values():
            sources, images, stamps = zip(*group, strict=True)
            yield from zip(sources, self.segment(images), stamps, strict=True)

    def _write(self, source: Input, segmented: SegmentedImage, stamp: Stamp) -> None:
        for kind, path in self.missing(source).items():
            write_picture(path, render_kind(kind, segmented, self.space))
        self.record.add(source.name, stamp)

    def video(self, source: Input) -> None:
        """Predict a video: pictures as a video, label maps as a folder of a PNG for each frame."""
        missing = self.missing(source)
        if not missing:
            self.tally.present += 1
            return
        try:
            stamp = stamp_of(source.path)
            with closing(VideoReader(source.path)) as reader, ExitStack() as stack:
                writers = {}
                for kind, path in missing.items():
                    _discard(path)
                    open_ = write_frames if kind in LABEL_KINDS else write_video
                    writers[kind] = stack.enter_context(open_(path, reader))
                self._frame_by_frame(reader, writers)
        except UserError as error:
            self.tally.skip(str(error))
        except OSError as error:
            raise UserError(cannot_write(error, self.out, CONTINUES)) from None
        else:
            self.record.add(source.name, stamp)
            self.tally.predicted += 1

    def _frame_by_frame(
        self, reader: VideoReader, writers: dict[str, Callable[[Tensor, Frame], None]]
    ) -> None:
        frames, done = self._readable(reader), 0
        with tqdm(total=reader.length or None, desc=reader.path.name, disable=None) as bar:
            while batch := list(islice(frames, self.cfg.VALID.BATCH_SIZE)):
                predictions = self.segment([frame.image for frame in batch])
                for frame, prediction in zip(batch, predictions, strict=True):
                    for kind, write in writers.items():
                        write(render_kind(kind, prediction, self.space, whole_legend=True), frame)
                done += len(batch)
                bar.update(len(batch))
        if not done:
            raise Unreadable(f"cannot read {reader.path}: no frame of it can be decoded")
        self.tally.frames += done

    def _readable(self, reader: VideoReader) -> Iterator[Frame]:
        """Yield the frames that can be read, name the others."""
        for frame in reader:
            if frame.image is None:
                self.tally.skip(f"{reader.path}, frame {frame.number}: {frame.error}")
                continue
            try:
                check_size(frame.image.shape[1:], self.cfg, str(reader.path))
            except UserError as error:
                raise Unreadable(str(error)) from None
            yield frame


def _first(foreign: list[Input], made: dict[str, Stamp]) -> tuple[str, str] | None:
    """Return the first input, and the file of which the predictions of its name are."""
    return (str(foreign[0].path), made[foreign[0].name].input) if foreign else None


def _discard(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
