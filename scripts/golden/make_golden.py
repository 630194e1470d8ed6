"""Reference data of tests/data/golden, computed by diffusers and transformers on the CPU in f32 (see README.md).

    make_golden.py [stages] [pictures] [keys]        all three without arguments
"""
import json
import sys
from pathlib import Path

import diffusers
import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from safetensors.numpy import save
from transformers import CLIPTextModel, CLIPTokenizer

from random_weights import PARTS, REPOSITORY, build_part, part_shapes, published_key, random_tensor

MODELS = REPOSITORY / "tests/data/models"
GOLDEN = REPOSITORY / "tests/data/golden"
SD15 = REPOSITORY / "models/specs/sd15"
TOKENIZER = REPOSITORY / "models/easel-tiny/tokenizer"

LONG_PROMPT = "a very detailed oil painting of a lighthouse on a cliff, " * 9 + "with a red roof"
PROMPTS = [
    "",
    "a photo of an astronaut riding a horse on mars",
    "푸른 하늘 아래 평화로운 시골 풍경",
    "🐱🚀 a cat 👩‍🚀 in space 🌈",
    LONG_PROMPT,  # 112 tokens
]

SAMPLERS = {
    "ddpm": diffusers.DDPMScheduler,
    "ddim": diffusers.DDIMScheduler,
    "pndm": diffusers.PNDMScheduler,
    "euler": diffusers.EulerDiscreteScheduler,
    "euler_a": diffusers.EulerAncestralDiscreteScheduler,
}

# transformers 5 put the layers of `text_model` into CLIPTextModel itself; encode_prompt(clip_skip=…) still looks for it.
CLIPTextModel.text_model = property(lambda self: self)


# --- models ------------------------------------------------------------------------------------------------------


def build_module(model_dir: Path, part: str, seed: int = 0) -> torch.nn.Module:
    """The reference's module with the random weights of random_weights.py."""
    module = build_part(model_dir, part)
    state = {k: random_tensor(f"{part}/{published_key(part, k)}", v.shape, seed) for k, v in module.state_dict().items()}
    module = module.to_empty(device="cpu")
    if part == "text_encoder":  # non-persistent buffer, left without values by to_empty
        module.embeddings.position_ids = torch.arange(module.config.max_position_embeddings)[None]
    module.load_state_dict(state, strict=True)
    return module.eval()


def scheduler_config(model_dir: Path) -> dict:
    return json.loads((model_dir / "scheduler/scheduler_config.json").read_text())


def make_scheduler(model_dir: Path, sampler: str):
    """From the file's own fields, so that a field absent from the file takes the default of the chosen class.

    The pipeline's constructor rewrites two fields of the scheduler it is given (clip_sample true -> false,
    steps_offset -> 1), so the scheduler is set afterwards."""
    return SAMPLERS[sampler].from_config(scheduler_config(model_dir))


def build_pipeline(model_dir: Path) -> StableDiffusionPipeline:
    own_class = getattr(diffusers, scheduler_config(model_dir)["_class_name"])
    pipe = StableDiffusionPipeline(
        **{part: build_module(model_dir, part) for part in PARTS},
        tokenizer=CLIPTokenizer.from_pretrained(TOKENIZER),
        scheduler=own_class.from_config(scheduler_config(model_dir)),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def write_arrays(file: Path, tensors: dict, metadata=None) -> None:
    arrays = {k: np.ascontiguousarray(v) for k, v in tensors.items()}
    file.write_bytes(save(arrays, metadata=metadata))


def randn(*shape, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


# --- stages ------------------------------------------------------------------------------------------------------


def text_stages(pipe, out: dict) -> None:
    for i, prompt in enumerate(PROMPTS):
        ids = pipe.tokenizer(prompt, padding="max_length", max_length=77, truncation=True, return_tensors="pt").input_ids
        out[f"text.{i}.ids"] = ids
        out[f"text.{i}.last"] = pipe.encode_prompt(prompt, "cpu", 1, False)[0]
        # diffusers counts skipped layers: its 1 is Easel's (and A1111's) clip skip 2
        out[f"text.{i}.skip2"] = pipe.encode_prompt(prompt, "cpu", 1, False, clip_skip=1)[0]


def unet_stages(pipe, out: dict) -> None:
    unet = pipe.unet
    context = torch.cat([out["text.0.last"], out["text.1.last"]])
    out["unet.context"] = context
    sizes = {"odd": (17, 11), "even": (16, 24)}  # (height, width)
    for (name, size), timestep in zip(sizes.items(), (torch.tensor(981), torch.tensor(345.625))):
        sample = randn(2, unet.config.in_channels, *size, seed=1)
        out[f"unet.{name}.sample"] = sample
        out[f"unet.{name}.timestep"] = timestep.double()
        out[f"unet.{name}.out"] = unet(sample, timestep, context).sample
    timesteps = torch.tensor([0.0, 1.0, 345.625, 981.0, 999.0])
    projected = unet.time_proj(timesteps)
    out["unet.time.timesteps"] = timesteps
    out["unet.time.proj"] = projected
    out["unet.time.embedding"] = unet.time_embedding(projected)


def vae_stages(pipe, out: dict) -> None:
    vae = pipe.vae
    factor = pipe.vae_scale_factor
    latent = randn(1, vae.config.latent_channels, 13, 9, seed=2)  # as the decoder takes it: already divided by the factor
    out["vae.decode.latent"] = latent
    out["vae.decode.out"] = vae.decode(latent).sample
    picture = randn(1, 3, 7 * factor, 5 * factor, seed=3).clamp(-1, 1)
    posterior = vae.encode(picture).latent_dist
    out["vae.encode.picture"] = picture
    out["vae.encode.moments"] = posterior.parameters  # [1, 2C, h, w], before the log variance is clamped
    out["vae.encode.mean"] = posterior.mean
    out["vae.encode.std"] = posterior.std


def forward_process_stages(model_dir: Path, out: dict) -> None:
    x0, noise = randn(3, 4, 6, 5, seed=4), randn(3, 4, 6, 5, seed=5)
    timesteps = torch.tensor([0, 250, 999])
    out["add_noise.x0"], out["add_noise.noise"], out["add_noise.timesteps"] = x0, noise, timesteps
    out["add_noise.out"] = make_scheduler(model_dir, "ddpm").add_noise(x0, noise, timesteps)


def write_stages(name: str, pipe) -> None:
    out = {}
    text_stages(pipe, out)
    unet_stages(pipe, out)
    vae_stages(pipe, out)
    forward_process_stages(MODELS / name, out)
    prompts = json.dumps(PROMPTS, ensure_ascii=False)
    write_arrays(GOLDEN / f"{name}.stages.safetensors", {k: v.numpy() for k, v in out.items()}, {"prompts": prompts})


# --- pictures ----------------------------------------------------------------------------------------------------

DEFAULTS = {"prompt": PROMPTS[1], "negative_prompt": None, "width": 136, "height": 88, "steps": 2, "cfg_scale": 7.5,
            "eta": 0.0, "seed": 0, "clip_skip": None, "batch_count": 1}

# (model, sampler, what differs from DEFAULTS); the file's name for a case is its position and sampler
CASES = [
    ("sd1", "ddim", {}),
    ("sd1", "ddim", {"steps": 1, "prompt": ""}),
    ("sd1", "ddim", {"eta": 1.0, "steps": 5, "cfg_scale": 9.0, "seed": 2147483665}),
    ("sd1", "ddim", {"clip_skip": 2}),
    ("sd1", "ddim", {"prompt": PROMPTS[2], "width": 96, "height": 160}),
    ("sd1", "ddim", {"cfg_scale": 1.0, "prompt": PROMPTS[3]}),
    ("sd1", "pndm", {"steps": 5, "negative_prompt": "blurry, low quality"}),
    ("sd1", "pndm", {"steps": 8, "width": 96, "height": 160, "prompt": LONG_PROMPT}),
    ("sd1", "pndm", {"steps": 1}),
    ("sd1", "ddpm", {"steps": 5, "seed": 2147483665}),
    ("sd1", "ddpm", {"cfg_scale": 9.0, "width": 64, "height": 64, "seed": 2**40 + 17}),
    ("sd1", "euler", {"steps": 5, "cfg_scale": 9.0}),
    ("sd1", "euler", {"steps": 8, "cfg_scale": 1.0, "width": 64, "height": 64}),
    ("sd1", "euler_a", {"steps": 5, "seed": 2147483665}),
    ("sd1", "euler_a", {"width": 64, "height": 64, "batch_count": 2, "negative_prompt": ""}),
    ("sd1-linear", "ddim", {"eta": 1.0, "steps": 5}),
    ("sd1-linear", "ddim", {"steps": 8, "clip_skip": 2, "prompt": PROMPTS[2], "width": 96, "height": 160}),
    ("sd1-linear", "pndm", {"steps": 6, "cfg_scale": 9.0, "prompt": PROMPTS[3]}),
    # a DDIM file has no skip_prk_steps, so PNDM's default (false) holds: Runge-Kutta steps first, at least 4 steps
    ("sd1-linear", "pndm", {"steps": 4, "width": 64, "height": 64, "negative_prompt": "나쁜 그림"}),
    ("sd1-linear", "ddpm", {"steps": 5, "prompt": LONG_PROMPT}),
    ("sd1-linear", "ddpm", {"width": 64, "height": 64, "batch_count": 2, "seed": 2**40 + 17}),
    ("sd1-linear", "euler", {"steps": 5, "prompt": ""}),
    ("sd1-linear", "euler", {"steps": 1, "cfg_scale": 1.0}),
    ("sd1-linear", "euler_a", {"steps": 8, "cfg_scale": 9.0}),
    ("sd1-odd", "euler", {"steps": 5, "width": 72, "height": 56}),
    ("sd1-odd", "ddim", {"steps": 5, "width": 72, "height": 56, "eta": 0.5}),
    ("sd1-odd", "ddpm", {"steps": 2, "width": 72, "height": 56}),
]


def make_cases() -> list:
    cases = []
    for number, (model, sampler, changes) in enumerate(CASES):
        name = f"{number:02d}-{model}-{sampler}"
        cases.append({"name": name, "model": model, "sampler": sampler, **DEFAULTS, **changes, "key": name})
    return cases


def render(pipe, case: dict):
    """(pictures [B, H, W, 3] in [0, 1], final latents [B, 4, h, w])"""
    pipe.scheduler = make_scheduler(MODELS / case["model"], case["sampler"])
    count = case["batch_count"]
    latents = {}

    def keep_latents(pipe, step, timestep, tensors):
        latents["final"] = tensors["latents"]
        return {}

    pictures = pipe(
        case["prompt"],
        negative_prompt=case["negative_prompt"],
        width=case["width"],
        height=case["height"],
        num_inference_steps=case["steps"],
        guidance_scale=case["cfg_scale"],
        eta=case["eta"],
        num_images_per_prompt=count,
        generator=[torch.Generator().manual_seed(case["seed"] + k) for k in range(count)],
        clip_skip=None if case["clip_skip"] is None else case["clip_skip"] - 1,  # Easel's K counts from 1
        output_type="np",
        callback_on_step_end=keep_latents,
    ).images
    return pictures, latents["final"]


def write_pictures(pipes: dict) -> None:
    cases = make_cases()
    out = {model: {} for model in pipes}
    for case in cases:
        pictures, latents = render(pipes[case["model"]], case)
        out[case["model"]][case["key"]] = (pictures * 255).round().astype(np.uint8)
        out[case["model"]][case["key"] + ".latents"] = latents.numpy()
    for model, arrays in out.items():
        write_arrays(GOLDEN / f"{model}.pictures.safetensors", arrays)
    (GOLDEN / "pictures.json").write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n")


# --- keys of the full-size SD1.5 ---------------------------------------------------------------------------------


def write_keys() -> None:
    shapes = {part: part_shapes(SD15, part) for part in PARTS}
    assert {part: len(keys) for part, keys in shapes.items()} == {"unet": 686, "vae": 248, "text_encoder": 196}
    dump = lambda value: json.dumps(value, separators=(",", ":"))
    part_text = lambda keys: "{\n" + ",\n".join(f'"{k}":{dump(list(s))}' for k, s in keys.items()) + "\n}"
    parts = ",\n".join(f'"{part}":{part_text(keys)}' for part, keys in shapes.items())
    (GOLDEN / "keys.sd15.json").write_text("{\n" + parts + "\n}\n")


def main() -> None:
    wanted = sys.argv[1:] or ["stages", "pictures", "keys"]
    torch.set_grad_enabled(False)
    diffusers.utils.logging.set_verbosity_error()
    GOLDEN.mkdir(parents=True, exist_ok=True)
    if "keys" in wanted:
        write_keys()
    if {"stages", "pictures"} & set(wanted):
        pipes = {name: build_pipeline(MODELS / name) for name in ("sd1", "sd1-linear", "sd1-odd")}
        if "stages" in wanted:
            for name, pipe in pipes.items():
                write_stages(name, pipe)
        if "pictures" in wanted:
            write_pictures(pipes)


if __name__ == "__main__":
    main()
