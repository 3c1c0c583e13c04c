"""Mask2Former (arXiv 2112.01527) on transformers' layers, for every trunk.

Layers 1–4 of the trunk pass a pixel decoder of deformable attention; queries attend to its features
where their own masks are, and predict a class and a mask each, before the first and after every
decoder layer. All of that is transformers'; matching and losses are loss/mask_classification.py.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce

import torch
import torch.nn.functional as F
from easydict import EasyDict
from torch import Tensor, nn

from loss.consistency import jensen_shannon
from loss.mask_classification import MaskClassificationLoss, QueryPrediction
from network.decoders.decoder import Decoder
from network.trunks.trunk import Trunk
from utils.errors import UserError
from utils.settings import Setting

try:
    from transformers import Mask2FormerConfig
    from transformers.models.mask2former.modeling_mask2former import (
        Mask2FormerPixelDecoder,
        Mask2FormerTransformerModule,
    )
except ImportError as error:
    raise UserError(
        f"--decoder mask2former needs a package ({error}): pip install -r requirements-extra.txt"
    ) from error

# The posterior of a pixel is its class scores plus this, over their sum: where no query claims a
# pixel it is uniform, and its logarithm has a bounded gradient.
FLOOR = 1e-6
NORM_GROUPS = 32  # of the pixel decoder's group norms
QUERIES_AT_ONCE = 8  # whose masks are resized to the image together


@dataclass
class MaskOutput:
    """Predictions before the first and after each decoder layer, the last one counts; `size` (H, W)
    of the image.

    The scores of the classes are only computed when they are asked for: a mask has a quarter of the
    image's resolution, and there are many.
    """

    layers: Sequence[QueryPrediction]
    size: tuple[int, int]

    @cached_property
    def scores(self) -> Tensor:
        """`[B, K, H, W]` in float32: Σ over queries of P(class) · sigmoid(mask), the mask's logits
        resized to the image before the sigmoid (Mask2Former, semantic inference)."""
        classes, masks = self.layers[-1]
        # Masks of the image's size, of all queries at once where a gradient needs them anyway.
        queries = masks.shape[1] if torch.is_grad_enabled() else QUERIES_AT_ONCE
        with torch.autocast(masks.device.type, enabled=False):
            classes, masks = (x if x.dtype.itemsize >= 4 else x.float() for x in (classes, masks))
            probabilities = classes.softmax(2)[..., :-1].transpose(1, 2)
            shares = zip(probabilities.split(queries, 2), masks.split(queries, 1), strict=True)
            return reduce(Tensor.add_, (self._scores_of(*share) for share in shares))

    def _scores_of(self, probabilities: Tensor, masks: Tensor) -> Tensor:
        """Return the scores of queries with `probabilities` `[B, K, q]`, masks `[B, q, h, w]`."""
        masks = F.interpolate(masks, self.size, mode="bilinear", align_corners=False)
        return (probabilities @ masks.sigmoid().flatten(2)).unflatten(2, self.size)

    @cached_property
    def logits(self) -> Tensor:
        """`[B, K, H, W]`: the logarithm of the posterior, the scores over their sum."""
        return (self.scores + FLOOR).log().log_softmax(1)


class Mask2Former(Decoder):
    """Pixel decoder, transformer decoder and a class head on every query of every layer."""

    settings = {
        "DECODER": {
            "CHANNELS": Setting(256, "width of all layers, a multiple of 32", minimum=NORM_GROUPS),
            "QUERIES": Setting(100, "masks that are predicted", minimum=1),
            "PIXEL_LAYERS": Setting(6, "deformable attention layers of the pixel decoder"),
            "PIXEL_FEEDFORWARD": Setting(1024, "width inside them", minimum=1),
            "LAYERS": Setting(9, "masked attention layers of the transformer decoder", minimum=1),
            "FEEDFORWARD": Setting(2048, "width inside them", minimum=1),
            "HEADS": Setting(8, "attention heads", minimum=1),
            "CLASS_WEIGHT": Setting(2.0, "of the class loss, and in the cost of matching"),
            "MASK_WEIGHT": Setting(5.0, "of the masks' binary cross entropy, likewise"),
            "DICE_WEIGHT": Setting(5.0, "of the masks' dice loss, likewise"),
            "NO_OBJECT_WEIGHT": Setting(0.1, "of a query without a target in the class loss"),
            "POINTS": Setting(12544, "points at which masks are compared", minimum=4),
            "TARGETS": Setting(
                "present",
                "classes that queries are matched with; all as published: absent ones as empty "
                "masks",
                choices=("present", "all"),
            ),
            "VOID": Setting(
                "ignored",
                "what void is in the masks' losses; background as published",
                choices=("ignored", "background"),
            ),
            "CONSISTENCY": Setting(
                "posterior",
                "what prediction consistency compares; scores as published: a softmax over the "
                "scores, which is nearly flat",
                choices=("posterior", "scores"),
            ),
        },
    }
    # Mask2Former's own recipe; SRHA's published one is SGD at 5e-5 and 1e-4 (docs/differences.md).
    defaults = {
        "TRAIN.OPTIMIZER": "adamw",
        "TRAIN.LR_ENCODER": 1e-5,
        "TRAIN.LR_DECODER": 1e-4,
        "TRAIN.WEIGHT_DECAY": 0.05,
        "TRAIN.NO_DECAY": ["norms", "embeddings"],
        "TRAIN.CLIP_NORM": 0.01,
    }
    small = {
        "DECODER.CHANNELS": 32,
        "DECODER.QUERIES": 12,
        "DECODER.PIXEL_LAYERS": 1,
        "DECODER.PIXEL_FEEDFORWARD": 32,
        "DECODER.LAYERS": 2,
        "DECODER.FEEDFORWARD": 32,
        "DECODER.HEADS": 4,
        "DECODER.POINTS": 64,
    }
    traced = False  # transformers' layers read the sizes of features as numbers
    waits = 1  # for the costs of matching
    wanted_strides = {1: 4, 2: 8, 3: 16, 4: 32}

    def __init__(self, trunk: Trunk, num_classes: int, cfg: EasyDict):
        super().__init__(trunk)
        options = cfg.DECODER
        for name, divisor in (("32", NORM_GROUPS), (f"HEADS {options.HEADS}", options.HEADS)):
            if options.CHANNELS % divisor:
                raise UserError(f"DECODER.CHANNELS {options.CHANNELS} is no multiple of {name}")
        config = layers_config(cfg)
        self.pixel_decoder = Mask2FormerPixelDecoder(config, list(trunk.channels[1:5]))
        self.transformer = Mask2FormerTransformerModule(config.feature_size, config)
        self.class_predictor = nn.Linear(config.hidden_dim, num_classes + 1)
        draw_weights(self.pixel_decoder, self.transformer)
        if hasattr(trunk.adapter, "queries"):
            self._take_queries(trunk.adapter, options)
        self.criterion = MaskClassificationLoss(
            (options.CLASS_WEIGHT, options.MASK_WEIGHT, options.DICE_WEIGHT),
            options.NO_OBJECT_WEIGHT,
            options.POINTS,
            every_class=options.TARGETS == "all",
            void_is_background=options.VOID == "background",
        )
        self.compares_scores = options.CONSISTENCY == "scores"

    def _take_queries(self, adapter: nn.Module, options: EasyDict) -> None:
        """Let the trunk's tokens be the queries (Rein): their positions, and through a linear layer
        their features."""
        if adapter.number != options.QUERIES:
            raise UserError(
                f"TUNING.TOKENS {adapter.number} make the queries, so DECODER.QUERIES "
                f"{options.QUERIES} has to be the same number"
            )
        adapter.add_queries(options.CHANNELS)
        self.transformer.queries_embedder = TokenQueries(adapter, nn.Identity())
        features = nn.Linear(options.CHANNELS, options.CHANNELS)
        self.transformer.queries_features = TokenQueries(adapter, features)

    def train(self, mode: bool = True) -> "Mask2Former":
        """Switch to training, but for the pixel decoder's attention layers.

        Without dropout the mode changes nothing in them but a check for finite values, for which
        the host would wait in every layer.
        """
        super().train(mode)
        self.pixel_decoder.encoder.eval()
        return self

    def forward(self, features: Mapping[int, Tensor], size: tuple[int, int]) -> MaskOutput:
        """Segment trunk features {1, 2, 3, 4} at the image `size` (H, W)."""
        features = self.pyramid(features)
        pixels = self.pixel_decoder([features[i] for i in range(1, 5)])
        queries = self.transformer(list(pixels.multi_scale_features), pixels.mask_features)
        states = queries.intermediate_hidden_states
        classes = [self.class_predictor(state.transpose(0, 1)) for state in states]
        pairs = zip(classes, queries.masks_queries_logits, strict=True)
        return MaskOutput([QueryPrediction(*pair) for pair in pairs], tuple(size))

    def losses(
        self, output: MaskOutput, labels: Tensor, weight: Tensor | None = None
    ) -> dict[str, Tensor]:
        """Return class, mask and dice loss, weighted, summed over all predictions, by name.

        `labels` `[B, H, W]`; `weight` `[B, H, W]` as in MaskClassificationLoss.
        """
        return self.criterion(output.layers, labels, weight)

    def divergence(self, output: MaskOutput) -> Tensor:
        """Return the JS divergence of the two halves of a batch, as DECODER.CONSISTENCY says."""
        compared = output.scores if self.compares_scores else output.logits
        return jensen_shannon(*compared.chunk(2))


class TokenQueries(nn.Module):
    """In place of an embedding: its `weight` `[m, width]` is made of a trunk's tokens."""

    def __init__(self, adapter: nn.Module, projection: nn.Module):
        super().__init__()
        # In a tuple: it is a part of the trunk.
        self.adapter = (adapter,)
        self.projection = projection

    @property
    def weight(self) -> Tensor:
        """What transformers' layers read."""
        return self.projection(self.adapter[0].queries())


def layers_config(cfg: EasyDict) -> Mask2FormerConfig:
    """Return the configuration of transformers' layers that the settings describe."""
    options = cfg.DECODER
    return Mask2FormerConfig(
        feature_size=options.CHANNELS,
        mask_feature_size=options.CHANNELS,
        hidden_dim=options.CHANNELS,
        encoder_layers=options.PIXEL_LAYERS,
        encoder_feedforward_dim=options.PIXEL_FEEDFORWARD,
        # It counts the prediction before the first layer.
        decoder_layers=options.LAYERS + 1,
        dim_feedforward=options.FEEDFORWARD,
        num_attention_heads=options.HEADS,
        num_queries=options.QUERIES,
        dropout=0.0,
        # Not the trunk's own: with these the features of layers 1–3 join in on the way down, as in
        # the published run, and not layer 1 alone (log2 2 − log2 4 levels, counted from the end).
        feature_strides=[1, 2, 2, 2],
        common_stride=4,
    )


@torch.no_grad()
def draw_weights(
    pixel_decoder: Mask2FormerPixelDecoder, transformer: Mask2FormerTransformerModule
) -> None:
    """Draw the weights of transformers' layers as Mask2Former's release does.

    What is not named here keeps torch's own initialisation, there as here. transformers'
    `post_init()` is not that: it leaves nearly everything at a deviation of 0.02 (5.17 to 5.23),
    masks of queries and of pixels several times too small, and deformable attention without its
    spread of points.
    """
    nn.init.normal_(pixel_decoder.level_embed)
    for name, module in pixel_decoder.named_modules():
        if isinstance(module, nn.Conv2d):
            if name.startswith("input_projections"):
                nn.init.xavier_uniform_(module.weight)
            else:
                nn.init.kaiming_uniform_(module.weight, a=1)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    for layer in pixel_decoder.encoder.layers:
        nn.init.xavier_uniform_(layer.fc1.weight)
        nn.init.xavier_uniform_(layer.fc2.weight)
        _initialise_deformable(layer.self_attn)
    for layer in transformer.decoder.layers:
        for name, parameter in layer.named_parameters():
            if parameter.dim() > 1:
                # Those of self-attention were one matrix of three times as many rows.
                joint = name.startswith(("self_attn.q", "self_attn.k", "self_attn.v"))
                nn.init.xavier_uniform_(parameter, gain=0.5**0.5 if joint else 1.0)
            elif "attn." in name:
                nn.init.zeros_(parameter)


def _initialise_deformable(attention: nn.Module) -> None:
    """Let each head look in a direction of its own, its points at distances 1, 2, 3 … (Deformable
    DETR, arXiv 2010.04159)."""
    angles = torch.arange(attention.n_heads) * (2 * math.pi / attention.n_heads)
    directions = torch.stack([angles.cos(), angles.sin()], dim=1)
    directions /= directions.abs().max(dim=1, keepdim=True).values
    distances = torch.arange(1, attention.n_points + 1)
    offsets = directions[:, None, None] * distances[:, None]
    offsets = offsets.expand(-1, attention.n_levels, -1, -1)
    nn.init.zeros_(attention.sampling_offsets.weight)
    attention.sampling_offsets.bias.copy_(offsets.flatten())
    for linear in (attention.attention_weights, attention.value_proj, attention.output_proj):
        nn.init.zeros_(linear.bias)
    nn.init.zeros_(attention.attention_weights.weight)
    nn.init.xavier_uniform_(attention.value_proj.weight)
    nn.init.xavier_uniform_(attention.output_proj.weight)
