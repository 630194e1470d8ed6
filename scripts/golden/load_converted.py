"""Loads what `easel convert` wrote with diffusers and compares every tensor with the folder it came from.

    load_converted.py ORIGINAL CONVERTED        CONVERTED: a folder, or a single file (read with ORIGINAL's configs)
"""
import sys
from pathlib import Path

import diffusers
import torch

PARTS = ("unet", "vae", "text_encoder", "text_encoder_2")


def load(model: Path, configs: Path):
    options = {"torch_dtype": torch.float32}
    if model.is_dir():
        return diffusers.DiffusionPipeline.from_pretrained(model, safety_checker=None, **options)
    name = type(load(configs, configs)).__name__
    return getattr(diffusers, name).from_single_file(model, config=str(configs), local_files_only=True, **options)


def main() -> None:
    original, converted = (Path(argument) for argument in sys.argv[1:])
    want, got = load(original, original), load(converted, original)
    for part in PARTS:
        if getattr(want, part, None) is None:
            continue
        a, b = getattr(want, part).state_dict(), getattr(got, part).state_dict()
        different = sorted(set(a) ^ set(b)) + [key for key in a if key in b and not torch.equal(a[key], b[key])]
        if different:
            raise SystemExit(f"{part}: {len(different)} tensors differ: {different[:5]}")
        print(f"{part}: {len(a)} tensors equal")
    for name in ("tokenizer", "tokenizer_2"):
        if getattr(want, name, None) is not None:
            ids = [getattr(pipe, name)("a cat!", padding="max_length").input_ids for pipe in (want, got)]
            if ids[0] != ids[1]:
                raise SystemExit(f"{name}: other ids")
            print(f"{name}: equal ids, padding {ids[1][-1]}")
    if want.scheduler.config.prediction_type != got.scheduler.config.prediction_type and converted.is_dir():
        raise SystemExit("another prediction type")


if __name__ == "__main__":
    main()
