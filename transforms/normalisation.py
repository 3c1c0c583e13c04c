"""Between 8-bit images and what the networks take: ImageNet's mean and deviation."""

import torch
import torchvision.transforms.v2.functional as F

# Of RGB in [0, 1], as all of torchvision's weights expect.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


def normalise(image: torch.Tensor) -> torch.Tensor:
    """Return uint8, or float [0, 1], [..., 3, H, W] as float32 of about zero mean."""
    image = F.to_dtype(image, torch.float32, scale=True)
    return F.normalize(image, IMAGENET_MEAN, IMAGENET_STD)


def denormalise(image: torch.Tensor) -> torch.Tensor:
    """Return a normalised [..., 3, H, W] as uint8, for pictures."""
    mean = torch.tensor(IMAGENET_MEAN, device=image.device).view(3, 1, 1)
    std = torch.tensor(IMAGENET_STD, device=image.device).view(3, 1, 1)
    return ((image * std + mean) * 255).round().clamp(0, 255).to(torch.uint8)
