"""U-Nets of every published shape, in small and by name: what diffusers computes with random weights, and which tensors
the full-size ones hold.

    unet_golden.py [calls] [pixels] [keys]        all three without arguments

Writes to tests/data/golden:
    unets.json              the configs: {"tiny": {NAME: config}, "full": {NAME: config}}
    unets.safetensors       of each tiny one a call: NAME.sample, .timestep, .context, .text_embeds, .time_ids, .out
    pixels.json             requests to pixel-space pipelines; pixels.safetensors: by key their pictures, uint8
                            [H, W, C], and before they are clamped KEY.x, f32 [1, C, H, W]
    keys.full.json          {NAME of models/specs or of "full": {part: {keys: shape}}}; "{0,1}" in a key stands for
                            both; a NAME instead of {keys: shape}: as there
"""
import json
import re
import sys

import diffusers
import numpy as np
import torch
from diffusers import LatentConsistencyModelPipeline
from safetensors.numpy import save

from random_weights import REPOSITORY, random_tensor

GOLDEN = REPOSITORY / "tests/data/golden"
SPECS = REPOSITORY / "models/specs"


def spec(name: str, part: str = "unet") -> dict:
    return json.loads((SPECS / name / f"{part}.json").read_text())


# google/ddpm-cifar10-32 and google/ddpm-celebahq-256 as published
CIFAR10 = {
    "_class_name": "UNet2DModel",
    "act_fn": "silu",
    "attention_head_dim": None,
    "block_out_channels": [128, 256, 256, 256],
    "center_input_sample": False,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"],
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "in_channels": 3,
    "layers_per_block": 2,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-06,
    "norm_num_groups": 32,
    "out_channels": 3,
    "sample_size": 32,
    "time_embedding_type": "positional",
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
}
CELEBAHQ = {
    **CIFAR10,
    "block_out_channels": [128, 128, 256, 256, 512, 512],
    "down_block_types": ["DownBlock2D"] * 4 + ["AttnDownBlock2D", "DownBlock2D"],
    "sample_size": 256,
    "up_block_types": ["UpBlock2D", "AttnUpBlock2D"] + ["UpBlock2D"] * 4,
}
FULL = {"ddpm-cifar10-32": CIFAR10, "ddpm-celebahq-256": CELEBAHQ}

# Groups of 4 and more channels: at one channel a group the norm erases every bias before it.
TEXT = {"cross_attention_dim": 24, "norm_num_groups": 8, "sample_size": [9, 7]}
THREE = {**TEXT, "block_out_channels": [32, 64, 64], "attention_head_dim": [2, 4, 8], "addition_time_embed_dim": 8}
PIXELS = {"block_out_channels": [32, 64, 64, 64], "norm_num_groups": 8, "sample_size": [8, 16]}
TINY = {
    "sd2": {**spec("sd2"), **TEXT, "block_out_channels": [32, 64, 64, 64], "attention_head_dim": [2, 4, 8, 8]},
    "inpainting": {**spec("sd15-inpainting"), **TEXT, "block_out_channels": [32, 64, 64, 64], "layers_per_block": 1},
    "sdxl": {**spec("sdxl"), **THREE, "projection_class_embeddings_input_dim": 20 + 6 * 8,
             "transformer_layers_per_block": [1, 2, 3]},
    "sdxl-refiner": {**spec("sdxl-refiner"), **TEXT, "block_out_channels": [32, 64, 96, 96],
                     "attention_head_dim": [2, 4, 6, 12], "addition_time_embed_dim": 8, "layers_per_block": 1,
                     "projection_class_embeddings_input_dim": 20 + 5 * 8, "transformer_layers_per_block": 2},
    # other numbers than published, so that no two layers or ways are alike
    "ssd-1b": {**spec("ssd-1b"), **THREE, "projection_class_embeddings_input_dim": 20 + 6 * 8,
               "transformer_layers_per_block": [0, [2, 1], [1, 3]],
               "reverse_transformer_layers_per_block": [[3, 1, 2], [1, 2, 1], 1]},
    "segmind-vega": {**spec("segmind-vega"), **THREE, "projection_class_embeddings_input_dim": 20 + 6 * 8},
    "lcm": {**spec("sd15"), **TEXT, "block_out_channels": [32, 64, 64, 64], "layers_per_block": 1,
            "time_cond_proj_dim": 16},
    "no-middle": {**spec("sd15"), **TEXT, "block_out_channels": [32, 64, 64, 64], "layers_per_block": 1,
                  "mid_block_type": None},
    "ddpm-cifar10-32": {**CIFAR10, **PIXELS},
    "ddpm-celebahq-256": {**CELEBAHQ, **PIXELS, "block_out_channels": [32, 32, 64, 64, 64, 64], "layers_per_block": 1,
                          "sample_size": [32, 64]},
    "ddpm-options": {**CIFAR10, **PIXELS, "attention_head_dim": 8, "attn_norm_num_groups": 4,
                     "center_input_sample": True, "downsample_padding": 1, "flip_sin_to_cos": True, "freq_shift": 0,
                     "layers_per_block": 1, "mid_block_scale_factor": 1.25, "norm_eps": 1e-5, "out_channels": 6},
    "ddpm-plain-middle": {**CIFAR10, **PIXELS, "add_attention": False, "attention_head_dim": 16, "layers_per_block": 1},
    "ddpm-no-middle": {**CIFAR10, **PIXELS, "layers_per_block": 1, "mid_block_type": None},
}


def module_class(config: dict):
    return getattr(diffusers, config["_class_name"])


def on_meta(config: dict) -> torch.nn.Module:
    with torch.device("meta"):
        return module_class(config).from_config(config)


# --- calls ---------------------------------------------------------------------------------------------------------


def randn(*shape, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def random_unet(config: dict) -> torch.nn.Module:
    module = on_meta(config)
    state = {key: random_tensor(f"unet/{key}", tensor.shape) for key, tensor in module.state_dict().items()}
    module.load_state_dict(state, strict=True, assign=True)
    return module.eval()


def conditions(config: dict) -> tuple[dict, dict]:
    """(arguments of the call, tensors to store)"""
    context = randn(2, 5, config["cross_attention_dim"], seed=2)
    arguments, stored = {"encoder_hidden_states": context}, {"context": context}
    if config.get("addition_embed_type"):
        width = config["addition_time_embed_dim"]
        count = (config["projection_class_embeddings_input_dim"] - 20) // width
        ids = torch.tensor([[1024.0, 768.0, 12.0, 34.0, 960.0, 640.0], [333.0, 555.0, 0.0, 7.0, 2.5, 128.0]])[:, :count]
        added = {"text_embeds": randn(2, 20, seed=3), "time_ids": ids}
        arguments["added_cond_kwargs"] = added
        stored.update(added)
    if width := config.get("time_cond_proj_dim"):
        embed = LatentConsistencyModelPipeline.get_guidance_scale_embedding
        arguments["timestep_cond"] = embed(None, torch.tensor([7.5 - 1]), width)
    return arguments, stored


def call(config: dict) -> dict:
    sample = randn(2, config["in_channels"], *config["sample_size"], seed=1)
    timestep = torch.tensor(345)
    arguments, stored = conditions(config) if "cross_attention_dim" in config else ({}, {})
    out = random_unet(config)(sample, timestep, **arguments).sample
    return {"sample": sample, "timestep": timestep.double(), **stored, "out": out}


def write_calls() -> None:
    tensors = {f"{name}.{key}": value for name, config in TINY.items() for key, value in call(config).items()}
    arrays = {key: np.ascontiguousarray(value.numpy()) for key, value in tensors.items()}
    (GOLDEN / "unets.safetensors").write_bytes(save(arrays))
    rows = lambda configs: ",\n".join(f"{json.dumps(name)}: {json.dumps(config)}" for name, config in configs.items())
    (GOLDEN / "unets.json").write_text(f'{{"tiny": {{\n{rows(TINY)}\n}},\n"full": {{\n{rows(FULL)}\n}}}}\n')


# --- pixel-space pictures ------------------------------------------------------------------------------------------

# google/ddpm-cifar10-32's
SCHEDULER = {"_class_name": "DDPMScheduler", "beta_end": 0.02, "beta_schedule": "linear", "beta_start": 0.0001,
             "clip_sample": True, "num_train_timesteps": 1000, "trained_betas": None, "variance_type": "fixed_large"}
# (key, pipeline, U-Net of TINY, what differs in SCHEDULER, steps, eta, seed)
PIXELS_CASES = [
    ("ddpm-large", "DDPMPipeline", "ddpm-cifar10-32", {}, 5, None, 0),
    ("ddpm-small", "DDPMPipeline", "ddpm-celebahq-256", {"variance_type": "fixed_small"}, 4, None, 17),
    ("ddpm-unclipped", "DDPMPipeline", "ddpm-plain-middle", {"clip_sample": False, "variance_type": "fixed_small"}, 4,
     None, 3),
    ("ddpm-learned", "DDPMPipeline", "ddpm-options", {"variance_type": "learned_range"}, 5, None, 4),
    ("ddpm-class-of-ddim", "DDPMPipeline", "ddpm-no-middle", {"_class_name": "DDIMScheduler", "variance_type": None}, 4,
     None, 5),
    ("ddim", "DDIMPipeline", "ddpm-cifar10-32", {}, 5, 0.0, 6),
    ("ddim-noise", "DDIMPipeline", "ddpm-cifar10-32", {}, 4, 1.0, 7),
    ("ddim-unclipped", "DDIMPipeline", "ddpm-celebahq-256", {"clip_sample": False}, 4, 0.5, 8),
]


def keep_last_step(scheduler) -> dict:
    last, step = {}, scheduler.step

    def recording(*arguments, **named):
        output = step(*arguments, **named)
        last["x"] = output.prev_sample
        return output

    scheduler.step = recording
    return last


def write_pixels() -> None:
    arrays, rows = {}, []
    for key, pipeline, unet, changes, steps, eta, seed in PIXELS_CASES:
        config = {name: value for name, value in {**SCHEDULER, **changes}.items() if value is not None}
        scheduler = getattr(diffusers, config["_class_name"]).from_config(config)
        pipe = getattr(diffusers, pipeline)(random_unet(TINY[unet]), scheduler)
        pipe.set_progress_bar_config(disable=True)
        last = keep_last_step(pipe.scheduler)
        more = {} if eta is None else {"eta": eta}
        generator = torch.Generator().manual_seed(seed)
        picture = pipe(generator=generator, num_inference_steps=steps, output_type="np", **more).images[0]
        arrays[key] = np.ascontiguousarray((picture * 255).round().astype(np.uint8))
        arrays[key + ".x"] = last["x"].numpy()
        clipped = np.mean((arrays[key] == 0) | (arrays[key] == 255))
        print(f"{key}: standard deviation {arrays[key].std():.1f}, clipped {clipped:.0%}")
        rows.append({"key": key, "pipeline": pipeline, "unet": unet, "scheduler": config, "steps": steps, "eta": eta,
                     "seed": seed})
    (GOLDEN / "pixels.safetensors").write_bytes(save(arrays))
    (GOLDEN / "pixels.json").write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")


# --- keys ----------------------------------------------------------------------------------------------------------


def folded(shapes: dict) -> dict:
    """Keys that differ in one number only and have one shape become one: "resnets.{0,1}.conv1.weight"."""
    keys = {key: list(shape) for key, shape in shapes.items()}
    depth = max(key.count(".") for key in keys)
    for position in range(depth, -1, -1):  # inner numbers first: their sets must be equal for outer ones to fold
        groups: dict = {}
        for key, shape in keys.items():
            words = key.split(".")
            number = words[position] if position < len(words) and words[position].isdigit() else None
            if number is not None:
                words[position] = "#"
            groups.setdefault((".".join(words), tuple(shape)), []).append(number)
        keys = {}
        for (key, shape), numbers in groups.items():
            fold = numbers[0] if len(numbers) == 1 else "{" + ",".join(numbers) + "}" if None not in numbers else ""
            keys[key.replace("#", fold or "")] = list(shape)
    assert sum(count_of(key) for key in keys) == len(shapes)
    return keys


def count_of(folded_key: str) -> int:
    return int(np.prod([len(part.split(",")) for part in re.findall(r"\{(.*?)\}", folded_key)] or [1]))


def shapes_of(config: dict) -> dict:
    return {key: tuple(tensor.shape) for key, tensor in on_meta(config).state_dict().items()}


def write_keys() -> None:
    configs = {path.name: {part: spec(path.name, part) for part in ("unet", "vae")}
               for path in sorted(SPECS.iterdir()) if path.is_dir()}
    configs.update({name: {"unet": config} for name, config in FULL.items()})
    out = {}
    for name, parts in configs.items():
        keys = {part: folded(shapes_of(config)) for part, config in parts.items()}
        first = {part: next((n for n, other in out.items() if other[part] == keys[part]), None) for part in parts}
        out[name] = {part: first[part] or keys[part] for part in parts}

    def part_text(keys) -> str:
        if isinstance(keys, str):
            return json.dumps(keys)
        return "{\n" + ",\n".join(f'"{key}": {json.dumps(shape)}' for key, shape in keys.items()) + "\n}"

    model_text = lambda parts: ", ".join(f'"{part}": {part_text(keys)}' for part, keys in parts.items())
    text = ",\n".join(f'"{name}": {{{model_text(parts)}}}' for name, parts in out.items())
    (GOLDEN / "keys.full.json").write_text("{\n" + text + "\n}\n")


def main() -> None:
    wanted = sys.argv[1:] or ["calls", "pixels", "keys"]
    torch.set_grad_enabled(False)
    if "calls" in wanted:
        write_calls()
    if "pixels" in wanted:
        write_pixels()
    if "keys" in wanted:
        write_keys()


if __name__ == "__main__":
    main()
