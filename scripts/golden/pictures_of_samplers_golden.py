"""Whole pictures of every sampler that has a class in diffusers, over a spread of schedules, on eps and on v networks.

    pictures_of_samplers_golden.py

Writes to tests/data/golden:
    samplers.pictures.json          the requests, as families.json; `file` has fields that scheduler_config.json is given
    samplers.pictures.safetensors   per `name`: uint8 [1, height, width, 3], and NAME.latents

The class is diffusers' own, in its own pipeline. Three cannot be followed as they are, and samplers_golden.py mends
them: dpm++3m_sde's third-order weight, unipc_bh1's NaN in the step to sigma 0 (given sigma_min it runs as it is), and
dpm++sde's Brownian tree, which is seeded from the global generator; here each of its calls is one draw.
"""
import json
import types

import diffusers
import numpy as np
import torch

import families_golden
import make_golden
from make_golden import GOLDEN, MODELS, PROMPTS, scheduler_config, write_arrays
from samplers_golden import DIFFUSERS, USES, Draws, bh2_at_zero, scheduler_of

DEFAULTS = {"prompt": PROMPTS[1], "width": 48, "height": 32, "steps": 4, "cfg_scale": 5.0, "seed": 0}
SAMPLER_FIELDS = ("solver_order", "solver_type", "algorithm_type")  # that make the sampler; the rest is the file's
MENDED = ("dpm++3m_sde", "dpm++sde")

EPS, V, V_TRAILING, ZERO_SNR, XL = "sd1", "sd2", "sd1-linear", "sd2-zsnr", "sdxl"
TIMESTEPS = "951,700,333,20"
SIGMA_MIN = {"final_sigmas_type": "sigma_min"}

# (model, sampler, what differs from DEFAULTS). Fields that are not named are not given.
CASES = [
    (EPS, "ddpm", {"timesteps": TIMESTEPS}),
    (V_TRAILING, "ddpm", {"scheduler": "linspace", "seed": 3}),
    (XL, "ddpm", {"scheduler": "trailing", "steps": 3}),
    (EPS, "ddim", {"scheduler": "trailing", "eta": 0.3}),
    (V, "ddim", {"scheduler": "linspace"}),
    (EPS, "pndm", {"scheduler": "trailing", "steps": 5}),
    (V_TRAILING, "pndm", {"scheduler": "linspace", "file": {"skip_prk_steps": True}}),
    (EPS, "lcm", {"cfg_scale": 1.5}),
    (V, "lcm", {"seed": 2}),
    (XL, "lcm", {"timesteps": TIMESTEPS}),
    (EPS, "tcd", {"eta": 0.3}),
    (V, "tcd", {"eta": 1.0, "steps": 3}),
    (XL, "tcd", {"timesteps": TIMESTEPS}),
    (EPS, "euler", {"scheduler": "karras"}),
    (V, "euler", {"scheduler": "exponential", "steps": 5}),
    (XL, "euler", {"scheduler": "beta"}),
    (EPS, "euler", {"sigmas": "12.5,5,1.5,0.4,0"}),
    (V_TRAILING, "euler", {"timesteps": TIMESTEPS}),
    (EPS, "euler_a", {"scheduler": "trailing", "seed": 5}),
    (V, "euler_a", {"scheduler": "linspace"}),
    (EPS, "heun", {}),
    (V, "heun", {"scheduler": "karras", "steps": 3}),
    (XL, "heun", {"scheduler": "beta", "steps": 3}),
    (V_TRAILING, "heun", {"timesteps": TIMESTEPS}),
    (EPS, "dpm2", {"scheduler": "leading"}),
    (V, "dpm2", {"scheduler": "karras", "steps": 3}),
    (XL, "dpm2", {"scheduler": "exponential", "steps": 3}),
    (EPS, "dpm2_a", {"scheduler": "karras"}),
    (V_TRAILING, "dpm2_a", {"seed": 4}),
    (XL, "dpm2_a", {"scheduler": "beta", "steps": 3}),
    (EPS, "lms", {"scheduler": "karras", "steps": 5}),
    (V, "lms", {"scheduler": "beta", "steps": 5}),
    (V_TRAILING, "lms", {}),
    (EPS, "dpm++sde", {"scheduler": "karras"}),
    (V, "dpm++sde", {"scheduler": "leading", "steps": 3}),
    (EPS, "dpm++2m", {"scheduler": "karras"}),
    (V, "dpm++2m", {"scheduler": "exponential"}),
    (XL, "dpm++2m", {"scheduler": "beta", "steps": 5}),
    (EPS, "dpm++2m", {"timesteps": TIMESTEPS, "file": {"solver_type": "heun"}}),
    (V, "dpm++2m", {"scheduler": "lu"}),
    (ZERO_SNR, "dpm++2m", {"cfg_rescale": 0.7}),
    (EPS, "dpm++3m", {"scheduler": "trailing", "steps": 5}),
    (V, "dpm++3m", {"scheduler": "karras", "steps": 5}),
    (EPS, "dpm++2m_sde", {"scheduler": "karras"}),
    (V, "dpm++2m_sde", {"scheduler": "exponential", "seed": 6}),
    (XL, "dpm++2m_sde", {}),
    (EPS, "dpm++3m_sde", {"scheduler": "karras", "steps": 5}),
    (V, "dpm++3m_sde", {"scheduler": "linspace", "steps": 5}),
    (EPS, "dpm++2s", {"scheduler": "karras"}),
    (V, "dpm++2s", {"scheduler": "beta", "steps": 5, "file": {"lower_order_final": True}}),
    (EPS, "unipc", {"scheduler": "leading"}),
    (V, "unipc", {"scheduler": "karras", "steps": 5}),
    (XL, "unipc", {"scheduler": "exponential"}),
    (ZERO_SNR, "unipc", {}),
    (EPS, "unipc_bh1", {"file": SIGMA_MIN, "steps": 5}),
    (V, "unipc_bh1", {"scheduler": "karras", "file": SIGMA_MIN}),
    (V_TRAILING, "unipc_bh1", {}),
    (EPS, "deis", {"scheduler": "trailing"}),
    (V, "deis", {"scheduler": "karras", "steps": 5}),
    (XL, "deis", {"scheduler": "beta"}),
    (EPS, "sa_solver", {"scheduler": "linspace"}),
    (V, "sa_solver", {"scheduler": "karras", "steps": 5}),
    (XL, "sa_solver", {"scheduler": "exponential", "seed": 7}),
]


def make_cases() -> list:
    cases = []
    for number, (model, sampler, changes) in enumerate(CASES):
        case = {"name": f"{number:02d}-{model}-{sampler}", "model": model, "sampler": sampler, **DEFAULTS, **changes}
        if "timesteps" in case or "sigmas" in case:
            del case["steps"]
        cases.append(case)
    return cases


def make_scheduler(case: dict):
    sampler, schedule = case["sampler"], case.get("scheduler")
    name, of_sampler = DIFFUSERS[sampler]
    fields = {**scheduler_config(MODELS / case["model"]), **case.get("file", {})}
    fields.update({k: v for k, v in of_sampler.items() if k in SAMPLER_FIELDS})
    uses = {**USES, "lu": "use_lu_lambdas"}
    if schedule in uses:
        fields[uses[schedule]] = True
    elif schedule is not None:
        fields["timestep_spacing"] = schedule
    if sampler in MENDED:
        return scheduler_of(name, fields, double=False)
    scheduler = getattr(diffusers, name).from_config(fields)
    if sampler == "unipc_bh1" and fields.get("final_sigmas_type") != "sigma_min":
        scheduler.multistep_uni_p_bh_update = types.MethodType(bh2_at_zero, scheduler)
    return scheduler


def numbers(text: str) -> list:
    return [float(word) if "." in word else int(word) for word in text.split(",")]


def arguments(case: dict) -> dict:
    names = {"prompt": "prompt", "width": "width", "height": "height", "steps": "num_inference_steps",
             "cfg_scale": "guidance_scale", "cfg_rescale": "guidance_rescale", "eta": "eta"}
    out = {theirs: case[ours] for ours, theirs in names.items() if ours in case}
    out.update({name: numbers(case[name]) for name in ("timesteps", "sigmas") if name in case})
    return out


def render(pipe, case: dict):
    """(pictures [1, H, W, 3] in [0, 1], final latents [1, 4, h, w])"""
    pipe.scheduler = make_scheduler(case)
    generator = Draws.generator = torch.Generator().manual_seed(case["seed"])
    latents = pipe(generator=generator, output_type="latent", **arguments(case)).images
    pixels = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    return pipe.image_processor.postprocess(pixels, output_type="np"), latents


def write_pictures(stem: str, cases: list, draw) -> None:
    """STEM.json and STEM.safetensors of the cases; draw(case) gives what render() gives."""
    out = {}
    for case in cases:
        pictures, latents = draw(case)
        assert torch.isfinite(latents).all() and pictures.std() > 0.02, case["name"]
        out[case["name"]] = (pictures * 255).round().astype(np.uint8)
        out[case["name"] + ".latents"] = latents.numpy()
        print(f"{case['name']}: deviation {pictures.std():.3f}, latents {latents.abs().max():.3g}")
    write_arrays(GOLDEN / f"{stem}.safetensors", out)
    (GOLDEN / f"{stem}.json").write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n")


def main() -> None:
    torch.set_grad_enabled(False)
    diffusers.utils.logging.set_verbosity_error()
    pipes = {EPS: make_golden.build_pipeline(MODELS / EPS), V_TRAILING: make_golden.build_pipeline(MODELS / V_TRAILING)}
    pipes.update({model: families_golden.build_pipeline(model) for model in (V, ZERO_SNR, XL)})
    write_pictures("samplers.pictures", make_cases(), lambda case: render(pipes[case["model"]], case))


if __name__ == "__main__":
    main()
