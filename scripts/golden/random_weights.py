"""Random weights that Python and C++ compute alike, and checkpoints made of them.

A tensor is a pure function of its key, its shape and a seed, so the tiny test models are stored as configs only
(tests/data/models) and src/weights/random_source.cpp makes the same numbers. Default initialisations hide mistakes
(zero biases, unit norms, tiny projections); these are drawn large enough that a dropped bias moves pixels.

    random_weights.py --config tests/data/models/sd1 --out /tmp/sd1 [--dtype f16] [--layout sharded,no-prefix]
"""
import argparse
import json
import math
import shutil
import zlib
from pathlib import Path

import torch
from safetensors.torch import save_file

PARTS = ("text_encoder", "unet", "vae")
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
REPOSITORY = Path(__file__).resolve().parents[2]

# Gain = standard deviation x sqrt(fan in) of matrices and convolutions, by the begin and the end of "part/key"; the
# first match holds, else 1.
GAINS = (
    ("unet/", "/conv_in.weight", 0.5),
    ("unet/", "/conv_out.weight", 1.5),  # predicted noise of about unit variance
    ("vae/", "decoder.conv_in.weight", 0.1),  # a random U-Net's latents are large: keep them from drowning the decoder
    ("vae/", "decoder.conv_out.weight", 0.6),  # pictures inside [-1, 1]
    ("unet/", "upsamplers.0.conv.weight", 2.0),  # the deep path beside the skips
    ("vae/", "upsamplers.0.conv.weight", 0.5),  # keep the residual stream from growing
    # sharp attention, else every query averages all keys
    ("", "to_q.weight", 2.0),
    ("", "to_k.weight", 2.0),
    ("", "q_proj.weight", 2.0),
    ("", "k_proj.weight", 2.0),
    # the ends of residual branches, else the residual stream drowns them
    ("", "conv2.weight", 2.0),
    ("", "to_out.0.weight", 2.0),
    ("", "ff.net.2.weight", 2.0),
    ("", "proj_out.weight", 2.0),
    ("", "out_proj.weight", 2.0),
    ("", "fc2.weight", 2.0),
)


def gain(key: str) -> float:
    return next((value for begin, end, value in GAINS if key.startswith(begin) and key.endswith(end)), 1.0)


def random_tensor(key: str, shape, seed: int = 0) -> torch.Tensor:
    """The stored tensor `key` ("unet/conv_in.weight"; the text encoder's with `text_model.`), f32."""
    generator = torch.Generator()
    generator.manual_seed((zlib.crc32(key.encode()) ^ seed) & 0xFFFFFFFF)
    z = torch.randn(tuple(shape), generator=generator, dtype=torch.float32)
    if key.endswith(".bias"):
        return 0.5 * z
    if len(shape) == 1:
        return 1 + 0.3 * z  # norm scale
    if key.endswith("_embedding.weight"):
        return 0.5 * z
    return z * (gain(key) / math.sqrt(math.prod(shape[1:])))


def build_part(config_dir: Path, part: str) -> torch.nn.Module:
    """The reference's module of one part, without storage (meta device)."""
    import transformers
    from diffusers import AutoencoderKL, UNet2DConditionModel

    config = read_config(config_dir, part)
    with torch.device("meta"):
        if part.startswith("text_encoder"):
            return getattr(transformers, config["architectures"][0])(transformers.CLIPTextConfig(**config))
        return {"unet": UNet2DConditionModel, "vae": AutoencoderKL}[part].from_config(config)


def config_file(config_dir: Path, part: str) -> Path:
    """PART/config.json of a diffusers folder, or PART.json of models/specs/FAMILY."""
    nested = Path(config_dir) / part / "config.json"
    return nested if nested.exists() else Path(config_dir) / f"{part}.json"


def read_config(config_dir: Path, part: str) -> dict:
    return json.loads(config_file(config_dir, part).read_text())


def parts_of(config_dir: Path) -> list:
    return [part for part in ("text_encoder", "text_encoder_2", "unet", "vae") if config_file(config_dir, part).exists()]


def published_key(part: str, key: str) -> str:
    """transformers 5 dropped the `text_model.` of every published CLIPTextModel."""
    named = key.startswith(("text_model.", "text_projection."))
    return f"text_model.{key}" if part.startswith("text_encoder") and not named else key


def part_shapes(config_dir: Path, part: str) -> dict:
    """Published key -> shape of one part."""
    state = build_part(config_dir, part).state_dict()
    return {published_key(part, k): tuple(v.shape) for k, v in state.items() if not k.endswith("position_ids")}


def random_part(config_dir: Path, part: str, seed: int = 0, dtype=torch.float32) -> dict:
    """Published key -> tensor of one part."""
    shapes = part_shapes(config_dir, part)
    return {k: random_tensor(f"{part}/{k}", s, seed).to(dtype) for k, s in shapes.items()}


# --- the names of a single file ----------------------------------------------------------------------------------


UNET_RESNET = {"norm1": "in_layers.0", "conv1": "in_layers.2", "norm2": "out_layers.0", "conv2": "out_layers.3",
               "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection"}
UNET_ROOT = {"time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
             "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2"}
VAE_ATTENTION = {"group_norm": "norm", "to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}


def ldm_unet_key(key: str, config: dict) -> str:
    """LDM counts input_blocks and output_blocks in one row: per level its layers, then its resampler."""
    module, leaf = key.rsplit(".", 1)
    if module in UNET_ROOT:
        return f"model.diffusion_model.{UNET_ROOT[module]}.{leaf}"
    side, *rest = module.split(".")
    if side == "mid_block":
        kind, index, tail = rest[0], int(rest[1]), ".".join(rest[2:])
        block = f"middle_block.{2 * index if kind == 'resnets' else 1}"
        return f"model.diffusion_model.{block}.{UNET_RESNET.get(tail, tail)}.{leaf}"
    level, kind, index, tail = int(rest[0]), rest[1], int(rest[2]), ".".join(rest[3:])
    layers = config["layers_per_block"]
    if side == "down_blocks":
        if kind == "downsamplers":
            return f"model.diffusion_model.input_blocks.{(level + 1) * (layers + 1)}.0.op.{leaf}"
        block = f"input_blocks.{1 + level * (layers + 1) + index}"
    else:
        has_attention = config["up_block_types"][level].startswith("CrossAttn")
        if kind == "upsamplers":
            block = f"output_blocks.{level * (layers + 1) + layers}.{2 if has_attention else 1}"
            return f"model.diffusion_model.{block}.conv.{leaf}"
        block = f"output_blocks.{level * (layers + 1) + index}"
    slot = 0 if kind == "resnets" else 1
    return f"model.diffusion_model.{block}.{slot}.{UNET_RESNET.get(tail, tail)}.{leaf}"


def ldm_vae_key(key: str, config: dict) -> str:
    """LDM numbers the decoder's levels from the finest."""
    module, leaf = key.rsplit(".", 1)
    names = module.split(".")
    if len(names) > 1 and names[1] == "mid_block":
        tail = ".".join(names[4:])
        block = f"block_{int(names[3]) + 1}" if names[2] == "resnets" else "attn_1"
        tail = VAE_ATTENTION.get(tail, tail) if block == "attn_1" else tail.replace("conv_shortcut", "nin_shortcut")
        module = f"{names[0]}.mid.{block}.{tail}"
    elif len(names) > 1 and names[1] in ("down_blocks", "up_blocks"):
        side = names[1].removesuffix("_blocks")
        level = int(names[2]) if side == "down" else len(config["block_out_channels"]) - 1 - int(names[2])
        tail = ".".join(names[5:]).replace("conv_shortcut", "nin_shortcut")
        block = f"block.{names[4]}.{tail}" if names[3] == "resnets" else f"{names[3].removesuffix('rs')}.conv"
        module = f"{names[0]}.{side}.{level}.{block}"
    return f"first_stage_model.{module.replace('conv_norm_out', 'norm_out')}.{leaf}"


def ldm_key(part: str, key: str, config: dict) -> str:
    if part == "text_encoder":
        return f"cond_stage_model.transformer.{key}"
    return (ldm_unet_key if part == "unet" else ldm_vae_key)(key, config)


def ldm_tensor(part: str, key: str, tensor: torch.Tensor) -> torch.Tensor:
    """LDM's VAE attention is 1x1 convolutions."""
    is_vae_attention = part == "vae" and ".attentions." in key and tensor.dim() == 2
    return tensor[:, :, None, None] if is_vae_attention else tensor


def write_single_file(config_dir: Path, out: Path, seed: int, dtype: torch.dtype) -> None:
    tensors = {}
    for part in PARTS:
        config = read_config(config_dir, part)
        for key, tensor in random_part(config_dir, part, seed, dtype).items():
            tensors[ldm_key(part, key, config)] = ldm_tensor(part, key, tensor).contiguous()
    tensors["cond_stage_model.transformer.text_model.embeddings.position_ids"] = torch.arange(77)[None]
    tensors.update(schedule_buffers())
    out.parent.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out, metadata={"format": "pt"})


def schedule_buffers() -> dict:
    """Buffers of the training schedule that SD1.x single files carry; a reader skips them."""
    betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
    alphas_cumprod = torch.cumprod(1 - betas, 0)
    buffers = {"betas": betas, "alphas_cumprod": alphas_cumprod, "sqrt_alphas_cumprod": alphas_cumprod.sqrt()}
    return {k: v.float() for k, v in buffers.items()}


# --- folders -----------------------------------------------------------------------------------------------------


def save_part(tensors: dict, folder: Path, stem: str, variant: str, sharded: bool) -> None:
    """`stem`[.variant].safetensors, or two shards and their index."""
    folder.mkdir(parents=True, exist_ok=True)
    dot = f".{variant}" if variant else ""
    if not sharded:
        save_file(tensors, folder / f"{stem}{dot}.safetensors", metadata={"format": "pt"})
        return
    keys = list(tensors)
    shards = (keys[: len(keys) // 2], keys[len(keys) // 2 :])
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        name = f"{stem}{dot}-{number:05d}-of-00002.safetensors"
        save_file({k: tensors[k] for k in shard}, folder / name, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(shard, name))
    total_size = sum(t.numel() * t.element_size() for t in tensors.values())
    index = {"metadata": {"total_size": total_size}, "weight_map": weight_map}
    (folder / f"{stem}.safetensors.index{dot}.json").write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def copy_tokenizer(vocabulary: Path, configs: Path, name: str, out: Path) -> None:
    """CLIP's vocabulary under the family's own special tokens: NAME/*.json of a folder of configs, or NAME_config.json
    of a spec; those of the vocabulary's folder where there are none."""
    out.mkdir(parents=True, exist_ok=True)
    own = list((configs / name).glob("*.json")) if (configs / name).exists() else []
    spec = configs / ("tokenizer_config.json" if name == "tokenizer" else "tokenizer_2_config.json")
    for file in vocabulary.iterdir():
        if file.name in ("vocab.json", "merges.txt") or not (own or spec.exists()):
            shutil.copyfile(file, out / file.name)
    for file in own:
        shutil.copyfile(file, out / file.name)
    if spec.exists():
        shutil.copyfile(spec, out / "tokenizer_config.json")


def write_tokenizer(vocabulary: Path, configs: Path, name: str, out: Path, only_json: bool) -> None:
    copy_tokenizer(vocabulary, configs, name, out)
    if not only_json:
        return
    from transformers import CLIPTokenizer

    CLIPTokenizer.from_pretrained(out).save_pretrained(out)  # transformers 5 writes tokenizer.json only
    for name in ("vocab.json", "merges.txt"):
        (out / name).unlink(missing_ok=True)


def old_attention_names(tensors: dict) -> dict:
    """The VAE attention's names before diffusers 0.12 (query, key, value, proj_attn)."""
    names = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}

    def rename(key):
        for new, old in names.items():
            key = key.replace(f".attentions.0.{new}.", f".attentions.0.{old}.")
        return key

    return {rename(k): v for k, v in tensors.items()}


def relayout(part: str, tensors: dict, layout: set) -> dict:
    if part == "vae" and "old-attention" in layout:
        tensors = old_attention_names(tensors)
    if part.startswith("text_encoder") and "position-ids" in layout:
        tensors = {**tensors, "text_model.embeddings.position_ids": torch.arange(77)[None]}
    if part.startswith("text_encoder") and "no-prefix" in layout:
        tensors = {k.removeprefix("text_model."): v for k, v in tensors.items()}
    return tensors


def write_folder(config_dir: Path, out: Path, seed: int, dtype: torch.dtype, layout: set, tokenizer: Path) -> None:
    variant = "fp16" if "variant-fp16" in layout else ""
    for part in parts_of(config_dir):
        tensors = relayout(part, random_part(config_dir, part, seed, dtype), layout)
        stem = "model" if part.startswith("text_encoder") else "diffusion_pytorch_model"
        save_part(tensors, out / part, stem, variant, "sharded" in layout)
        (out / part / "config.json").write_text(json.dumps(read_config(config_dir, part), indent=2) + "\n")
        if part.startswith("text_encoder"):
            name = part.replace("text_encoder", "tokenizer")
            write_tokenizer(tokenizer, config_dir, name, out / name, "tokenizer-json" in layout)
    write_scheduler_and_index(config_dir, out)


def write_scheduler_and_index(config_dir: Path, out: Path) -> None:
    nested = config_dir / "scheduler" / "scheduler_config.json"
    scheduler = (nested if nested.exists() else config_dir / "scheduler.json").read_text()
    (out / "scheduler").mkdir(parents=True, exist_ok=True)
    (out / "scheduler" / "scheduler_config.json").write_text(scheduler)
    shutil.copyfile(config_dir / "model_index.json", out / "model_index.json")


LAYOUTS = ("diffusers", "variant-fp16", "sharded", "no-prefix", "tokenizer-json", "position-ids", "old-attention", "ldm")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="folder of configs (tests/data/models/sd1, models/specs/sd15)")
    parser.add_argument("--out", type=Path, required=True, help="folder to write; a .safetensors file for --layout ldm")
    parser.add_argument("--dtype", choices=DTYPES, default="f32")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--layout", default="diffusers", help=f"comma-separated: {', '.join(LAYOUTS)}")
    parser.add_argument("--tokenizer", type=Path, default=REPOSITORY / "models/easel-tiny/tokenizer")
    args = parser.parse_args()
    layout = set(args.layout.split(","))
    if unknown := layout - set(LAYOUTS):
        parser.error(f"unknown layout {', '.join(sorted(unknown))}; choose from {', '.join(LAYOUTS)}")
    if "ldm" in layout:
        write_single_file(args.config, args.out, args.seed, DTYPES[args.dtype])
    else:
        write_folder(args.config, args.out, args.seed, DTYPES[args.dtype], layout, args.tokenizer)


if __name__ == "__main__":
    main()
