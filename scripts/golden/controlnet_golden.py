"""Pictures with ControlNets of random weights by diffusers' pipelines, and cv2's edges (see README.md).

    controlnet_golden.py        needs opencv-python-headless, pinned in requirements.txt

Writes to tests/data:
    controlnets/NAME/config.json            their tensors are those of random_weights.py under NAME/KEY
    golden/control-edges.png, control-shapes.png    what they look at
    golden/controlnets.json                 the pictures' requests
    golden/controlnets.pictures.safetensors NAME: uint8 [height, width, 3]; canny.N: cv2.Canny's [height, width], canny.N.of:
                                            what it looked at
"""
import json
import shutil

import cv2
import diffusers
import numpy as np
import torch
from diffusers import ControlNetModel
from PIL import Image

from families_golden import build_pipeline as build_family
from make_golden import GOLDEN, MODELS, build_pipeline, scheduler_config, write_arrays
from pictures_in_golden import SCHEDULERS
from random_weights import random_tensor

CONTROLS = GOLDEN.parent / "controlnets"
# The residuals of random zero convolutions would drown the U-Net.
SHARE = 0.3
NETS = {
    "sd1-edges": ("sd1", {}),
    "sd1-pooled": ("sd1", {"global_pool_conditions": True, "controlnet_conditioning_channel_order": "bgr"}),
    "sdxl-edges": ("sdxl", {}),
}
DEFAULTS = {"prompt": "a photo of an astronaut", "negative_prompt": "blurry", "width": 72, "height": 56, "steps": 4,
            "cfg_scale": 6.0, "sampler": "ddim"}
# name, model, kind of pipeline, [(net, picture, strength, start, end)], what differs
CASES = [
    ("one", "sd1", "", [("sd1-edges", "edges", 1.0, 0.0, 1.0)], {}),
    ("a share of the steps", "sd1", "", [("sd1-edges", "edges", 0.8, 0.2, 0.7)], {"steps": 6, "sampler": "euler"}),
    ("two calls a step", "sd1", "", [("sd1-edges", "edges", 0.8, 0.1, 0.9)], {"steps": 4, "sampler": "heun"}),
    ("guess", "sd1", "", [("sd1-edges", "shapes", 1.0, 0.0, 1.0)], {"control_guess": True, "prompt": "", "cfg_scale": 3.0}),
    ("two", "sd1", "", [("sd1-edges", "edges", 0.7, 0.0, 0.8), ("sd1-edges", "shapes", 0.5, 0.25, 1.0)], {}),
    ("pooled", "sd1", "", [("sd1-pooled", "shapes", 1.0, 0.0, 1.0)], {}),
    ("without guidance", "sd1", "", [("sd1-edges", "edges", 1.0, 0.0, 1.0)], {"cfg_scale": 1.0, "negative_prompt": None}),
    ("another size", "sd1", "", [("sd1-edges", "large", 1.0, 0.0, 1.0)], {}),
    ("from a picture", "sd1", "Img2Img", [("sd1-edges", "edges", 1.0, 0.0, 0.7)],
     {"init_img": "control-shapes.png", "strength": 0.6, "steps": 5}),
    ("xl", "sdxl", "", [("sdxl-edges", "edges", 0.9, 0.0, 1.0)], {}),
    ("xl guess", "sdxl", "", [("sdxl-edges", "shapes", 0.9, 0.0, 0.8)], {"control_guess": True}),
]


def build_control(name: str, pipe) -> ControlNetModel:
    _, changes = NETS[name]
    levels = len(pipe.vae.config.block_out_channels)
    net = ControlNetModel.from_unet(pipe.unet, conditioning_channels=3, load_weights_from_unet=False,
                                    conditioning_embedding_out_channels=(8, 12, 16, 24)[:levels])
    net = ControlNetModel.from_config({**net.config, **changes})
    state = {}
    for key, value in net.state_dict().items():
        state[key] = random_tensor(f"{name}/{key}", value.shape)
        if key.startswith(("controlnet_down_blocks", "controlnet_mid_block")):
            state[key] = SHARE * state[key]
    net.load_state_dict(state)
    (CONTROLS / name).mkdir()
    (CONTROLS / name / "config.json").write_text(net.to_json_string())
    return net.eval()


def draw_pictures() -> dict:
    rng = np.random.default_rng(3)
    across, down = np.meshgrid(np.linspace(-1, 1, 72), np.linspace(-1, 1, 56))
    shapes = np.stack([255 * (np.hypot(across, down) < 0.6), 127 + 127 * np.sin(5 * across), 200 * (down > across)], -1)
    shapes = shapes.clip(0, 255).astype(np.uint8)
    edges = cv2.Canny(shapes, 100, 200)
    large = cv2.GaussianBlur(rng.integers(0, 256, (112, 144, 3), dtype=np.uint8), (0, 0), 2)
    pictures = {"edges": np.stack([edges] * 3, -1), "shapes": shapes, "large": large}
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(GOLDEN / f"control-{name}.png", optimize=True)
    return {name: Image.fromarray(pixels) for name, pixels in pictures.items()}


def draw_canny() -> dict:
    rng, arrays = np.random.default_rng(4), {}
    for i, (height, width, blur, low, high) in enumerate([(56, 72, 1.0, 100, 200), (33, 47, 2.0, 40, 90), (64, 64, 0, 100, 200),
                                                          (1, 9, 0, 50, 100), (17, 2, 0, 10, 300), (48, 80, 3.0, 5, 20)]):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        if blur:
            pixels = cv2.normalize(cv2.GaussianBlur(pixels, (0, 0), blur), None, 0, 255, cv2.NORM_MINMAX)
        arrays[f"canny.{i}.of"], arrays[f"canny.{i}"] = pixels, cv2.Canny(pixels, low, high)
        arrays[f"canny.{i}.thresholds"] = np.array([low, high])
    return arrays


def pipeline_of(model: str, kind: str, plain, nets: list):
    family = "StableDiffusionXL" if model == "sdxl" else "StableDiffusion"
    wanted = getattr(diffusers, f"{family}ControlNet{kind}Pipeline")
    more = {"add_watermarker": False} if model == "sdxl" else {"requires_safety_checker": False}
    parts = {k: v for k, v in plain.components.items() if k in wanted.__init__.__code__.co_varnames}
    pipe = wanted(**{**parts, "controlnet": nets if len(nets) > 1 else nets[0]}, **more)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw(pipe, case: dict, controls: list, pictures: dict, kind: str) -> np.ndarray:
    scheduler, arguments = SCHEDULERS[case["sampler"]]
    pipe.scheduler = scheduler.from_config(scheduler_config(MODELS / case["model"]), **arguments)
    single = len(controls) == 1
    each = lambda values: values[0] if single else values
    shown = each([pictures[c[1]] for c in controls])
    options = {"image": shown}
    if kind:
        options = {"image": Image.open(GOLDEN / case["init_img"]), "control_image": shown, "strength": case["strength"]}
    return (pipe(case["prompt"], negative_prompt=case["negative_prompt"], width=case["width"], height=case["height"],
                 num_inference_steps=case["steps"], guidance_scale=case["cfg_scale"], guess_mode=case.get("control_guess", False),
                 controlnet_conditioning_scale=each([c[2] for c in controls]), control_guidance_start=each([c[3] for c in controls]),
                 control_guidance_end=each([c[4] for c in controls]), generator=torch.Generator().manual_seed(case["seed"]),
                 output_type="np", **options).images[0] * 255).round().astype(np.uint8)


def main() -> None:
    diffusers.utils.logging.set_verbosity_error()
    shutil.rmtree(CONTROLS, ignore_errors=True)
    CONTROLS.mkdir()
    pictures, out, cases = draw_pictures(), draw_canny(), []
    plain = {"sd1": build_pipeline(MODELS / "sd1"), "sdxl": build_family("sdxl")}
    nets = {name: build_control(name, plain[model]) for name, (model, _) in NETS.items()}
    for seed, (name, model, kind, controls, changes) in enumerate(CASES):
        case = {"name": name, "model": model, "seed": seed, **DEFAULTS, **changes}
        pipe = pipeline_of(model, kind, plain[model], [nets[c[0]] for c in controls])
        out[name] = draw(pipe, case, controls, pictures, kind)
        case |= {"control_net": [c[0] for c in controls], "control_image": [f"control-{c[1]}.png" for c in controls],
                 "control_strength": [c[2] for c in controls], "control_start": [c[3] for c in controls],
                 "control_end": [c[4] for c in controls]}
        cases.append({k: v for k, v in case.items() if v is not None})
    write_arrays(GOLDEN / "controlnets.pictures.safetensors", out)
    (GOLDEN / "controlnets.json").write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    with torch.no_grad():
        main()
