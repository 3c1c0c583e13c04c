"""The engine of DIDEX: an image drawn anew by Stable Diffusion 2 from its depth and a prompt.

Through diffusers' StableDiffusionDepth2ImgPipeline. Settings are those of the published script
(arXiv 2312.01850); what differs from it is in docs/differences.md.
"""

import os
from collections.abc import Sequence
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from utils.errors import UserError
from utils.extras import import_extra

MODEL = "sd2-community/stable-diffusion-2-depth"
WITHDRAWN = "stabilityai/stable-diffusion-2-depth"
MULTIPLE = 64  # pixels; sides of what the network draws
WIDEST = 1280  # pixels; a wider source is halved, as GTAV is
SCHEDULE = {
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
    "timestep_spacing": "leading",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "prediction_type": "epsilon",
}


class Sampling(NamedTuple):
    """How an image is drawn: denoising steps of a whole schedule, the share of it that is run (1
    leaves nothing of the source but its depth), classifier-free guidance, and the factor by which
    the source is resized before (0: halved where it is wider than WIDEST)."""

    steps: int = 25
    strength: float = 0.9
    guidance: float = 9.0
    scale: float = 0.0


class Flawed(Exception):
    """An image that the model cannot draw; the message says why."""


class Diffusion:
    """Draws images by a model on a device; weights are float16 on a GPU, float32 on the CPU."""

    def __init__(self, model: str, device: torch.device, sampling: Sampling):
        """Load the model, a folder or the name of a hub; UserError where it cannot be had."""
        half = device.type == "cuda"
        diffusers = load_diffusers()
        _be_quiet()
        pipeline = load_pipeline(diffusers, model, torch.float16 if half else torch.float32)
        pipeline.scheduler = diffusers.DDIMScheduler(**SCHEDULE)
        pipeline.set_progress_bar_config(disable=True)
        self.pipeline, self.device, self.sampling = pipeline.to(device), device, sampling
        if half:
            pipeline.enable_attention_slicing()
        # transformers' DPT refuses every size but its own; bicubic, without keeping the aspect.
        side = pipeline.depth_estimator.config.image_size
        self.processor = import_module("transformers").DPTImageProcessor(
            size={"height": side, "width": side},
            resample=Image.Resampling.BICUBIC,
            keep_aspect_ratio=False,
            image_mean=[0.5] * 3,
            image_std=[0.5] * 3,
            do_pad=False,
        )

    def draw(
        self, images: Sequence[Image.Image], prompts: Sequence[str], seeds: Sequence[int]
    ) -> list[Image.Image]:
        """Return each image drawn after its prompt, at its own size; they have one size.

        An image depends on its seed and not on the others, but for rounding. Flawed for an image
        without depth and where the network returns no numbers; torch's error where memory is out.
        """
        inputs = [padded(resized(image, self.sampling.scale)) for image in images]
        generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
        drawn = self.pipeline(
            prompt=list(prompts),
            image=inputs,
            depth_map=self.depth(inputs),
            strength=self.sampling.strength,
            num_inference_steps=self.sampling.steps,
            guidance_scale=self.sampling.guidance,
            negative_prompt=[""] * len(images),
            generator=generators,
            output_type="pt",
        ).images
        if not drawn.isfinite().all():
            raise Flawed("the network returns values that are no numbers")
        pixels = (drawn.float().permute(0, 2, 3, 1) * 255).round().to(torch.uint8).cpu().numpy()
        return [
            unpadded(Image.fromarray(own), image, self.sampling.scale)
            for own, image in zip(pixels, images, strict=True)
        ]

    @torch.no_grad()
    def depth(self, images: list[Image.Image]) -> Tensor:
        """Return inverse depths `[B, h, w]` of images of one size; Flawed where one is constant,
        which the pipeline would divide by its range of 0."""
        pixels = self.processor(images=images, return_tensors="pt").pixel_values
        estimator = self.pipeline.depth_estimator
        # The hybrid has batch norms, which are not for float16.
        half = torch.autocast(self.device.type, torch.float16)
        with half if self.device.type == "cuda" else nullcontext():
            found = estimator(pixels.to(self.device, estimator.dtype)).predicted_depth.float()
        low, high = found.flatten(1).aminmax(dim=1)
        if not ((high - low) > 1e-6 * high.abs().clamp(min=1)).all():
            raise Flawed("its depth is the same everywhere")
        return found

    def too_long(self, prompts: Sequence[str]) -> list[tuple[str, str]]:
        """Return the prompts that the text encoder cuts off, each with what it leaves out."""
        tokenizer = self.pipeline.tokenizer
        kept = tokenizer.model_max_length - 2  # without the marks of begin and end
        found = []
        for prompt in prompts:
            tokens = tokenizer(prompt, add_special_tokens=False, verbose=False).input_ids
            if len(tokens) > kept:
                found.append((prompt, tokenizer.decode(tokens[kept:]).strip()))
        return found


def load_diffusers() -> Any:
    """Import diffusers; UserError with the pip line without it."""
    return import_extra(
        "drawings by diffusion",
        "diffusers",
        "transformers",
        requirements="requirements-diffusion.txt",
    )


def load_pipeline(diffusers: Any, model: str, dtype: torch.dtype) -> Any:
    """Load the pipeline from a folder, without network, or from a hub; UserError names the ways."""
    pipeline, folder = diffusers.StableDiffusionDepth2ImgPipeline, Path(model).is_dir()
    if not folder and (model.startswith((".", "~", os.sep)) or model.count("/") != 1):
        raise UserError(f"--model {model}: there is no such folder")
    transformers = import_module("transformers")
    if not hasattr(transformers, "DPTFeatureExtractor"):
        # Repositories of 2022 name the class as it was called before transformers 5.
        transformers.DPTFeatureExtractor = transformers.DPTImageProcessor
    try:
        return pipeline.from_pretrained(model, dtype=dtype, local_files_only=folder)
    except (MemoryError, torch.OutOfMemoryError):
        raise
    # Hub and loaders raise errors of many kinds: no network, no such name, a file that is damaged.
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        if folder:
            raise UserError(
                f"--model {model}: the folder holds no pipeline that can be loaded ({reason}); it "
                "is one that save_pretrained or a download of the whole repository wrote"
            ) from None
        withdrawn = f"{WITHDRAWN} was withdrawn from the hub in November 2025. "
        raise UserError(
            f"cannot load --model {model} from the hub ({reason}). "
            f"{withdrawn if model == WITHDRAWN else ''}{MODEL} is the mirror in use; where there "
            "is no network, download the whole repository elsewhere and name its folder: --model "
            "FOLDER. --engine restyle needs no model"
        ) from None


def resized(image: Image.Image, scale: float) -> Image.Image:
    """Resize bicubically by `scale`, 0: by half where the image is wider than WIDEST."""
    scale = scale or (0.5 if image.width > WIDEST else 1)
    size = tuple(max(1, round(scale * side)) for side in image.size)
    return image if size == image.size else image.resize(size, Image.Resampling.BICUBIC)


def padded(image: Image.Image) -> Image.Image:
    """Repeat the last column and row until the sides are multiples of MULTIPLE."""
    right, bottom = (-side % MULTIPLE for side in image.size)
    return Image.fromarray(np.pad(np.asarray(image), ((0, bottom), (0, right), (0, 0)), "edge"))


def unpadded(drawn: Image.Image, source: Image.Image, scale: float) -> Image.Image:
    """Cut what `padded` added from a drawn image, and bring it to the source's size."""
    own = drawn.crop((0, 0, *resized(source, scale).size))
    return own.resize(source.size, Image.Resampling.BICUBIC)


def _be_quiet() -> None:
    """Keep bars and remarks of both libraries from the screen; `too_long` says what matters."""
    for name in ("diffusers", "transformers"):
        logging = import_module(f"{name}.utils.logging")
        logging.set_verbosity_error()
        logging.disable_progress_bar()
