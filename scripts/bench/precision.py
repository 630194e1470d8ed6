#!/usr/bin/env python3
"""How far pictures in bf16 and int8 lie from the same in f32, by easel and by diffusers: PSNR against diffusers' f32 picture.

    precision.py --easel PROGRAM [--spec sd15] [--size 256] [--steps 4] [--seeds 7,8] [--weights FOLDER]

The same seeded random weights in full size, the same latents drawn in f32. Needs scripts/golden/requirements.txt. Random
weights make pictures like noise: the figures say how rounding errors add up, not how a real model's pictures look.
"""
import argparse
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from peers import PROMPT, diffusers_pipeline, make_weights

GUIDANCE = 7.5


def by_easel(a, model: Path, dtype: str, seed: int) -> np.ndarray:
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.png"
        subprocess.run([a.easel, PROMPT, "-m", str(model), "-W", str(a.size), "-H", str(a.size), "--steps", str(a.steps), "--sampler",
                        "ddim", "--cfg-scale", str(GUIDANCE), "--seed", str(seed), "--dtype", dtype, "--device", "cpu", "-q",
                        "-o", str(picture)], check=True, stdout=subprocess.DEVNULL)
        return np.asarray(Image.open(picture).convert("RGB"))


def by_diffusers(a, model: Path, dtype: str, seeds: list[int]) -> list[np.ndarray]:
    pipe = diffusers_pipeline(str(model), dtype)
    latent = (1, pipe.unet.config.in_channels, a.size // pipe.vae_scale_factor, a.size // pipe.vae_scale_factor)

    def draw(seed: int) -> np.ndarray:
        latents = torch.randn(latent, generator=torch.Generator().manual_seed(seed)).to(pipe.unet.dtype)
        picture = pipe(PROMPT, num_inference_steps=a.steps, guidance_scale=GUIDANCE, latents=latents, height=a.size, width=a.size)
        return np.asarray(picture.images[0])

    return [draw(seed) for seed in seeds]


def show(name: str, pictures: list[np.ndarray], wanted: list[np.ndarray]) -> None:
    apart = [np.abs(x.astype(float) - y) for x, y in zip(pictures, wanted)]
    psnr = [10 * np.log10(255**2 / (x**2).mean()) if x.any() else np.inf for x in apart]
    print(f"{name:16} PSNR {np.mean(psnr):5.1f} dB (worst {min(psnr):5.1f}), at most {max(x.max() for x in apart):.0f}/255, "
          f"mean {np.mean([x.mean() for x in apart]):.3f}/255", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--easel", required=True)
    parser.add_argument("--spec", default="sd15", choices=["sd15", "sdxl"])
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--seeds", default="7,8")
    parser.add_argument("--dtypes", default="bf16,int8", help="of easel, beside f32")
    parser.add_argument("--weights", type=Path, default=Path(tempfile.gettempdir()))
    a = parser.parse_args()
    model, seeds = make_weights(a.spec, a.weights), [int(seed) for seed in a.seeds.split(",")]
    wanted = by_diffusers(a, model, "f32", seeds)
    show("diffusers bf16", by_diffusers(a, model, "bf16", seeds), wanted)
    for dtype in ["f32", *a.dtypes.split(",")]:
        show("easel " + dtype, [by_easel(a, model, dtype, seed) for seed in seeds], wanted)


if __name__ == "__main__":
    main()
