"""Names and shapes of the full-size models in both layouts: tests/data/golden/keys.SPEC.tsv.gz (no weights are made).

    single_file_keys.py [SPEC …]        all of SPECS without arguments; sd15-controlnet is SD1.5's ControlNet

A line: part, diffusers key, its shape, single-file key, its shape. Keys and shapes are those of the reference's modules on
the meta device; the pairing is diffusers' own: each tensor of a single file holds its number, and is followed through
diffusers' conversion. The functions below only propose the names that go in.
"""
import gzip
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from diffusers.loaders import single_file_utils
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from random_weights import REPOSITORY, ldm_unet_key, ldm_vae_key, read_config

GOLDEN = REPOSITORY / "tests/data/golden"
# The form in which each family's single files hold the text encoders.
TEXT_PREFIXES = {
    "sd15": {"text_encoder": "cond_stage_model.transformer."},
    "sd2": {"text_encoder": "cond_stage_model.model."},
    "sdxl": {"text_encoder": "conditioner.embedders.0.transformer.", "text_encoder_2": "conditioner.embedders.1.model."},
    "sdxl-refiner": {"text_encoder_2": "conditioner.embedders.0.model."},
}
SPECS = {name: name.removesuffix("-inpainting") for name in
         ("sd15", "sd15-inpainting", "sd2", "sd2-inpainting", "sdxl", "sdxl-inpainting", "sdxl-refiner")}
OPEN_CLIP = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
             "self_attn.out_proj": "attn.out_proj"}
OPEN_CLIP_ROOT = {"text_model.embeddings.token_embedding.weight": "token_embedding.weight",
                  "text_model.embeddings.position_embedding.weight": "positional_embedding",
                  "text_model.final_layer_norm.weight": "ln_final.weight",
                  "text_model.final_layer_norm.bias": "ln_final.bias",
                  "text_projection.weight": "text_projection"}


def shapes_of(spec: Path, part: str) -> dict:
    """Published key -> shape."""
    config = read_config(spec, part)
    with torch.device("meta"):
        if part.startswith("text_encoder"):
            module = {"text_encoder": CLIPTextModel, "text_encoder_2": CLIPTextModelWithProjection}[part](CLIPTextConfig(**config))
        else:
            module = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}[part].from_config(config)
    shapes = {k: tuple(v.shape) for k, v in module.state_dict().items() if not k.endswith("position_ids")}
    if not part.startswith("text_encoder"):
        return shapes
    bare = ("embeddings.", "encoder.", "final_layer_norm.")  # transformers 5 dropped the published prefix
    return {f"text_model.{k}" if k.startswith(bare) else k: s for k, s in shapes.items()}


def unet_key(key: str, config: dict) -> str:
    if key.startswith("add_embedding.linear_"):
        return f"model.diffusion_model.label_emb.0.{2 * int(key[21]) - 2}.{key.rsplit('.', 1)[1]}"
    return ldm_unet_key(key, config)


def open_clip_key(key: str) -> tuple:
    """(OpenCLIP's key, which third of its rows or None)"""
    if key in OPEN_CLIP_ROOT:
        return OPEN_CLIP_ROOT[key], None
    number, rest = key.removeprefix("text_model.encoder.layers.").split(".", 1)
    module, leaf = rest.rsplit(".", 1)
    block = f"transformer.resblocks.{number}"
    if module[:-6] == "self_attn." and module.endswith("_proj") and module[-6] in "qkv":
        return f"{block}.attn.in_proj_{leaf}", "qkv".index(module[-6])
    return f"{block}.{OPEN_CLIP[module]}.{leaf}", None


def open_clip_rows(shapes: dict, prefix: str, part: str, config: dict) -> list:
    keys = list(shapes)
    numbered = {}
    for number, key in enumerate(keys):
        name, third = open_clip_key(key)
        if third is None:
            numbered[prefix + name] = torch.full([1] * len(shapes[key]), float(number))
        else:  # diffusers cuts at the rows of text_projection, which is one number here
            rows = numbered.setdefault(prefix + name, torch.zeros([3] + [1] * (len(shapes[key]) - 1)))
            rows[third] = number
    numbered.setdefault(prefix + "text_projection", torch.full([1, 1], -1.0))
    model = type("Model", (), {"config": CLIPTextConfig(**config)})
    converted = single_file_utils.convert_open_clip_checkpoint(model, numbered, prefix)
    converted = {k: v for k, v in converted.items() if v.flatten()[0] >= 0}
    assert set(converted) == set(keys), set(converted) ^ set(keys)
    rows = []
    for key in keys:
        source = keys[int(converted[key].item())]
        name, third = open_clip_key(source)
        shape = shapes[key]
        if third is not None:
            shape = (3 * shape[0], *shape[1:])
        rows.append((part, key, shapes[key], prefix + name, shape[::-1] if name == "text_projection" else shape))
    return rows


def ldm_rows(shapes: dict, part: str, config: dict) -> list:
    keys = list(shapes)
    names = [(unet_key if part == "unet" else ldm_vae_key)(key, config) for key in keys]
    numbered = {name: torch.full([1] * (4 if len(shapes[key]) > 1 else 1), float(n)) for n, (name, key) in enumerate(zip(names, keys))}
    assert len(numbered) == len(keys)
    converted = getattr(single_file_utils, f"convert_ldm_{part}_checkpoint")(numbered, config)
    assert set(converted) == set(keys), set(converted) ^ set(keys)
    rows = []
    for key in keys:
        name, shape = names[int(converted[key].item())], shapes[key]
        is_vae_attention = part == "vae" and ".attentions." in key and len(shape) == 2
        rows.append((part, key, shape, name, (*shape, 1, 1) if is_vae_attention else shape))
    return rows


def rows_of(spec: str) -> list:
    folder = REPOSITORY / "models/specs" / spec
    rows = []
    for part in ("unet", "vae"):
        rows += ldm_rows(shapes_of(folder, part), part, read_config(folder, part))
    for part, prefix in TEXT_PREFIXES[SPECS[spec]].items():
        shapes = shapes_of(folder, part)
        if prefix.endswith("transformer."):  # stripped as it is by diffusers
            rows += [(part, key, shape, prefix + key, shape) for key, shape in shapes.items()]
        else:
            rows += open_clip_rows(shapes, prefix, part, read_config(folder, part))
    return rows


def controlnet_key(key: str, config: dict) -> str:
    module, leaf = key.rsplit(".", 1)
    parts = module.split(".")
    if parts[0] == "controlnet_down_blocks":
        return f"control_model.zero_convs.{parts[1]}.0.{leaf}"
    if parts[0] == "controlnet_mid_block":
        return f"control_model.middle_block_out.0.{leaf}"
    if parts[0] == "controlnet_cond_embedding":
        last = 4 * len(config["conditioning_embedding_out_channels"]) - 2
        place = {"conv_in": 0, "conv_out": last}.get(parts[1], 2 * (int(parts[-1]) + 1) if parts[1] == "blocks" else None)
        return f"control_model.input_hint_block.{place}.{leaf}"
    return unet_key(key, config).replace("model.diffusion_model.", "control_model.")


def controlnet_rows() -> list:
    unet = UNet2DConditionModel.load_config(REPOSITORY / "models/specs/sd15/unet.json")
    with torch.device("meta"):
        net = ControlNetModel.from_unet(UNet2DConditionModel.from_config(unet), load_weights_from_unet=False)
    shapes = {k: tuple(v.shape) for k, v in net.state_dict().items()}
    keys, config = list(shapes), dict(net.config)
    names = [controlnet_key(key, config) for key in keys]
    numbered = {name: torch.full([1], float(n)) for n, name in enumerate(names)}
    assert len(numbered) == len(keys)
    converted = single_file_utils.convert_controlnet_checkpoint(numbered, config)
    assert set(converted) == set(keys), set(converted) ^ set(keys)
    return [("controlnet", key, shapes[key], names[int(converted[key].item())], shapes[key]) for key in keys]


def main() -> None:
    for spec in sys.argv[1:] or (*SPECS, "sd15-controlnet"):
        rows = controlnet_rows() if spec == "sd15-controlnet" else rows_of(spec)
        text = "".join("\t".join(",".join(map(str, cell)) if isinstance(cell, tuple) else cell for cell in row) + "\n" for row in rows)
        file = GOLDEN / f"keys.{spec}.tsv.gz"
        file.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
        print(spec, {part: sum(row[0] == part for row in rows) for part in dict.fromkeys(row[0] for row in rows)}, file.stat().st_size)


if __name__ == "__main__":
    main()
