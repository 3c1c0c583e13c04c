"""A depth-to-image pipeline of random weights, small enough to draw on a CPU in seconds."""

import string
from pathlib import Path

import torch
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    DPTConfig,
    DPTForDepthEstimation,
    DPTImageProcessor,
)

from datasets.pseudo_target.diffusion import load_diffusers


def save_pipeline(folder: Path) -> None:
    """Write it as `save_pretrained` does, 0.4 M parameters."""
    diffusers = load_diffusers()
    torch.manual_seed(0)
    letters = [*string.ascii_letters, *string.digits, *",;/"]
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=77)
    begin, end = tokenizer.bos_token_id, tokenizer.eos_token_id
    text = CLIPTextConfig(
        vocab_size=len(vocabulary),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=77,
        bos_token_id=begin,
        eos_token_id=end,
        pad_token_id=end,
    )
    unet = diffusers.UNet2DConditionModel(
        in_channels=5,
        out_channels=4,
        sample_size=16,
        block_out_channels=(16, 32),
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=32,
        attention_head_dim=(2, 4),
        norm_num_groups=8,
        use_linear_projection=True,
    )
    vae = diffusers.AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8,) * 4,
        norm_num_groups=4,
    )
    depth = DPTConfig(
        image_size=32,
        patch_size=8,
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=64,
        backbone_out_indices=[0, 1, 2, 3],
        neck_hidden_sizes=[16, 16, 32, 32],
        fusion_hidden_size=16,
    )
    estimator = DPTForDepthEstimation(depth)
    # As they are drawn, its weights are so small that the depth is the same everywhere.
    for weight in estimator.parameters():
        if weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.2)
    torch.nn.init.constant_(estimator.head.head[-2].bias, 10)  # before a ReLU
    pipeline = diffusers.StableDiffusionDepth2ImgPipeline(
        vae=vae,
        text_encoder=CLIPTextModel(text),
        tokenizer=tokenizer,
        unet=unet,
        scheduler=diffusers.PNDMScheduler(),
        depth_estimator=estimator,
        feature_extractor=DPTImageProcessor(size={"height": 32, "width": 32}),
    )
    pipeline.save_pretrained(folder)
