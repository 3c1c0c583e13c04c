"""What every training method is: one module with two verbs, wrapped whole by DDP."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch.nn.functional as F
from easydict import EasyDict
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from datasets.photographs import Stream
from datasets.sampling.passes import SourcePass
from network.decoders import decoder_class
from network.inference import cropped
from network.tuning import tuned_trunk
from transforms import Colours
from utils.errors import UserError


class Findings(NamedTuple):
    """What a survey found: lines for the log, numbers, and pictures uint8 `[3, H, W]`, by name."""

    lines: list[str]
    figures: dict[str, float]
    pictures: dict[str, Tensor]


# What a method may need of a decoder, and the parts that make it up (network/decoders/decoder.py).
PARTS = {"": (), "embed": ("embed", "projection", "classifier"), "deep": ("deep", "context")}


class Method(nn.Module):
    """A trunk, a decoder and a way to train them.

    Training: `method(batch)` returns a dict of named, weighted scalar losses; all forward passes
    happen in that one call, and the engine takes one backward of their sum. With `several_graphs`
    it returns an iterator of such dicts, each of a graph of its own. `batch` holds `image`
    `[B, 3, H, W]`, `label` `[B, H, W]`, `index`, `domain` (`[B]` int64, the number of the source
    in DATASET.SOURCE), `step` and `rate` (the step's learning rates, {"trunk", "decoder", "other":
    float}), and a batch under the name of each of the method's `streams`.
    Evaluation: `method(images)` returns logits `[B, K, H, W]`. All
    that must survive a restart is in the `state_dict`.

    A method declares its settings in `settings`, a tree as in `config.py`, and in `defaults` where
    its recipe differs from the defaults of shared settings and of the decoder's ({dotted key:
    value}). `after[i]` acts on what enters layer i + 1, in training and in inference alike;
    `rearrangement`, a module like SRHA's, restyles the regions of layer 0's feature in training.
    With `pretrained` off no weights are read, because a checkpoint will fill them in. UserError for
    a trunk, a decoder or sources that the method cannot work with.
    """

    settings: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    columnar_defaults: dict[str, Any] = {}  # with a trunk whose layers have one stride, on top
    # Parts (attributes) that `predict` needs: what is exported.
    inference_parts: tuple[str, ...] = ("trunk", "decoder")
    unchanged: tuple[str, ...] = ()  # parts whose buffers `after_step` alone writes
    inference_settings: tuple[str, ...] = ()  # dotted keys that an export may change
    needs = ""  # what the decoder must have, a key of PARTS
    trunks: tuple[str, ...] = ()  # names that it works with; empty: all
    least_sources = 1
    # Takes the sources of a batch apart: it needs equal parts, and one source may come twice.
    splits_sources = False
    several_graphs = False
    # Whether an image's losses depend on the others of its pass; or settings that prevent that.
    mixes_batch: bool | dict[str, Any] = False
    small: dict[str, Any] = {}  # settings ({dotted key: value}) of a network for tests

    def __init__(self, cfg: EasyDict, num_classes: int, pretrained: bool = True):
        super().__init__()
        self.check_choices(cfg)
        self.num_classes = num_classes
        self.trunk = tuned_trunk(cfg, pretrained)
        self.decoder = decoder_class(cfg.DECODER.NAME)(self.trunk, num_classes, cfg)
        missing = [part for part in PARTS[self.needs] if not hasattr(self.decoder, part)]
        if missing:
            raise UserError(
                f"--method {cfg.METHOD} needs the part {missing[0]} of a decoder, and the decoder "
                f"{cfg.DECODER.NAME} has no {missing[0]}; choose --decoder deeplabv3plus"
            )
        self.after: dict[int, Callable[[Tensor], Tensor]] = {}
        self.rearrangement: nn.Module | None = None
        self._figures: dict[str, Tensor] = {}
        self._kept: list[Any] = []

    @classmethod
    def streams(cls, cfg: EasyDict) -> dict[str, Stream]:
        """Return further data by name; an image of each comes with every source image."""
        return {}

    @classmethod
    def colours(cls, cfg: EasyDict) -> Colours | None:
        """Return which images have another colour jitter than TRANSFORM.JITTER. Default: none."""
        return None

    @classmethod
    def one_pass(cls, cfg: EasyDict) -> str:
        """Return the key of what has to be on for a step of several passes, "" if nothing has to.
        Default: nothing."""
        return ""

    def record(self, name: str, value: Tensor) -> None:
        """Log a scalar of this pass that is no loss, under its `name`; it stays on the device."""
        self._figures[name] = value.detach()

    def take_figures(self) -> dict[str, Tensor]:
        """Return what was recorded since the last call."""
        figures, self._figures = self._figures, {}
        return figures

    def keep(self, value: Any) -> None:
        """Keep something of this pass for `after_step`."""
        self._kept.append(value)

    def take_kept(self) -> list[Any]:
        """Return what the passes of a step kept, in their order."""
        kept, self._kept = self._kept, []
        return kept

    @classmethod
    def check_choices(cls, cfg: EasyDict) -> None:
        """Raise UserError for a trunk, sources or shared settings that the method cannot work
        with."""
        if cls.trunks and cfg.TRUNK.NAME not in cls.trunks:
            raise UserError(
                f"--method {cfg.METHOD} does not work with --trunk {cfg.TRUNK.NAME}; choose "
                f"{', '.join(cls.trunks)}"
            )
        # Networks may be evaluated without a source.
        if 0 < len(cfg.DATASET.SOURCE) < cls.least_sources:
            raise UserError(
                f"--method {cfg.METHOD} needs {cls.least_sources} sources or more, and "
                f"DATASET.SOURCE holds {' '.join(cfg.DATASET.SOURCE)} alone; add others (--dataset)"
                + (", or name it twice" if cls.splits_sources else "")
            )
        if cls.splits_sources and cfg.DATASET.MIXING != "equal":
            raise UserError(
                f"--method {cfg.METHOD} takes batches apart by source; set DATASET.MIXING to equal"
            )

    def remarks(self, epoch: int) -> list[str]:
        """Return what the log is to say of this network, an epoch having `epoch` steps: remarks of
        trunk and decoder, and which settings have no effect."""
        idle = self.without_effect()
        have = "has" if len(idle) == 1 else "have"
        named = [f"no batch norm to act on: {', '.join(idle)} {have} no effect"] if idle else []
        return [*self.trunk.remarks, *self._tuned(), *self.decoder.remarks, *named]

    def _tuned(self) -> list[str]:
        """Say how much of a trunk is trained whose weights are kept."""
        if not self.trunk.keeps_weights:
            return []
        total = sum(p.numel() for p in self.trunk.parameters())
        trained = sum(p.numel() for p in self.trunk.parameters() if p.requires_grad)
        return [f"{trained:,} of the trunk's {total:,} parameters are trained (TRUNK.TUNING)"]

    def without_effect(self) -> list[str]:
        """Return settings that are about batch norms which this network lacks."""
        normalised = any(isinstance(module, _BatchNorm) for module in self.modules())
        return [] if normalised else ["TRAIN.SYNC_BATCH_NORM"]

    def train(self, mode: bool = True) -> "Method":
        """Switch to training or evaluation.

        UserError for a module in `after` that is in none of the `inference_parts`: modes, devices
        or checkpoints would not reach it.
        """
        reached = {m for part in self.inference_parts for m in getattr(self, part).modules()}
        for i, act in self.after.items():
            owner = getattr(act, "__self__", act)  # of a module's method: the module
            if isinstance(owner, nn.Module) and owner not in reached:
                raise UserError(
                    f"{type(self).__name__}.after[{i}] holds a {type(owner).__name__} that is in "
                    f"none of the parts {', '.join(self.inference_parts)}; make it an attribute of "
                    "the method and name that in inference_parts"
                )
        return super().train(mode)

    def forward(
        self, inputs: dict[str, Any] | Tensor
    ) -> dict[str, Tensor] | Iterator[dict[str, Tensor]] | Tensor:
        """Losses by name for a batch (training), logits for images (evaluation).

        UserError for training images whose sides are no multiples of the trunk's `multiple`.
        """
        if isinstance(inputs, dict):
            self._check_size(inputs["image"])
            return self.training_losses(inputs)
        return self.predict(inputs)

    def training_losses(
        self, batch: dict[str, Any]
    ) -> dict[str, Tensor] | Iterator[dict[str, Tensor]]:
        """Return the named, weighted losses of one batch; of several graphs, an iterator of such
        dicts, whose names differ. A term without data returns a 0 that has a gradient."""
        raise NotImplementedError

    def survey_due(self, step: int, epoch: int) -> SourcePass | None:
        """Return the images to survey before a step, known without asking the device; an epoch has
        `epoch` steps. It is asked after the step before, too. Default: none."""
        return None

    def survey(self, batches: Iterator[dict[str, Any]], number: int) -> Findings:
        """Learn from what `survey_due` returned, `number` images, in evaluation mode, without a
        gradient.

        A batch has `image`, `label`, `index`, `domain`, `round` and `place`, 0 to `number` − 1. The
        batches are those of this process: sums are to be added over all of them. What is found goes
        into buffers.
        """
        raise NotImplementedError

    def predict(self, images: Tensor) -> Tensor:
        """Return the logits `[B, K, H, W]` of images `[B, 3, H, W]`."""
        (height, width), (bottom, right) = images.shape[-2:], self._padding(images)
        output = self.decoder(self.features(images), (height + bottom, width + right))
        return cropped(output.logits, (height, width), self.trunk.multiple)

    def features(self, images: Tensor) -> dict[int, Tensor]:
        """Return the trunk's features {i: `[B, C_i, h_i, w_i]`} of images `[B, 3, H, W]`, padded
        at bottom and right to the trunk's `multiple` by zeros (the mean colour)."""
        if self.trunk.multiple > 1:
            bottom, right = self._padding(images)
            images = F.pad(images, (0, right, 0, bottom))
        return self.trunk(images, after=self.after)

    def _padding(self, images: Tensor) -> list[int]:
        """Return how many pixels images lack at bottom and right."""
        return [-side % self.trunk.multiple for side in images.shape[-2:]]

    def _check_size(self, images: Tensor) -> None:
        (height, width), (bottom, right) = images.shape[-2:], self._padding(images)
        if bottom or right:
            raise UserError(
                f"TRANSFORM.CROP_SIZE {height},{width} is no multiple of {self.trunk.multiple}, "
                f"which this trunk needs; the next one is {height + bottom},{width + right}"
            )

    def bases(self) -> dict[str, Tensor]:
        """Return what features are compared with, to be pictured: "layer i" `[M, 2 C]`, styles
        (means, then deviations) after layer i, and "embedding" `[K, M, D]`. Default: nothing."""
        return {}

    @property
    def exported_from(self) -> int:
        """Pixels a side from which `utils.export` traces the network; UserError for one whose
        operations depend on the size. Default: the trunk's."""
        if not self.decoder.traced:
            raise UserError(
                f"the decoder {type(self.decoder).__name__} is not traced for images of any size; "
                "export the network as .safetensors"
            )
        return self.trunk.exported_from

    def compile_network(self, backend: str = "inductor") -> None:
        """Compile trunk and decoder in place, so that names in checkpoints stay."""
        self.trunk.compile(backend=backend)
        self.decoder.compile(backend=backend)

    def after_step(self, step: int) -> None:
        """Update what the optimizer does not: teachers, memories, bases. Default: nothing."""

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Trainable parameters by group (trunk, decoder, other), each once."""
        groups: dict[str, list[nn.Parameter]] = {"trunk": [], "decoder": [], "other": []}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                part = name.split(".")[0]
                groups[part if part in groups else "other"].append(parameter)
        return groups


def refuse_unknown_classes(
    setting: str, classes: Sequence[int], num_classes: int, which: str
) -> None:
    """Raise UserError for a train id, in the value of `setting`, that the label space lacks; it
    says `which` classes are to be named."""
    unknown = [number for number in classes if not 0 <= number < num_classes]
    if unknown:
        raise UserError(
            f"{setting} holds {unknown[0]}, and the label space has train ids 0 to "
            f"{num_classes - 1}; name those of its {which}"
        )
