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
from network.methods.method import Method, refuse_unknown_classes
from network.neutral import UntunedTrunk
from network.regions.cells import PURITY, feature_distance
from network.regions.statistics import pure_cells
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
from network.self_training.settings import SETTINGS, refuse_small
from network.self_training.teacher import EMATeacher
from network.self_training.views import MultiScale, SingleScale
from network.trunks.trunk import statistics_at_rest
from network.tuning import plain_trunk
from transforms import PhotographTransform
from transforms.recipe import refuse_wide_blur
from transforms.strong import StrongAugmentation, Switches
from utils.errors import UserError
from utils.labels import VOID

# Of networks for tests, on images of some 300 pixels a side.
RARE = {"DATASET.RARE_CLASS_PIXELS": 50, "DATASET.RARE_CLASS_CROP_PIXELS": 10}


class Target(NamedTuple):
    """Target crops `image` `[B, 3, H, W]`, their pseudo-labels `label` and weights `[B, H, W]`."""

    image: Tensor
    label: Tensor
    weight: Tensor


class SelfTraining(Method):
    """The step that all methods of the family share (docs/self_training.md)."""

    settings = SETTINGS
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
        if any(cfg.HRDA.DETAIL) and not all(cfg.HRDA.DETAIL):
            raise UserError(f"HRDA.DETAIL is {cfg.HRDA.DETAIL}: give both sides, or 0,0 for none")
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
        multiple, stride = self.trunk.multiple, self.decoder.stride
        if multiple > 1 and multiple % stride:
            raise UserError(
                f"HRDA.DETAIL needs logits whose stride divides that of the trunk, {multiple}; the "
                f"decoder's is {stride} (TRUNK.PATCH 16 has one)"
            )
        self.attention = AttentionHead(self.trunk, num_classes)
        self.inference_parts = (*self.inference_parts, "attention")
        self.view = MultiScale(
            cfg.HRDA.DETAIL, self.decoder.stride, self.trunk.multiple, cfg.HRDA.DETAIL_WEIGHT
        )

    def _reference(self, cfg: EasyDict, pretrained: bool) -> nn.Module:
        """Build the trunk that features stay close to."""
        classes = cfg.FEATURE_DISTANCE.CLASSES
        refuse_unknown_classes(
            "FEATURE_DISTANCE.CLASSES", classes, self.num_classes, "countable things"
        )
        if self.trunk.can_be_neutral:
            return UntunedTrunk(self.trunk, 0, 4)
        return plain_trunk(cfg, pretrained=pretrained).requires_grad_(False)

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
                "a folder of photographs or to NAME:SPLIT of a dataset; `python -m "
                f"datasets.pseudo_target {cfg.DATASET.SOURCE[0]} --out DIR` draws one from the "
                "source (--engine restyle without a diffusion model)"
            )
        crop = list(cfg.TARGET.CROP_SIZE if any(cfg.TARGET.CROP_SIZE) else cfg.TRANSFORM.CROP_SIZE)
        if any(own < side for own, side in zip(crop, cfg.TRANSFORM.CROP_SIZE, strict=True)):
            raise UserError(
                f"TARGET.CROP_SIZE {crop[0]},{crop[1]} is smaller than TRANSFORM.CROP_SIZE "
                f"{cfg.TRANSFORM.CROP_SIZE[0]},{cfg.TRANSFORM.CROP_SIZE[1]}, which is cut out of it"
            )
        refuse_small(cfg, crop)
        if cfg.STRONG.BLUR_PROBABILITY:
            refuse_wide_blur("STRONG.BLUR_SIGMA", cfg.STRONG.BLUR_SIGMA, cfg.TRANSFORM.CROP_SIZE)
        on_device = cfg.TRANSFORM.PHOTOMETRIC_ON != "worker"
        transform = PhotographTransform(
            crop, cfg.TARGET.SCALE, cfg.TRANSFORM.FLIP, cfg.TARGET.BOX, on_device
        )
        return {"target": Stream(cfg.DATASET.TARGET, transform)}

    def remarks(self, epoch: int) -> list[str]:
        """Also what weakens the method that these settings describe."""
        cfg, said = self.cfg, super().remarks(epoch)
        if self.reference is not None and cfg.TRUNK.WEIGHTS == "none":
            said.append("FEATURE_DISTANCE: features are kept near those of random TRUNK.WEIGHTS")
        # All projected layers have the size of the first.
        if cfg.CONTRAST.WEIGHT and self.trunk.strides[cfg.CONTRAST.LAYERS[0]] > 16:
            said.append(
                "CONTRAST.LAYERS: cells of this stride seldom have one class; published for MiT: "
                "CONTRAST.LAYERS 1,2,3,4 CONTRAST.HIDDEN 256"
            )
        if cfg.CONTRAST.WEIGHT and not any(cfg.TARGET.CROP_SIZE):
            said.append(
                "TARGET.CROP_SIZE is that of a crop, so none is chosen (SePiCo: of the whole image)"
            )
        return said

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

        # Each graph in a call of its own, whose activations end with it.
        yield self._source_losses(student, batch, target, switches)
        yield self._mixed_losses(student, image, label, target, switches)
        if self.cfg.MASK.WEIGHT:
            yield self._masked_losses(student, target)

    def _mixed_losses(
        self,
        student: Mapping[str, nn.Module],
        image: Tensor,
        label: Tensor,
        target: Target,
        switches: Switches,
    ) -> dict[str, Tensor]:
        """Return the losses on target images with pasted classes of the source."""
        mask = class_mask(label, self.num_classes, self.cfg.MIX.OWN_CLASSES)
        mixed = self.strong(paste(mask, image, target.image), switches)
        seen = self.view.train(student, mixed)
        labels, weight = paste(mask, label, target.label), paste(mask, 1.0, target.weight)
        return _prefixed("mix", self.view.losses(student, seen, labels, weight))

    def _masked_losses(self, student: Mapping[str, nn.Module], target: Target) -> dict[str, Tensor]:
        """Return the losses on target images with hidden blocks."""
        masked = self.strong(target.image, self.strong.draw_switches())
        masked = hide_blocks(masked, self.cfg.MASK.BLOCK, self.cfg.MASK.RATIO)
        resting = () if self.cfg.MASK.STATISTICS else student.values()
        with statistics_at_rest(*resting):
            seen = self.view.train(student, masked)
            losses = self.view.losses(student, seen, target.label, target.weight)
        return _prefixed("masked", losses, self.cfg.MASK.WEIGHT)

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
    settings (docs/self_training.md)."""

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
