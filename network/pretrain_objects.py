"""Make the demo's neutral weights: resnet_mini trained to tell the miniature objects apart.

    python -m network.pretrain_objects [--out FILE]

A stand-in for ImageNet, not a substitute: single objects and textures in random palettes, never in
a street, drawn by `datasets/miniature/objects.py`. The file that ships with the project was made by
this command with its default values; it holds the trunk in half precision, without the classifier.
"""

import argparse
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from datasets.miniature.objects import OBJECT_CLASSES, draw_object
from network.trunks.mini import OBJECT_WEIGHTS, ResNetMini
from transforms import normalise

BATCH = 128


def main() -> None:
    """Draw the images, train, report the accuracy on held-out images, write the weights."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=OBJECT_WEIGHTS)
    parser.add_argument("--images", type=int, default=24000, help="training images")
    parser.add_argument("--epochs", type=int, default=12)
    options = parser.parse_args()
    torch.manual_seed(0)
    images, classes = draw_objects(options.images, seed=0)
    held_out = draw_objects(2000, seed=1)
    model = ResNetMini(len(OBJECT_CLASSES)).to(memory_format=torch.channels_last)
    fit(model, images, classes, options.epochs)
    print(f"accuracy on 2000 held-out images: {accuracy(model, *held_out):.1%}")
    state = {k: v.half() if v.is_floating_point() else v for k, v in model.state_dict().items()}
    state = {key: value for key, value in state.items() if not key.startswith("fc.")}
    options.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save(state, options.out)
    print(f"written to {options.out} ({options.out.stat().st_size / 1e6:.2f} MB)")


def draw_objects(number: int, seed: int) -> tuple[Tensor, Tensor]:
    """Draw `number` images `[N, 3, 64, 64]` uint8 and their classes `[N]`, all classes equally."""
    with ProcessPoolExecutor() as pool:
        work = pool.map(partial(_draw_one, seed), range(number), chunksize=64)
        drawn = list(tqdm(work, total=number, desc=f"objects, seed {seed}"))
    images = torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2)
    return images, torch.arange(number) % len(OBJECT_CLASSES)


def _draw_one(seed: int, index: int) -> np.ndarray:
    generator = np.random.default_rng((seed, index))
    return draw_object(generator, index % len(OBJECT_CLASSES))


def fit(model: ResNetMini, images: Tensor, classes: Tensor, epochs: int) -> None:
    """Train by AdamW on a one-cycle rate with flips; images and classes as from `draw`."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=0.02)
    steps = epochs * (len(images) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps)
    model.train()
    with tqdm(total=steps, desc="classifier") as progress:
        for _ in range(epochs):
            for chosen in torch.randperm(len(images))[: len(images) // BATCH * BATCH].split(BATCH):
                batch = images[chosen]
                batch = torch.where(torch.rand(BATCH, 1, 1, 1) < 0.5, batch, batch.flip(3))
                logits = model(normalise(batch))
                loss = F.cross_entropy(logits, classes[chosen], label_smoothing=0.1)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                progress.update()
                progress.set_postfix(loss=f"{loss.item():.3f}")


@torch.no_grad()
def accuracy(model: ResNetMini, images: Tensor, classes: Tensor) -> float:
    """Share of images classified rightly."""
    model.eval()
    predictions = torch.cat([model(normalise(batch)).argmax(1) for batch in images.split(500)])
    return (predictions == classes).double().mean().item()


if __name__ == "__main__":
    main()
