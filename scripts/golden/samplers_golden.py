"""Goldens of the samplers: diffusers' schedulers on a fixed analytic network, every step's latent.

    pip install diffusers==0.42.1 torch==2.11.0 safetensors numpy
    python scripts/golden/samplers_golden.py tests/data/golden

writes samplers.json (what was run, timesteps, init_noise_sigma) and samplers.safetensors (x_T's noise, latents, checksums of
the timesteps of every number of steps). The network is the function `network` below; tests/diffusion repeats it.
"""

import itertools
import json
import math
import sys
import warnings
from pathlib import Path

import diffusers
import numpy as np
import torch
from safetensors.torch import save_file

SHAPE = (2, 2, 2, 4)  # at least 16 numbers: torch.randn draws fewer in another way
SEED = 1234
ALL_STEPS = (1, 2, 3, 4, 7, 10, 50)
RUNGE_KUTTA_STEPS = (4, 5, 7, 10, 50)

SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SPACINGS = (
    {"timestep_spacing": "leading", "steps_offset": 0},
    {"timestep_spacing": "leading", "steps_offset": 1},
    {"timestep_spacing": "linspace"},
    {"timestep_spacing": "trailing"},
)
PREDICTIONS = ("epsilon", "v_prediction", "sample")


def network(x, t, channels):
    out = 0.3 * x * math.cos(t / 100) + 0.1 * torch.sin(3 * x)
    if channels == 2 * x.shape[1]:
        out = torch.cat([out, torch.sin(2 * x + t / 50) ** 2], dim=1)
    return out


def run(scheduler, steps, eta, channels):
    generator = torch.Generator().manual_seed(SEED)
    scheduler.set_timesteps(steps)
    x = torch.randn(SHAPE, generator=generator) * scheduler.init_noise_sigma
    arguments = scheduler.step.__code__.co_varnames[: scheduler.step.__code__.co_argcount]
    extra = {}
    if "generator" in arguments:
        extra["generator"] = generator
    if "eta" in arguments:
        extra["eta"] = eta
    latents = []
    for t in scheduler.timesteps:
        x_in = scheduler.scale_model_input(x, t)
        x = scheduler.step(network(x_in, float(t), channels), t, x, **extra).prev_sample
        latents.append(x)
    return torch.stack(latents).to(torch.float32)


def groups():
    """(class, fields of scheduler_config.json, eta, numbers of steps, network channels)"""
    c = SHAPE[1]
    for prediction, spacing in itertools.product(PREDICTIONS, SPACINGS):
        model = {**SD, "prediction_type": prediction, **spacing}
        yield "DDPMScheduler", {**model, "clip_sample": False}, 0.0, ALL_STEPS, c
        yield "EulerDiscreteScheduler", model, 0.0, ALL_STEPS, c
        if prediction != "sample":
            yield "EulerAncestralDiscreteScheduler", model, 0.0, ALL_STEPS, c
        for to_one in (True, False):
            for eta in (0.0, 0.5, 1.0):
                config = {**model, "clip_sample": False, "set_alpha_to_one": to_one}
                yield "DDIMScheduler", config, eta, ALL_STEPS, c
            if prediction != "sample":
                for skip in (True, False):
                    config = {**model, "set_alpha_to_one": to_one, "skip_prk_steps": skip}
                    yield "PNDMScheduler", config, 0.0, ALL_STEPS if skip else RUNGE_KUTTA_STEPS, c

    # Nothing in the file: every default is the class's own.
    for name in ("DDPMScheduler", "DDIMScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"):
        yield name, {}, 0.0, (3, 10), c
    yield "PNDMScheduler", {}, 0.0, (5, 10), c

    some = (1, 3, 10)
    for variance in ("fixed_small_log", "fixed_large", "learned", "learned_range"):
        channels = 2 * c if variance.startswith("learned") else c
        yield "DDPMScheduler", {**SD, "variance_type": variance, "clip_sample": False}, 0.0, some, channels
    clippings = (
        {"clip_sample": True},
        {"clip_sample": True, "clip_sample_range": 0.5},
        {"thresholding": True, "dynamic_thresholding_ratio": 0.8, "sample_max_value": 1.5},
        {"thresholding": True},
    )
    for name, clipping in itertools.product(("DDPMScheduler", "DDIMScheduler"), clippings):
        yield name, {**SD, **clipping}, 0.5 if name == "DDIMScheduler" else 0.0, some, c

    betas = (
        {"beta_schedule": "linear"},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"trained_betas": [0.001 + 0.0004 * i for i in range(50)], "num_train_timesteps": 50},
        {**SD, "num_train_timesteps": 400},
    )
    for name in ("DDPMScheduler", "DDIMScheduler", "PNDMScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"):
        for beta in betas:
            yield name, beta, 0.0, (10,), c
    for schedule in ("sigmoid", "laplace"):
        yield "DDPMScheduler", {"beta_schedule": schedule}, 0.0, (10,), c

    zero_snr = {**SD, "rescale_betas_zero_snr": True, "prediction_type": "v_prediction", "clip_sample": False}
    for name, spacing in itertools.product(
        ("DDPMScheduler", "DDIMScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler"),
        ("trailing", "leading"),
    ):
        yield name, {**zero_snr, "timestep_spacing": spacing}, 0.0, some, c
    # Not eta 1: there 1 - alpha_prev - sigma^2 is 0, comes out at -6e-8, and the reference takes its root.
    yield "DDIMScheduler", {**zero_snr, "timestep_spacing": "trailing"}, 0.5, some, c

    euler = (
        {"use_karras_sigmas": True},
        {"use_karras_sigmas": True, "timestep_spacing": "leading", "steps_offset": 1},
        {"use_karras_sigmas": True, "sigma_min": 0.1, "sigma_max": 10.0},
        {"use_karras_sigmas": True, "interpolation_type": "log_linear"},
        {"use_exponential_sigmas": True},
        {"use_exponential_sigmas": True, "sigma_min": 0.1, "sigma_max": 10.0},
        {"interpolation_type": "log_linear"},
        {"final_sigmas_type": "sigma_min"},
        {"final_sigmas_type": "sigma_min", "use_karras_sigmas": True},
        {"timestep_type": "continuous"},
        {"timestep_type": "continuous", "prediction_type": "v_prediction"},
    )
    for config in euler:
        yield "EulerDiscreteScheduler", {**SD, **config}, 0.0, some, c


def checksums():
    """Sum of (i + 1)·t_i over the timesteps, for every number of steps; NaN where the reference has none to compare."""
    classes = ("DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "EulerDiscreteScheduler", "EulerAncestralDiscreteScheduler")
    for name, spacing in itertools.product(classes, ("leading", "linspace", "trailing")):
        fields = {"timestep_spacing": spacing, **({"skip_prk_steps": True} if name == "PNDMScheduler" else {})}
        scheduler = getattr(diffusers, name).from_config(fields)
        sums = []
        for n in range(1, 1001):
            scheduler.set_timesteps(n)
            t = scheduler.timesteps.double().numpy()
            if t[-1] == -1:  # np.arange's rounding: one timestep too many
                t = t[:-1]
                if name == "PNDMScheduler":
                    t = np.array([np.nan])
            sums.append(float(np.sum(np.arange(1, len(t) + 1) * t)))
        yield f"checksum/{name}/{spacing}", torch.tensor(sums, dtype=torch.float64)


def main(folder):
    warnings.simplefilter("ignore")
    tensors = {"noise": torch.randn(SHAPE, generator=torch.Generator().manual_seed(SEED))}
    listing = []
    for name, fields, eta, numbers, channels in groups():
        runs = []
        for n in numbers:
            scheduler = getattr(diffusers, name).from_config(fields)
            latents = run(scheduler, n, eta, channels)
            assert torch.isfinite(latents).all(), (name, fields, n)
            key = f"{len(listing)}/{n}"
            tensors[key] = latents if n <= 4 or n == 10 else latents[-1:]
            timesteps = [round(float(t), 7) for t in scheduler.timesteps]
            timesteps = [int(t) if t == int(t) else t for t in timesteps]
            runs.append({"steps": n, "init": float(scheduler.init_noise_sigma), "t": timesteps})
        listing.append({"class": name, "fields": fields, "eta": eta, "channels": channels, "runs": runs})
    tensors.update(checksums())

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "samplers.safetensors")
    document = {"diffusers": diffusers.__version__, "torch": torch.__version__.split("+")[0], "seed": SEED,
                "shape": SHAPE, "groups": listing}
    lines = json.dumps(document, separators=(",", ":")).replace('{"class"', '\n{"class"')
    (folder / "samplers.json").write_text(lines + "\n")
    print(f"{len(listing)} groups, {sum(len(g['runs']) for g in listing)} runs")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "tests/data/golden")
