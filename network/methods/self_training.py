"""Self-training on an unlabelled target: DACS, DAFormer, HRDA, MIC and SePiCo, as one step.

A moving average of the student, the teacher, labels target images. The student learns the source,
and images mixed of both; what else it learns is chosen by settings. The five methods differ in
their defaults alone. With a pseudo-target this is step 2 of DIDEX (arXiv 2312.01850).
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from easydict import EasyDict
from torch import Tensor, nn

from datasets.photographs import Stream
from network.decoders.daformer import AttentionHead
from network.decoders.decoder import LogitDecoder
from network.methods.method import Method
from network.self_training.contrast import (
    ClassDistributions,
    Projector,
    choose_crop,
    cut,
    distribution_contrast,
)
from network.self_training.mixing import (
    class_mask,
    hide_blocks,
    paste,
    pixel_weights,
    pseudo_labels,
)
from network.self_training.purity import PURITY, THINGS, feature_distance, pure_cells
from network.self_training.teacher import EMATeacher
from network.self_training.views import MultiScale, SingleScale
from network.trunks import build_trunk
from transforms import PhotographTransform
from transforms.strong import StrongAugmentation, Switches
from utils.errors import UserError
from utils.labels import VOID
from utils.settings import Setting

# Of networks for tests, on images of some 300 pixels a side.
RARE = {"DATASET.RARE_CLASS_PIXELS": 50, "DATASET.RARE_CLASS_CROP_PIXELS": 10}


class Target(NamedTuple):
    """Target crops `image` `[B, 3, H, W]`, their pseudo-labels `label` and weights `[B, H, W]`."""

    image: Tensor
    label: Tensor
    weight: Tensor


class SelfTraining(Method):
    """The step that all methods of the family share, see self_training.md of the design."""

    settings = {
        "DATASET": {
            "TARGET": Setting(
                "",
                "images without labels that are adapted to: a folder, or NAME:SPLIT of a dataset, "
                "whose labels are not opened",
            ),
        },
        "TARGET": {
            "BOX": Setting([0, 0], "as TRANSFORM.BOX, of target images"),
            "SCALE": Setting([1.0, 1.0], "range of their random scale", minimum=0.01, maximum=100),
            "CROP_SIZE": Setting(
                [0, 0],
                "pixels, height and width of what is read of a target image; of more than "
                "TRANSFORM.CROP_SIZE the crop with most classes is taken (SePiCo); 0,0: as that",
            ),
            "BORDER": Setting(
                [0, 0, 0, 0],
                "rows at top and bottom, columns at left and right of a target crop whose "
                "pseudo-labels do not count (published for Cityscapes: 15,120,0,0)",
            ),
        },
        "TEACHER": {
            "ALPHA": Setting(0.999, "decay of the moving average, reached from 1/2", maximum=1),
            "THRESHOLD": Setting(
                0.968,
                "probability from which a pseudo-label is confident; the share q of those in a "
                "batch weighs all its pseudo-labels",
                maximum=1,
            ),
        },
        "MIX": {
            "OWN_CLASSES": Setting(
                False,
                "half of an image's own classes are pasted, rather than of the batch's (original "
                "DACS)",
            ),
        },
        "STRONG": {
            "STRENGTH": Setting(
                0.2, "largest change of brightness, contrast, saturation, hue", maximum=1
            ),
            "JITTER_PROBABILITY": Setting(0.8, "of that change, drawn for a step", maximum=1),
            "BLUR_PROBABILITY": Setting(0.5, "of Gaussian blur, drawn for a step", maximum=1),
            "BLUR_SIGMA": Setting([0.15, 1.15], "pixels, range of that blur", minimum=0.01),
            "SOURCE": Setting(False, "the source is learned strongly augmented, too (SePiCo)"),
        },
        "VOID_COUNTS": Setting(
            True,
            "the source's cross entropy is a mean over all pixels, void as 0 (original DACS: over "
            "labelled ones)",
        ),
        "FEATURE_DISTANCE": {
            "WEIGHT": Setting(
                0.0, "of the distance to the features of TRUNK.WEIGHTS (DAFormer); 0: off"
            ),
            "CLASSES": Setting(list(THINGS), "train ids at whose cells it is taken", least=1),
            "PURITY": Setting(PURITY, "share of a cell that its class has", maximum=1),
        },
        "HRDA": {
            "DETAIL": Setting(
                [0, 0],
                "pixels, height and width of detail crops beside a context at half the size; 0,0: "
                "images are seen at one scale",
            ),
            "DETAIL_WEIGHT": Setting(0.1, "of the detail crop's own loss", maximum=1),
        },
        "MASK": {
            "WEIGHT": Setting(0.0, "of the loss on target images with hidden blocks; 0: off"),
            "BLOCK": Setting(64, "pixels, side of a block", minimum=1),
            "RATIO": Setting(0.7, "share of hidden blocks", maximum=1),
        },
        "CONTRAST": {
            "WEIGHT": Setting(0.0, "of the contrast with distributions of classes; 0: off"),
            "START": Setting(3000, "step from which it counts"),
            "LAYERS": Setting(
                [4], "layers that are projected (MiT: 1,2,3,4)", minimum=0, maximum=4, least=1
            ),
            "HIDDEN": Setting(2048, "inner width of the projection (MiT: 256)", minimum=1),
            "WIDTH": Setting(512, "width of the projection", minimum=1),
            "TEMPERATURE": Setting(100.0, "τ", minimum=1e-3),
            "REGULARISER": Setting(1.0, "weight of the evenness of the mean feature"),
        },
    }
    # The source as published: no colours are changed, crops of one class are drawn again.
    defaults: dict[str, Any] = {
        "TRANSFORM.SCALE": [1.0, 1.0],
        "TRANSFORM.MAX_CLASS_SHARE": 0.75,
        "TRANSFORM.JITTER_PROBABILITY": 0.0,
        "TRANSFORM.BLUR_PROBABILITY": 0.0,
    }
    several_graphs = True
    mixes_batch = {"MIX.OWN_CLASSES": True, "TEACHER.THRESHOLD": 0.0}
    small = {"DATASET.TARGET": "cityscapes:train"}

    def __init__(self, cfg: EasyDict, num_classes: int, pretrained: bool = True):
        super().__init__(cfg, num_classes, pretrained)
        self.cfg = cfg
        options = cfg.STRONG
        self.strong = StrongAugmentation(
            options.STRENGTH,
            options.JITTER_PROBABILITY,
            options.BLUR_PROBABILITY,
            options.BLUR_SIGMA,
        )
        self.view: SingleScale | MultiScale = SingleScale()
        if any(cfg.HRDA.DETAIL):
            self._add_details(cfg, num_classes)
        self.reference = self._reference(cfg, pretrained) if cfg.FEATURE_DISTANCE.WEIGHT else None
        if cfg.CONTRAST.WEIGHT:
            channels = [self.trunk.channels[i] for i in cfg.CONTRAST.LAYERS]
            self.projector = Projector(
                channels, cfg.CONTRAST.LAYERS, cfg.CONTRAST.HIDDEN, cfg.CONTRAST.WIDTH
            )
            self.distributions = ClassDistributions(num_classes, cfg.CONTRAST.WIDTH)
        self.teacher = EMATeacher(self._student())

    def _add_details(self, cfg: EasyDict, num_classes: int) -> None:
        """See images at two scales."""
        if not isinstance(self.decoder, LogitDecoder):
            raise UserError(
                f"HRDA.DETAIL fuses logits, and the decoder {cfg.DECODER.NAME} has no logits of "
                "pixels; choose --decoder daformer or deeplabv3plus, or HRDA.DETAIL 0,0"
            )
        self.attention = AttentionHead(self.trunk, num_classes)
        self.inference_parts = (*self.inference_parts, "attention")
        self.view = MultiScale(
            cfg.HRDA.DETAIL, self.decoder.stride, self.trunk.multiple, cfg.HRDA.DETAIL_WEIGHT
        )

    def _reference(self, cfg: EasyDict, pretrained: bool) -> nn.Module:
        """Build the trunk that features stay close to."""
        unknown = [c for c in cfg.FEATURE_DISTANCE.CLASSES if not 0 <= c < self.num_classes]
        if unknown:
            raise UserError(
                f"FEATURE_DISTANCE.CLASSES holds {unknown[0]}, and the label space has train ids 0 "
                f"to {self.num_classes - 1}; name those of its countable things"
            )
        weights = cfg.TRUNK.WEIGHTS if pretrained else "none"
        trunk = build_trunk(cfg.TRUNK.NAME, cfg.TRUNK.OUTPUT_STRIDE, weights)
        return trunk.requires_grad_(False)

    def _student(self) -> dict[str, nn.Module]:
        """Return the parts that a teacher has, too."""
        names = ("trunk", "decoder", "attention", "projector")
        return {name: getattr(self, name) for name in names if hasattr(self, name)}

    @classmethod
    def streams(cls, cfg: EasyDict) -> dict[str, Stream]:
        """Return the target; UserError where none is named, or for one that is read too small."""
        if not cfg.DATASET.TARGET:
            raise UserError(
                f"--method {cfg.METHOD} adapts to images without labels: set DATASET.TARGET to "
                "a folder of photographs or to NAME:SPLIT of a dataset; "
                "`python -m datasets.miniature --domains PseudoTarget --out DIR` draws a small one"
            )
        crop = list(cfg.TARGET.CROP_SIZE if any(cfg.TARGET.CROP_SIZE) else cfg.TRANSFORM.CROP_SIZE)
        if any(own < side for own, side in zip(crop, cfg.TRANSFORM.CROP_SIZE, strict=True)):
            raise UserError(
                f"TARGET.CROP_SIZE {crop[0]},{crop[1]} is smaller than TRANSFORM.CROP_SIZE "
                f"{cfg.TRANSFORM.CROP_SIZE[0]},{cfg.TRANSFORM.CROP_SIZE[1]}, which is cut out of it"
            )
        on_device = cfg.TRANSFORM.PHOTOMETRIC_ON != "worker"
        transform = PhotographTransform(
            crop, cfg.TARGET.SCALE, cfg.TRANSFORM.FLIP, cfg.TARGET.BOX, on_device
        )
        return {"target": Stream(cfg.DATASET.TARGET, transform)}

    def train(self, mode: bool = True) -> "SelfTraining":
        """Switch to training; the reference keeps the statistics of pretraining."""
        super().train(mode)
        if self.reference is not None:
            self.reference.eval()
        return self

    def predict(self, images: Tensor) -> Tensor:
        """Return the student's logits `[B, K, H, W]` of images `[B, 3, H, W]`."""
        self.view.after = self.after
        return self.view.predict(self._student(), images)

    @property
    def exported_from(self) -> int:
        """As of other methods; UserError for two scales."""
        if any(self.cfg.HRDA.DETAIL):
            raise UserError(
                "a network that sees details (HRDA.DETAIL) is not exported: how many windows it "
                "makes of an image depends on its size; predict.py and valid.py run it"
            )
        return super().exported_from

    def after_step(self, step: int) -> None:
        """Move the teacher towards the student."""
        self.teacher.update(self._student(), step, self.cfg.TEACHER.ALPHA)

    def training_losses(self, batch: dict[str, Any]) -> Iterator[dict[str, Tensor]]:
        """Yield the losses on the source, on mixed images and on masked ones; a graph for each.

        Records "q". `batch["target"]["image"]` `[B, 3, H, W]` holds the target images.
        """
        image, label = batch["image"], batch["label"]
        student = self._student()
        self.view.after = self.after
        if batch["step"] == 0:
            self.teacher.reset(student)
        switches = self.strong.draw_switches()
        target = self._labelled(batch["target"]["image"], image.shape[-2:])

        yield self._source_losses(student, batch, target, switches)

        mask = class_mask(label, self.num_classes, self.cfg.MIX.OWN_CLASSES)
        mixed = self.strong(paste(mask, image, target.image), switches)
        labels = paste(mask, label, target.label)
        weight = paste(mask, 1.0, target.weight)
        seen = self.view.train(student, mixed)
        yield _prefixed("mix", self.view.losses(student, seen, labels, weight))

        if self.cfg.MASK.WEIGHT:
            masked = self.strong(target.image, self.strong.draw_switches())
            masked = hide_blocks(masked, self.cfg.MASK.BLOCK, self.cfg.MASK.RATIO)
            seen = self.view.train(student, masked)
            losses = self.view.losses(student, seen, target.label, target.weight)
            yield _prefixed("masked", losses, self.cfg.MASK.WEIGHT)

    @torch.no_grad()
    def _labelled(self, images: Tensor, size: tuple[int, int]) -> Target:
        """Let the teacher label target images; of larger ones than `size` (h, w), a rich crop."""
        if images.shape[-2:] != size:
            whole = self.view.predict(self.teacher.parts, images).argmax(1)
            images = cut(images, *choose_crop(whole, size, self.num_classes), size)
        logits = self.view.predict(self.teacher.parts, images)
        label, share = pseudo_labels(logits, self.cfg.TEACHER.THRESHOLD)
        self.record("q", share)
        return Target(images, label, pixel_weights(share, label.shape, self.cfg.TARGET.BORDER))

    def _source_losses(
        self,
        student: Mapping[str, nn.Module],
        batch: dict[str, Any],
        target: Target,
        switches: Switches,
    ) -> dict[str, Tensor]:
        """Return the losses on the source, and the contrast of its features and the target's."""
        image, label, cfg = batch["image"], batch["label"], self.cfg
        shown = self.strong(image, switches) if cfg.STRONG.SOURCE else image
        seen = self.view.train(student, shown)
        weight = torch.ones_like(label, dtype=image.dtype) if cfg.VOID_COUNTS else None
        losses = self.view.losses(student, seen, label, weight)
        if self.reference is not None:
            with torch.no_grad():
                reference = self.reference(seen.images)[4]
            own = seen.features[4]
            cells = self._cells(label, own, cfg.FEATURE_DISTANCE.PURITY)
            distance = feature_distance(own, reference, cells, cfg.FEATURE_DISTANCE.CLASSES)
            losses["feature_distance"] = cfg.FEATURE_DISTANCE.WEIGHT * distance
        if cfg.CONTRAST.WEIGHT:
            self._count_features(image, label)
            if batch["step"] >= cfg.CONTRAST.START:
                own = self.projector(seen.features)
                shown = self.strong(target.image, switches)
                other = self.projector(self.view.features(student, shown))
                trusted = torch.where(target.weight > 0, target.label, VOID)
                contrast = distribution_contrast(
                    torch.cat([own, other]),
                    torch.cat([self._cells(label, own), self._cells(trusted, other)]),
                    self.distributions,
                    cfg.CONTRAST.TEMPERATURE,
                    cfg.CONTRAST.REGULARISER,
                )
                losses["contrast"] = cfg.CONTRAST.WEIGHT * contrast
        return losses

    @torch.no_grad()
    def _count_features(self, images: Tensor, labels: Tensor) -> None:
        """Count what the teacher makes of the source, as it is, in the classes' distributions."""
        parts = self.teacher.parts
        features = parts["projector"](self.view.features(parts, images))
        self.distributions.update(features, self._cells(labels, features))

    def _cells(self, labels: Tensor, features: Tensor, purity: float = PURITY) -> Tensor:
        return pure_cells(labels, features.shape[-2:], self.num_classes, purity)


def _prefixed(prefix: str, losses: dict[str, Tensor], weight: float = 1.0) -> dict[str, Tensor]:
    return {f"{prefix}_{name}": weight * loss for name, loss in losses.items()}


class DACS(SelfTraining):
    """DACS (arXiv 2007.08702) as the DAFormer family runs it; the original is a recipe of its
    settings (docs/differences.md)."""

    defaults = SelfTraining.defaults | {
        "DATASET.SAMPLING": "random",
        "TEACHER.ALPHA": 0.99,
    }


class DAFormer(SelfTraining):
    """DAFormer (arXiv 2111.14887): rare-class sampling and feature distance on top of DACS."""

    defaults = SelfTraining.defaults | {
        "DATASET.SAMPLING": "rare_class",
        "FEATURE_DISTANCE.WEIGHT": 0.005,
    }
    small = SelfTraining.small | RARE


class HRDA(DAFormer):
    """HRDA (arXiv 2204.13132): DAFormer with a context and details."""

    defaults = DAFormer.defaults | {
        "DATASET.RARE_CLASS_CROP_PIXELS": 6000,
        "HRDA.DETAIL": [512, 512],
    }
    small = DAFormer.small | {"HRDA.DETAIL": [32, 48]}


class MIC(HRDA):
    """MIC (arXiv 2212.01322): HRDA that also learns target images with hidden blocks."""

    defaults = HRDA.defaults | {"MASK.WEIGHT": 1.0}
    small = HRDA.small | {"MASK.BLOCK": 16}


class SePiCo(SelfTraining):
    """SePiCo (arXiv 2204.08808, DistCL): contrast of pixels with distributions of classes."""

    defaults = SelfTraining.defaults | {
        "DATASET.SAMPLING": "rare_class",
        "STRONG.SOURCE": True,
        "CONTRAST.WEIGHT": 1.0,
    }
    mixes_batch = True
    small = SelfTraining.small | RARE
    small |= {"CONTRAST.HIDDEN": 16, "CONTRAST.WIDTH": 8, "CONTRAST.START": 0}
