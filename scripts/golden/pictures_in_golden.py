"""Reference data of image-to-image and inpainting (see README.md).

Writes to tests/data/golden:
    input.png, input-mask.png       what the pictures begin with
    pictures_in.json                the requests, as pictures.json
    pictures_in.safetensors         NAME: pictures [B, H, W, 3] uint8, NAME.latents: [B, 4, h, w]
"""
import json
import sys

import diffusers
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter

from families_golden import build_pipeline as build_family
from make_golden import GOLDEN, MODELS, PROMPTS, build_pipeline, scheduler_config, write_arrays

SIZE = (104, 72)
SCHEDULERS = {
    "ddim": (diffusers.DDIMScheduler, {}),
    "pndm": (diffusers.PNDMScheduler, {}),
    "ddpm": (diffusers.DDPMScheduler, {}),
    "euler": (diffusers.EulerDiscreteScheduler, {}),
    "euler_a": (diffusers.EulerAncestralDiscreteScheduler, {}),
    "heun": (diffusers.HeunDiscreteScheduler, {}),
    "lms": (diffusers.LMSDiscreteScheduler, {}),
    "dpm++2m": (diffusers.DPMSolverMultistepScheduler, {"algorithm_type": "dpmsolver++", "solver_order": 2}),
    "unipc": (diffusers.UniPCMultistepScheduler, {}),
}
DEFAULTS = {"prompt": PROMPTS[1], "steps": 5, "cfg_scale": 7.5, "seed": 0, "batch_count": 1}

# (model, sampler, whether there is a mask, what differs from DEFAULTS). Not here: dpm2 with a mask, whose kept part the
# reference noises to the next step's level half way through a step.
CASES = [
    ("sd1", "ddim", False, {"strength": 0.3, "steps": 8}),
    ("sd1", "pndm", False, {"strength": 0.6}),
    ("sd1", "euler", False, {"strength": 1.0, "negative_prompt": "blurry"}),
    ("sd1", "euler_a", False, {"strength": 0.6, "batch_count": 3, "seed": 2**32 + 7}),
    ("sd1", "heun", False, {"strength": 0.6}),
    ("sd1", "dpm++2m", False, {"strength": 0.6, "cfg_scale": 1.0}),
    ("sd1", "ddpm", False, {"strength": 0.3, "steps": 10}),
    ("sd1", "unipc", False, {"strength": 0.75}),
    ("sd2-zsnr", "ddim", False, {"strength": 0.6, "negative_prompt": "blurry"}),
    ("sdxl", "euler", False, {"strength": 0.3, "steps": 8, "cfg_scale": 5.0}),
    ("sdxl", "ddim", False, {"strength": 0.6, "cfg_scale": 5.0, "negative_prompt": "blurry"}),
    ("sd1", "ddim", True, {"strength": 1.0}),
    ("sd1", "ddim", True, {"strength": 0.3, "steps": 8}),
    ("sd1", "pndm", True, {"strength": 0.6}),
    ("sd1", "euler", True, {"strength": 1.0}),
    ("sd1", "euler_a", True, {"strength": 0.6, "batch_count": 3}),
    ("sd1", "ddpm", True, {"strength": 1.0, "steps": 4}),
    ("sd1", "heun", True, {"strength": 0.6}),
    ("sd1", "lms", True, {"strength": 1.0}),
    ("sd1", "dpm++2m", True, {"strength": 1.0}),
    ("sd1", "unipc", True, {"strength": 0.6}),
    ("sd1-inpaint", "ddim", True, {"strength": 1.0, "negative_prompt": "blurry"}),
    ("sd1-inpaint", "euler_a", True, {"strength": 0.6, "batch_count": 3}),
    ("sd1-inpaint", "pndm", True, {"strength": 0.3, "steps": 8}),
    ("sd1-inpaint", "dpm++2m", True, {"strength": 1.0, "cfg_scale": 1.0}),
    ("sdxl", "euler", True, {"strength": 1.0, "cfg_scale": 5.0}),
    ("sdxl", "ddim", True, {"strength": 0.6, "cfg_scale": 5.0}),
    ("sdxl", "euler_a", True, {"strength": 0.3, "steps": 8, "cfg_scale": 5.0}),
]


def draw_inputs() -> tuple:
    """A picture of soft shapes, and a mask with an edge that is not on the latent's grid."""
    across, down = np.meshgrid(np.linspace(0, 1, SIZE[0]), np.linspace(0, 1, SIZE[1]))
    pixels = np.stack([255 * across, 255 * down, 128 + 127 * np.sin(6 * across + 4 * down)], axis=-1)
    picture = Image.fromarray(pixels.astype(np.uint8))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((20, 14, 60, 56), fill=(200, 60, 30))
    draw.rectangle((70, 24, 96, 66), fill=(20, 90, 160))
    mask = Image.new("L", SIZE, 0)
    ImageDraw.Draw(mask).ellipse((17, 11, 65, 61), fill=255)
    return picture.filter(ImageFilter.GaussianBlur(1)), mask.filter(ImageFilter.GaussianBlur(2))


def pipeline_class(model: str, masked: bool):
    family = "StableDiffusionXL" if model == "sdxl" else "StableDiffusion"
    return getattr(diffusers, f"{family}{'Inpaint' if masked else 'Img2Img'}Pipeline")


def build(model: str, masked: bool):
    plain = build_pipeline(MODELS / model) if model.startswith("sd1") else build_family(model)
    wanted = pipeline_class(model, masked)
    pipe = wanted(**{k: v for k, v in plain.components.items() if k in wanted.__init__.__code__.co_varnames},
                  **({} if model == "sdxl" else {"requires_safety_checker": False}),
                  **({"add_watermarker": False} if model == "sdxl" else {}))
    pipe.set_progress_bar_config(disable=True)
    return pipe


def render(pipe, case: dict, picture, mask) -> tuple:
    made, arguments = SCHEDULERS[case["sampler"]]
    pipe.scheduler = made.from_config(scheduler_config(MODELS / case["model"]), **arguments)
    seeds = [case["seed"] + k for k in range(case["batch_count"])]
    if case["masked"]:
        # One picture for several generators would be encoded with the first one's noise alone.
        picture, mask = [picture] * len(seeds), [mask] * len(seeds)
    options = {"prompt": [case["prompt"]] * len(seeds), "num_inference_steps": case["steps"], "guidance_scale": case["cfg_scale"],
               "strength": case["strength"],
               "generator": [torch.Generator().manual_seed(seed) for seed in seeds], "output_type": "latent"}
    if "negative_prompt" in case:
        options["negative_prompt"] = [case["negative_prompt"]] * len(seeds)
    if case["masked"]:
        options.update(mask_image=mask, width=SIZE[0], height=SIZE[1])
    latents = pipe(image=picture, **options).images
    pixels = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    return pipe.image_processor.postprocess(pixels, output_type="np"), latents


def main() -> None:
    torch.set_grad_enabled(False)
    diffusers.utils.logging.set_verbosity_error()
    picture, mask = draw_inputs()
    picture.save(GOLDEN / "input.png", optimize=True)
    mask.save(GOLDEN / "input-mask.png", optimize=True)
    pipes, out, cases = {}, {}, []
    for i, (model, sampler, masked, changes) in enumerate(CASES):
        case = {"name": f"{i:02d}-{model}-{sampler}", "model": model, "sampler": sampler, "masked": masked,
                **DEFAULTS, **changes}
        if (model, masked) not in pipes:
            pipes[model, masked] = build(model, masked)
        try:
            pictures, latents = render(pipes[model, masked], case, picture, mask)
        except Exception as e:  # said, and left out: the reference cannot do it
            print(case["name"], type(e).__name__, e, file=sys.stderr)
            continue
        cases.append(case)
        out[case["name"]] = (pictures * 255).round().astype(np.uint8)
        out[case["name"] + ".latents"] = latents.numpy()
    write_arrays(GOLDEN / "pictures_in.safetensors", out)
    (GOLDEN / "pictures_in.json").write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
