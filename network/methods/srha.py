"""SRHA (Neural Networks 2025), also published as SRMA (arXiv 2404.13701).

The image's low-level feature and a copy whose regions swapped styles (SRM) pass the student as one
batch; a frozen neutral network sees them too, and both streams are aligned with what it says of the
original (HAC / MLA). Both predictions are supervised and pulled together (PCPC).
"""

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from easydict import EasyDict
from torch import Tensor, nn

from datasets.sampling.passes import SourcePass
from network.methods.method import Findings, Method
from network.neutral import NeutralTrunk, UntunedTrunk
from network.regions.across import Projected, Related
from network.regions.alignment import HierarchicalAlignment
from network.regions.rearrangement import (
    SemanticRearrangement,
    StyleElimination,
    eliminate_style,
)
from network.trunks.trunk import Trunk
from network.tuning import plain_trunk
from utils.errors import UserError
from utils.settings import Setting


class SRHA(Method):
    """Semantic rearrangement and hierarchical alignment; every part is a setting of its own."""

    settings = {
        "STEM_FROZEN": Setting(True, "layer 0 keeps its pretrained weights and statistics"),
        "STYLE_ELIMINATION": Setting(
            True, "normalise what enters layer 1 per image and channel, in evaluation too"
        ),
        "STYLE_SHARE": Setting(
            1.0,
            "how far style elimination goes: 1, all the way (published); 0.5, half of it, of means "
            "and of the logarithms of deviations",
            maximum=1,
        ),
        "STYLE_REFERENCE": Setting(
            0,
            "so many images of each source, seen before the first step, whose mean statistics are "
            "given to all features after style elimination; 0: none (published)",
        ),
        "SRM": {
            "ENABLED": Setting(True, "train on a second stream with rearranged regional styles"),
            "CONCENTRATION": Setting(
                2**-6, "α of the Dirichlet weights that mix styles", minimum=1e-4
            ),
            "SCOPE": Setting("image", "where styles are borrowed from", choices=("image", "batch")),
            "VOID_IS_REGION": Setting(True, "void is a region, in SRM and in regional alignment"),
            "MIN_PLACES": Setting(
                1,
                "places of a feature; a smaller region lends no style and keeps its own",
                minimum=1,
            ),
            "LABELS": Setting(
                "nearest",
                "the label of a place, in SRM and in regional alignment: that of a pixel "
                "(published) or of most of its pixels",
                choices=("nearest", "majority"),
            ),
            "AFTER_ELIMINATION": Setting(
                False,
                "SRM acts behind style elimination, and the rearranged stream is not normalised "
                "again; off: before it (published)",
            ),
            "OF": Setting(
                "feature",
                "whose regions are restyled: layer 0's feature (published), or the image",
                choices=("feature", "image"),
            ),
        },
        "TEACHER": {
            "TRUNK": Setting(
                "",
                "neutral backbone, a name of network/trunks; empty: the student's (published). "
                "Another one is compared as ALIGN.ACROSS says",
            ),
            "WEIGHTS": Setting("", "the neutral weights, as TRUNK.WEIGHTS; empty: the same"),
            "BATCH_STATISTICS": Setting(
                True, "the teacher's batch norm uses batch statistics, not those of pretraining"
            ),
            "STREAMS": Setting(
                "both",
                "what the teacher's batch statistics see; original halves its cost",
                choices=("both", "original"),
            ),
        },
        "ALIGN": {
            "GLOBAL": Setting([0.4, 0.6, 0.8, 1.0], "weights of global alignment, layers 1-4"),
            "REGIONAL": Setting([0.4, 0.6, 0.8, 1.0], "weights of regional alignment, layers 1-4"),
            "LOCAL": Setting([0.4, 0.6, 0.8, 1.0], "weights of local alignment, layers 1-4"),
            "RELATIVE": Setting(
                False,
                "divide each layer's terms by the mean square of the neutral feature (not "
                "published: features of different networks then weigh alike)",
            ),
            "NORMALISED": Setting(
                False, "compare features after a layer norm over the channels of each place"
            ),
            "ACROSS": Setting(
                "projection",
                "how features of another TEACHER.TRUNK are compared: through a learned 1×1 "
                "convolution of the student's, or by similarities between images, regions, places",
                choices=("projection", "relation"),
            ),
        },
        "CONSISTENCY": {
            "WEIGHT": Setting(
                10.0, "weight of the JS divergence between the streams; 0: off", minimum=0
            ),
        },
    }

    # A proposal (docs/foundation.md): few places, features of huge norm, weights that expect the
    # trained scale of each channel.
    columnar_defaults = {
        "STYLE_ELIMINATION": False,
        "SRM.MIN_PLACES": 8,
        "TEACHER.STREAMS": "original",
        "ALIGN.GLOBAL": [0.0, 0.0, 0.0, 0.0],
        "ALIGN.REGIONAL": [0.0, 0.0, 0.0, 0.0],
        "ALIGN.LOCAL": [0.0, 0.0, 0.0, 0.1],
        "ALIGN.RELATIVE": True,
        "CONSISTENCY.WEIGHT": 1.0,
        "TRAIN.WARMUP": 1000,
    }
    # The teacher's statistics, and the mean square of its features, are those of all images of a
    # pass.
    mixes_batch = {"TEACHER.BATCH_STATISTICS": False, "ALIGN.RELATIVE": False}

    def __init__(self, cfg: EasyDict, num_classes: int, pretrained: bool = True):
        super().__init__(cfg, num_classes, pretrained)
        self.cfg = cfg
        self.restyles_images = cfg.SRM.OF == "image"
        self._eliminate(cfg)
        self.stem_frozen = cfg.STEM_FROZEN
        if self.stem_frozen:
            self.trunk.layer0.requires_grad_(False)
        void_is_region, majority = cfg.SRM.VOID_IS_REGION, cfg.SRM.LABELS == "majority"
        if cfg.SRM.ENABLED:
            self.rearrangement = SemanticRearrangement(
                num_classes,
                cfg.SRM.CONCENTRATION,
                cfg.SRM.SCOPE,
                void_is_region,
                cfg.SRM.MIN_PLACES,
                majority,
            )
        self.restyles_last = cfg.SRM.AFTER_ELIMINATION
        self.consistency_weight = cfg.CONSISTENCY.WEIGHT
        # Where nothing is trained, alignment has no gradient.
        first, weights = self.trunk.first_trained, []
        given = (cfg.ALIGN.GLOBAL, cfg.ALIGN.REGIONAL, cfg.ALIGN.LOCAL)
        self.left_out = min(first - 1, 4) if any(any(own[: first - 1]) for own in given) else 0
        for own in given:
            weights.append([w if layer >= first else 0.0 for layer, w in enumerate(own, start=1)])
        self.alignment = HierarchicalAlignment(
            num_classes,
            *weights,
            void_is_region,
            cfg.ALIGN.RELATIVE,
            majority,
            cfg.ALIGN.NORMALISED,
        )
        self.teacher, self.teacher_stem = None, None
        if self.alignment.last_layer:
            self._add_teacher(cfg, pretrained)

    def _add_teacher(self, cfg: EasyDict, pretrained: bool) -> None:
        """Build the neutral network, and what compares its features if it is of another kind."""
        name = cfg.TEACHER.TRUNK or cfg.TRUNK.NAME
        weights = cfg.TEACHER.WEIGHTS or cfg.TRUNK.WEIGHTS
        last = self.alignment.last_layer
        if (name, weights) == (cfg.TRUNK.NAME, cfg.TRUNK.WEIGHTS) and self.trunk.can_be_neutral:
            self.teacher_sees_both = False
            self.teacher = UntunedTrunk(self.trunk, 1, last)
            return
        teacher = plain_trunk(cfg, pretrained=pretrained, name=name, weights=weights)
        if any(side % teacher.multiple for side in cfg.TRANSFORM.CROP_SIZE):
            height, width = cfg.TRANSFORM.CROP_SIZE
            raise UserError(
                f"TRANSFORM.CROP_SIZE {height},{width} is no multiple of {teacher.multiple}, which "
                f"TEACHER.TRUNK {name} needs"
            )
        if name != cfg.TRUNK.NAME:
            self.alignment.across = self._across(cfg, teacher)
        # A student whose layer 0 stays at the neutral weights shares it with the teacher; a
        # checkpoint to start from (INIT) may have brought others.
        starts_neutral = (name, weights) == (cfg.TRUNK.NAME, cfg.TRUNK.WEIGHTS) and not cfg.INIT
        if not (self.stem_frozen and starts_neutral):
            self.teacher_stem = teacher.layer0.requires_grad_(False)
        self.teacher_sees_both = cfg.TEACHER.STREAMS == "both" and teacher.has_batch_norm
        self.teacher = NeutralTrunk(teacher, 1, last, cfg.TEACHER.BATCH_STATISTICS)

    def _across(self, cfg: EasyDict, teacher: Trunk) -> nn.Module:
        """Return what compares the student's features with those of another backbone."""
        if cfg.ALIGN.ACROSS == "projection":
            return Projected(self.trunk.channels, teacher.channels, self.alignment.layers)
        if cfg.ALIGN.RELATIVE:
            raise UserError(
                "ALIGN.RELATIVE has no use with ALIGN.ACROSS relation: similarities do not grow "
                "with features; switch one of them off"
            )
        return Related()

    def _eliminate(self, cfg: EasyDict) -> None:
        """Put style elimination before layer 1."""
        asked = {
            "STYLE_SHARE": cfg.STYLE_SHARE < 1,
            "STYLE_REFERENCE": cfg.STYLE_REFERENCE > 0,
            "SRM.AFTER_ELIMINATION": cfg.SRM.AFTER_ELIMINATION,
        }
        for key, given in asked.items():
            if given and not cfg.STYLE_ELIMINATION:
                raise UserError(
                    f"{key} is about STYLE_ELIMINATION, which is off (it is by default on "
                    "transformers); switch it on"
                )
        if cfg.SRM.AFTER_ELIMINATION and self.restyles_images:
            raise UserError(
                "SRM.AFTER_ELIMINATION is about the features that SRM restyles, and SRM.OF image "
                "restyles images; leave one of them"
            )
        if cfg.STYLE_REFERENCE:
            self.elimination = StyleElimination(self.trunk.channels[0], cfg.STYLE_SHARE)
            self.inference_parts = (*self.inference_parts, "elimination")
            self.after = {0: self.elimination}
        elif cfg.STYLE_ELIMINATION:
            self.after = {0: partial(eliminate_style, share=cfg.STYLE_SHARE)}

    def survey_due(self, step: int, epoch: int) -> SourcePass | None:
        """Before the first step, the images whose style is that of reference."""
        number = self.cfg.STYLE_REFERENCE
        return SourcePass(whole=False, images=number) if number and step == 0 else None

    def survey(self, batches: Iterator[dict[str, Any]], number: int) -> Findings:
        """Measure the style of reference."""
        self.elimination.measure(self.trunk(batch["image"], stop=0)[0] for batch in batches)
        return Findings([f"style elimination restores the mean style of {number} crops"], {}, {})

    def remarks(self, epoch: int) -> list[str]:
        """Also which alignment has no gradient."""
        said = super().remarks(epoch)
        if self.left_out:
            layers = f"1-{self.left_out}" if self.left_out > 1 else "1"
            said.append(f"ALIGN: nothing is trained up to layers {layers}, which are left out")
        return said

    def without_effect(self) -> list[str]:
        """Return settings that are about batch norms which student or teacher lack."""
        idle = super().without_effect()
        if self.teacher is not None and not self.teacher.trunk.has_batch_norm:
            idle += ["TEACHER.BATCH_STATISTICS", "TEACHER.STREAMS"]
        return idle

    def train(self, mode: bool = True) -> "SRHA":
        """Switch to training; a frozen layer 0 keeps the statistics of pretraining."""
        super().train(mode)
        if self.stem_frozen:
            self.trunk.layer0.eval()
        if self.teacher_stem is not None:
            self.teacher_stem.eval()
        return self

    def training_losses(self, batch: dict[str, Any]) -> dict[str, Tensor]:
        """Return CE, auxiliary CE, the alignment terms and the consistency term, weighted."""
        images, labels = batch["image"], batch["label"]
        seen = self._with_restyled(images, labels, self.restyles_images)
        with torch.no_grad() if self.stem_frozen else nullcontext():
            streams = self.trunk(seen, stop=0)[0]
        # The teacher shares what enters layer 1, so that hook is not left to the trunk.
        streams = self._enter_layer1(streams, labels, not self.restyles_images)
        if self.rearrangement is not None:
            labels = torch.cat([labels, labels])

        later = {i: act for i, act in self.after.items() if i > 0}
        features = self.trunk(streams, start=1, after=later)
        output = self.decoder(features, images.shape[-2:])
        if self.rearrangement is not None and self.consistency_weight:
            losses, divergence = self.decoder.paired_losses(output, labels)
            losses["consistency"] = self.consistency_weight * divergence
        else:
            losses = self.decoder.losses(output, labels)
        if self.teacher is not None:
            targets = self._targets(seen, streams, batch["label"])
            losses |= self.alignment(features, targets, batch["label"])
        return losses

    def _with_restyled(self, x: Tensor, labels: Tensor, here: bool) -> Tensor:
        """Add the rearranged stream to the original `[B, C, h, w]`, if it is made `here`."""
        if self.rearrangement is None or not here:
            return x
        return torch.cat([x, self.rearrangement(x, labels)])

    def _enter_layer1(self, feature: Tensor, labels: Tensor, restyled: bool) -> Tensor:
        """Return what enters layer 1 of layer 0's feature, and of its copy if it is `restyled`."""
        eliminate = self.after.get(0, nn.Identity())
        if self.restyles_last:
            return self._with_restyled(eliminate(feature), labels, restyled)
        return eliminate(self._with_restyled(feature, labels, restyled))

    @torch.no_grad()
    def _targets(self, seen: Tensor, streams: Tensor, labels: Tensor) -> dict[int, Tensor]:
        """Neutral features {i: `[B, C, h, w]`} of the B original images, the first that are `seen`.

        `streams` is what enters the student's layer 1. The rearranged one is there for the
        teacher's batch statistics alone (as published).
        """
        number = len(labels)
        if self.teacher_stem is not None:
            streams = self.teacher_stem(seen if self.teacher_sees_both else seen[:number])
            here = self.teacher_sees_both and not self.restyles_images
            streams = self._enter_layer1(streams, labels, here)
        elif not self.teacher_sees_both:
            streams = streams[:number]
        features = self.teacher(streams)
        return {i: feature[:number] for i, feature in features.items()}
