"""Compares a picture Easel drew from a full-size random checkpoint with diffusers' (CPU, f32, DDIM).

    full_size.py --model FOLDER --picture EASEL.png [--prompt …] [--steps 2] [--seed 0] [--cfg-scale 7.5]

FOLDER is made by `random_weights.py --config models/specs/SPEC`. Exit code 1 when a value differs by more than --tolerance.
"""
import argparse
import json
import resource
import sys
import time
from pathlib import Path

import diffusers
import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import CLIPTokenizer

from random_weights import build_part, parts_of, published_key


def load_module(model: Path, part: str) -> torch.nn.Module:
    """From one file of any stored dtype, widened to f32, so that both programs start from the same numbers."""
    stem = "model" if part.startswith("text_encoder") else "diffusion_pytorch_model"
    stored = load_file(model / part / f"{stem}.safetensors")
    module = build_part(model, part)
    state = {key: stored.pop(published_key(part, key)).float() for key in module.state_dict()}
    if stored:
        raise SystemExit(f"{model}/{part}: unexpected tensors {sorted(stored)[:5]}")
    module.load_state_dict(state, strict=True, assign=True)
    for inner in module.modules():  # non-persistent, so it is still on the meta device
        if hasattr(inner, "position_ids"):
            inner.position_ids = torch.arange(module.config.max_position_embeddings)[None]
    return module.eval()


def build_pipeline(model: Path) -> diffusers.DiffusionPipeline:
    config = json.loads((model / "scheduler/scheduler_config.json").read_text())
    index = json.loads((model / "model_index.json").read_text())
    tokenizers = {name: CLIPTokenizer.from_pretrained(model / name)
                  for name in ("tokenizer", "tokenizer_2") if (model / name).exists()}
    xl = "XL" in index["_class_name"]
    more = {"add_watermarker": False} if xl else {"safety_checker": None, "requires_safety_checker": False}
    pipe = getattr(diffusers, index["_class_name"])(
        **{part: load_module(model, part) for part in parts_of(model)},
        **tokenizers,
        **more,
        scheduler=getattr(diffusers, config["_class_name"]).from_config(config),
        feature_extractor=None,
    )
    pipe.scheduler = diffusers.DDIMScheduler.from_config(config)
    return pipe


def render(args) -> np.ndarray:
    pipe = build_pipeline(args.model)
    start = time.perf_counter()
    pictures = pipe(
        args.prompt,
        width=args.width,
        height=args.height,
        num_inference_steps=args.steps,
        guidance_scale=args.cfg_scale,
        generator=torch.Generator().manual_seed(args.seed),
        output_type="np",
    ).images
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"diffusers: {time.perf_counter() - start:.1f} s, peak {peak:.2f} GiB")
    return (pictures[0] * 255).round().astype(np.uint8)


def compare(expected: np.ndarray, picture: Path) -> int:
    got = np.asarray(Image.open(picture).convert("RGB"))
    if got.shape != expected.shape:
        raise SystemExit(f"{picture}: expected {expected.shape[1]}x{expected.shape[0]}, got {got.shape[1]}x{got.shape[0]}")
    difference = np.abs(got.astype(int) - expected.astype(int))
    clipped = np.mean((expected == 0) | (expected == 255))
    print(f"largest difference {difference.max()}/255, values that differ {np.mean(difference > 0):.2e}, clipped {clipped:.2%}")
    print(f"the reference picture's standard deviation is {expected.std():.1f}")  # a flat picture would agree with anything
    return int(difference.max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--picture", type=Path, required=True, help="PNG drawn by Easel with the same request")
    parser.add_argument("--prompt", default="a cat")
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--height", type=int, default=512)
    parser.add_argument("--steps", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cfg-scale", type=float, default=7.5)
    parser.add_argument("--tolerance", type=int, default=1, help="largest difference allowed, of 255")
    parser.add_argument("--save", type=Path, help="write the reference picture too")
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    expected = render(args)
    if args.save:
        Image.fromarray(expected).save(args.save)
    sys.exit(compare(expected, args.picture) > args.tolerance)


if __name__ == "__main__":
    main()
