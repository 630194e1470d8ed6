"""Reference data of Stable Diffusion 2.x and XL (see README.md), computed as make_golden.py does.

    families_golden.py [text] [pictures] [keys]        all three without arguments

Writes to tests/data/golden:
    families.json                   the requests, as pictures.json
    NAME.pictures.safetensors       of them
    families.text.safetensors       per MODEL.ENCODER.PROMPT: ids, states (the penultimate layer, not normed), pooled
    keys.clip.json                  names and shapes of the full-size text encoders; all layers of one are alike
"""
import json
import re
import sys
import tempfile
from pathlib import Path

import diffusers
import numpy as np
import torch
from transformers import CLIPTokenizer

from make_golden import GOLDEN, LONG_PROMPT, MODELS, PROMPTS, TOKENIZER, make_scheduler, scheduler_config, write_arrays
from random_weights import (REPOSITORY, build_part, copy_tokenizer, parts_of, part_shapes, published_key, random_tensor,
                            read_config)

SD2, SDXL = ("sd2", "sd2-zsnr"), ("sdxl", "sdxl-refiner")
TEXT_PROMPTS = [PROMPTS[0], PROMPTS[1], LONG_PROMPT]
# Easel's clip skip that each family takes by itself
OWN_CLIP_SKIP = 2


# --- models ------------------------------------------------------------------------------------------------------


def build_module(model: str, part: str) -> torch.nn.Module:
    module = build_part(MODELS / model, part)
    state = {k: random_tensor(f"{part}/{published_key(part, k)}", v.shape) for k, v in module.state_dict().items()}
    module = module.to_empty(device="cpu")
    for inner in module.modules():  # non-persistent buffers, left without values by to_empty
        if hasattr(inner, "position_ids"):
            inner.position_ids = torch.arange(77)[None]
    module.load_state_dict(state, strict=True)
    return module.eval()


def build_tokenizer(model: str, name: str) -> CLIPTokenizer:
    with tempfile.TemporaryDirectory() as folder:
        copy_tokenizer(TOKENIZER, MODELS / model, name, Path(folder))
        return CLIPTokenizer.from_pretrained(folder)


def build_pipeline(model: str):
    index = json.loads((MODELS / model / "model_index.json").read_text())
    parts = {part: build_module(model, part) for part in parts_of(MODELS / model)}
    tokenizers = {n: build_tokenizer(model, n) for n in ("tokenizer", "tokenizer_2") if (MODELS / model / n).exists()}
    own_class = getattr(diffusers, scheduler_config(MODELS / model)["_class_name"])
    more = {"feature_extractor": None}
    if model in SDXL:
        flags = ("force_zeros_for_empty_prompt", "requires_aesthetics_score")
        more.update({flag: index[flag] for flag in flags if flag in index}, add_watermarker=False)
        more.update({part: None for part in ("text_encoder", "tokenizer") if part not in {**parts, **tokenizers}})
    else:
        more.update(safety_checker=None, requires_safety_checker=False)
    pipe = getattr(diffusers, index["_class_name"])(
        **parts, **tokenizers, **more, scheduler=own_class.from_config(scheduler_config(MODELS / model)))
    pipe.set_progress_bar_config(disable=True)
    return pipe


# --- text --------------------------------------------------------------------------------------------------------


def write_text(pipes: dict) -> None:
    out = {}
    for model, part in (("sd2", "text_encoder"), ("sdxl", "text_encoder"), ("sdxl", "text_encoder_2")):
        encoder = getattr(pipes[model], part)
        tokenizer = getattr(pipes[model], part.replace("text_encoder", "tokenizer"))
        for i, prompt in enumerate(TEXT_PROMPTS):
            name = f"{model}.{part}.{i}"
            ids = tokenizer(prompt, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
            encoded = encoder(ids, output_hidden_states=True)
            out[f"{name}.ids"] = ids
            out[f"{name}.states"] = encoded.hidden_states[-2]
            if part == "text_encoder_2":
                out[f"{name}.pooled"] = encoded.text_embeds
    prompts = json.dumps(TEXT_PROMPTS, ensure_ascii=False)
    write_arrays(GOLDEN / "families.text.safetensors", {k: v.numpy() for k, v in out.items()}, {"prompts": prompts})


# --- pictures ----------------------------------------------------------------------------------------------------

DEFAULTS = {"prompt": PROMPTS[1], "width": 136, "height": 88, "steps": 3, "cfg_scale": 5.0, "seed": 0}

# (model, sampler, what differs from DEFAULTS). Fields that are not named are not given.
CASES = [
    ("sd2", "ddim", {"cfg_scale": 7.5}),
    ("sd2", "ddim", {"clip_skip": 3, "negative_prompt": "blurry", "eta": 1.0, "width": 96, "height": 120}),
    ("sd2", "pndm", {"steps": 5, "prompt": LONG_PROMPT}),
    ("sd2", "euler", {"cfg_scale": 1.0, "prompt": PROMPTS[2]}),
    ("sd2-zsnr", "ddim", {"cfg_scale": 9.0, "cfg_rescale": 0.7, "steps": 4}),
    ("sd2-zsnr", "euler", {"cfg_rescale": 0.3, "negative_prompt": ""}),
    ("sdxl", "euler", {}),
    ("sdxl", "ddim", {"negative_prompt": "", "prompt": PROMPTS[2], "eta": 0.5}),
    ("sdxl", "euler", {"negative_prompt": "blurry", "prompt_2": "a photo", "negative_prompt_2": "low quality",
                       "original_size": "512x300", "crop": "48,16", "target_size": "640x410", "cfg_rescale": 0.5}),
    ("sdxl", "euler_a", {"clip_skip": 3, "seed": 2**32 + 5}),
    ("sdxl", "euler", {"cfg_scale": 1.0, "prompt": LONG_PROMPT, "width": 96, "height": 120}),
    ("sdxl", "euler", {"prompt": "", "negative_prompt": "나쁜 그림"}),
    ("sdxl-refiner", "euler", {"negative_prompt": "blurry"}),
    ("sdxl-refiner", "ddim", {"aesthetic_score": 7.5, "negative_aesthetic_score": 1.0, "crop": "16,0"}),
    ("sdxl", "euler", {"refiner": "sdxl-refiner", "steps": 5, "refiner_start": 0.6}),
    ("sdxl", "ddim", {"refiner": "sdxl-refiner", "steps": 5, "refiner_start": 0.8, "negative_prompt": "blurry",
                      "prompt_2": "a photo", "original_size": "512x300", "target_size": "640x410"}),
    ("sdxl", "euler_a", {"refiner": "sdxl-refiner", "steps": 4, "refiner_start": 0.5, "cfg_scale": 1.0}),
]


def make_cases() -> list:
    return [{"name": f"{i:02d}-{model}-{sampler}", "model": model, "sampler": sampler, **DEFAULTS, **changes}
            for i, (model, sampler, changes) in enumerate(CASES)]


def pair(text: str, separator: str) -> tuple:
    """(down, across) of Easel's "ACROSS<separator>DOWN"."""
    across, down = text.split(separator)
    return int(down), int(across)


def arguments(case: dict, refining: bool) -> dict:
    out = {"prompt": case["prompt"], "num_inference_steps": case["steps"], "guidance_scale": case["cfg_scale"]}
    for ours, theirs in (("negative_prompt", "negative_prompt"), ("cfg_rescale", "guidance_rescale"), ("eta", "eta")):
        if ours in case:
            out[theirs] = case[ours]
    if "clip_skip" in case:
        out["clip_skip"] = case["clip_skip"] - OWN_CLIP_SKIP
    if case["model"] in SDXL:
        for name in ("prompt_2", "negative_prompt_2"):
            if name in case:
                out[name] = case[name]
        for name in ("original_size", "target_size"):
            if name in case:
                out[name] = pair(case[name], "x")
        if "crop" in case:
            out["crops_coords_top_left"] = pair(case["crop"], ",")
    for name in ("aesthetic_score", "negative_aesthetic_score"):
        if refining and name in case:
            out[name] = case[name]
    return out


def start_noise(pipe, case: dict, generator) -> torch.Tensor:
    """The refiner's pipeline is image-to-image: given latents and strength 1 it starts from noise as the others do."""
    pipe.scheduler.set_timesteps(case["steps"])
    noise = torch.randn((1, 4, case["height"] // 8, case["width"] // 8), generator=generator)
    return noise * pipe.scheduler.init_noise_sigma


def render(pipes: dict, case: dict):
    """(pictures [1, H, W, 3] in [0, 1], final latents [1, 4, h, w])"""
    pipe = pipes[case["model"]]
    pipe.scheduler = make_scheduler(MODELS / case["model"], case["sampler"])
    generator = torch.Generator().manual_seed(case["seed"])
    refining = case["model"] == "sdxl-refiner"
    options = {"generator": generator, "output_type": "latent", **arguments(case, refining)}
    if refining:
        noise = start_noise(pipe, case, generator)
        latents = pipe(image=noise, latents=noise, strength=1.0, **options).images
    else:
        end = {"denoising_end": case["refiner_start"]} if "refiner" in case else {}
        latents = pipe(width=case["width"], height=case["height"], **end, **options).images
    if "refiner" in case:
        second = pipes[case["refiner"]]
        second.scheduler = make_scheduler(MODELS / case["refiner"], case["sampler"])
        options.update(arguments(case, refining=True))
        latents = second(image=latents, denoising_start=case["refiner_start"], **options).images
    pixels = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    return pipe.image_processor.postprocess(pixels, output_type="np"), latents


def write_pictures(pipes: dict) -> None:
    out = {model: {} for model in pipes}
    for case in make_cases():
        pictures, latents = render(pipes, case)
        out[case["model"]][case["name"]] = (pictures * 255).round().astype(np.uint8)
        out[case["model"]][case["name"] + ".latents"] = latents.numpy()
    for model, arrays in out.items():
        write_arrays(GOLDEN / f"{model}.pictures.safetensors", arrays)
    (GOLDEN / "families.json").write_text(json.dumps(make_cases(), indent=1, ensure_ascii=False) + "\n")


# --- keys of the full-size text encoders -------------------------------------------------------------------------


def clip_keys(spec: str, part: str) -> dict:
    """Every layer of an encoder has the same tensors: one stands for all."""
    folder = REPOSITORY / "models/specs" / spec
    layers, rest = {}, {}
    for key, shape in part_shapes(folder, part).items():
        match = re.fullmatch(r"text_model\.encoder\.layers\.(\d+)\.(.*)", key)
        if match:
            layers.setdefault(int(match[1]), {})[match[2]] = list(shape)
        else:
            rest[key] = list(shape)
    assert sorted(layers) == list(range(read_config(folder, part)["num_hidden_layers"]))
    assert all(layer == layers[0] for layer in layers.values())
    return {"layers": len(layers), "layer": layers[0], "rest": rest}


def write_keys() -> None:
    keys = {f"{spec}/{part}": clip_keys(spec, part) for spec, part in
            (("sd15", "text_encoder"), ("sd2", "text_encoder"), ("sdxl", "text_encoder"), ("sdxl", "text_encoder_2"),
             ("sdxl-refiner", "text_encoder_2"))}
    (GOLDEN / "keys.clip.json").write_text(json.dumps(keys, indent=1) + "\n")


def main() -> None:
    wanted = sys.argv[1:] or ["text", "pictures", "keys"]
    torch.set_grad_enabled(False)
    diffusers.utils.logging.set_verbosity_error()
    if "keys" in wanted:
        write_keys()
    if {"text", "pictures"} & set(wanted):
        pipes = {model: build_pipeline(model) for model in (*SD2, *SDXL)}
        if "text" in wanted:
            write_text(pipes)
        if "pictures" in wanted:
            write_pictures(pipes)


if __name__ == "__main__":
    main()
