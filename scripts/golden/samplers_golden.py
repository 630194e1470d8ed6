"""Goldens of the samplers: the reference's timesteps, sigmas and every step's latent on a fixed analytic network.

    pip install -r scripts/golden/requirements.txt
    pip download --no-deps k-diffusion==0.1.1.post1 && python -m zipfile -e k_diffusion-*.whl K_DIFFUSION
    python scripts/golden/samplers_golden.py tests/data/golden K_DIFFUSION

writes samplers.json (what was run) and samplers.safetensors. The network is the function `network` below; tests/diffusion
repeats it. The reference is diffusers' scheduler class, or k-diffusion's function, run twice:

- its own source read with float64 in place of float32, on the float32 betas that models are trained on: what the formulas
  say. `calls/G` holds, for each network call of each run of group G, two weighted sums of the latent (`project`), the
  timestep, and sigma/alpha.
- as it is, in float32: `float32/G`, the two sums of the last latent of each run. How far the two are apart is the
  reference's own rounding; `rounding` in the JSON has the largest of each group.

What a reference has not, is written here from its source's rule (tool_sigmas, ipndm, restart).
"""

import functools
import importlib
import inspect
import itertools
import json
import math
import sys
import types
import warnings
from pathlib import Path

import diffusers
import numpy as np
import scipy.stats
import torch
from safetensors.torch import save_file

SHAPE = (2, 2, 2, 4)  # at least 16 numbers: torch.randn draws fewer in another way
SEED = 1234
ALL_STEPS = (1, 2, 3, 4, 10, 50)
SOME_STEPS = (1, 3, 10)
SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SPACINGS = {
    "leading": {"timestep_spacing": "leading", "steps_offset": 1},
    "linspace": {"timestep_spacing": "linspace"},
    "trailing": {"timestep_spacing": "trailing"},
}
USES = {"karras": "use_karras_sigmas", "exponential": "use_exponential_sigmas", "beta": "use_beta_sigmas"}
TOOLS = ("polyexponential", "sgm_uniform", "simple", "ays", "ays_sdxl", "kl_optimal")

# Easel's sampler: class, arguments
DIFFUSERS = {
    "ddpm": ("DDPMScheduler", {"clip_sample": False}),
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "pndm": ("PNDMScheduler", {"skip_prk_steps": True}),
    "lcm": ("LCMScheduler", {}),
    "tcd": ("TCDScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpm2": ("KDPM2DiscreteScheduler", {}),
    "dpm2_a": ("KDPM2AncestralDiscreteScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "dpm++sde": ("DPMSolverSDEScheduler", {}),
    "dpm++2m": ("DPMSolverMultistepScheduler", {}),
    "dpm++3m": ("DPMSolverMultistepScheduler", {"solver_order": 3}),
    "dpm++2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpm++3m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++", "solver_order": 3}),
    "dpm++2s": ("DPMSolverSinglestepScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "unipc_bh1": ("UniPCMultistepScheduler", {"solver_type": "bh1"}),
    "deis": ("DEISMultistepScheduler", {}),
    "sa_solver": ("SASolverScheduler", {}),
}
TIMESTEPS = ("ddpm", "ddim", "pndm", "lcm", "tcd")
K_FORM = ("euler", "euler_a", "heun", "dpm2", "dpm2_a", "lms", "dpm++sde", "dpm++2s_a", "ipndm", "restart")
OUTSIDE = ("dpm++2s_a", "ipndm", "restart")
# diffusers' third-order SDE weight is phi_3 + 1, which is first order; k-diffusion's is phi_3 (main() compares the two).
CORRECTED = ("- 2.0 * h) / (2.0 * h) ** 2 - 0.5)", "- 2.0 * h) / (2.0 * h) ** 2 + 0.5)")


def network(x, t, channels):
    out = 0.3 * x * math.cos(t / 100) + 0.1 * torch.sin(3 * x)
    if channels == 2 * x.shape[1]:
        out = torch.cat([out, torch.sin(2 * x + t / 50) ** 2], dim=1)
    return out


def project(x):
    n = torch.arange(x.numel(), dtype=torch.float64)
    weights = torch.stack([torch.cos(1 + 0.7 * n), torch.sin(2 + 1.9 * n * n / x.numel())])
    return weights @ x.double().flatten()


# ---- the reference's code in float64 and in float32 ------------------------------------------------------------------


def plain_randn(shape, generator=None, device=None, dtype=None, layout=None):
    return torch.randn(shape, generator=generator).to(dtype)


def read(name, double):
    """The module of class `name`; `double`: its source with float64 for float32."""
    folder = Path(inspect.getsourcefile(diffusers.DDIMScheduler)).parent
    file = next(f for f in sorted(folder.glob("*.py")) if f"class {name}(" in f.read_text())
    source = file.read_text()
    assert name != "DPMSolverMultistepScheduler" or source.count(CORRECTED[0]) == 1
    source = source.replace(*CORRECTED).replace("import torchsde", "")
    if double:
        source = source.replace("float32", "float64")
    module = types.ModuleType("diffusers.schedulers." + file.stem + ("_double" if double else "_single"))
    module.__package__ = "diffusers.schedulers"
    module.__file__ = str(file)
    sys.modules[module.__name__] = module
    exec(compile(source, str(file), "exec"), module.__dict__)
    module.randn_tensor, module.BrownianTreeNoiseSampler = plain_randn, Draws
    return module


MODULES = {}


def scheduler_of(name, fields, double):
    """As from_config(fields), on float32 betas either way."""
    if (name, double) not in MODULES:
        MODULES[name, double] = read(name, double)
    module = MODULES[name, double]
    if double:
        fields = {**fields, "trained_betas": single_betas(name, json.dumps(fields))}
    return getattr(module, name).from_config(fields)


@functools.cache
def single_betas(name, fields):
    return [float(b) for b in scheduler_of(name, {**json.loads(fields), "rescale_betas_zero_snr": False}, False).betas]


class Draws:
    """Stands for a Brownian tree: each call draws from the picture's stream."""

    generator = None

    def __init__(self, sample, *_):
        self.sample = sample

    def __call__(self, *_):
        return plain_randn(self.sample.shape, generator=Draws.generator, dtype=self.sample.dtype)


# ---- schedules that diffusers has not --------------------------------------------------------------------------------


def k_sigma(training, t):
    """k-diffusion's t_to_sigma: log-linear."""
    return np.exp(np.interp(t, np.arange(len(training)), np.log(training)))


def k_time(training, sigma):
    """k-diffusion's sigma_to_t."""
    return np.interp(np.log(sigma), np.log(training), np.arange(len(training)))


AYS = diffusers.schedulers.scheduling_utils.AysSchedules


def ays(name, n):
    """ComfyUI: the 11 levels interpolated in log sigma to n + 1, the last set to 0."""
    key = "StableDiffusionXLSigmas" if name == "ays_sdxl" else "StableDiffusionSigmas"
    levels = np.array(AYS[key][:-1] + [0.029])
    return np.exp(np.interp(np.linspace(0, 10, n + 1), np.arange(11), np.log(levels)))[:-1]


def tool_sigmas(name, training, n):
    low, high, last = training[0], training[-1], len(training) - 1
    if name == "karras":
        return karras(n, low, high)
    if name == "beta":
        return low + scipy.stats.beta.ppf(1 - np.linspace(0, 1, n), 0.6, 0.6) * (high - low)
    if name == "exponential":
        return np.exp(np.linspace(np.log(high), np.log(low), n))
    if name == "polyexponential":  # k-diffusion, rho 1
        return np.exp(np.linspace(np.log(high), np.log(low), n))
    if name == "sgm_uniform":  # A1111
        return k_sigma(training, np.linspace(last, 0, n + 1)[:-1])
    if name == "simple":  # A1111, ComfyUI
        return np.array([training[-(1 + int(i * len(training) / n))] for i in range(n)])
    if name == "kl_optimal":  # ComfyUI
        share = np.arange(n) / max(n - 1, 1)
        return np.tan(share * np.arctan(low) + (1 - share) * np.arctan(high))
    return ays(name, n)


def with_sigmas(scheduler, sampler, sigmas, n, double):
    """Puts `sigmas` (n + 1 of them) where set_timesteps puts its own."""
    training = np.array(((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod) ** 0.5, dtype=np.float64)
    t = k_time(training, sigmas[:-1])
    t = t if sampler in K_FORM else np.round(t)
    kind = torch.float64 if double else torch.float32
    points = torch.tensor(np.array(sigmas), dtype=kind)
    scheduler.sigmas, scheduler.timesteps = points, torch.tensor(t, dtype=kind if sampler in K_FORM else torch.int64)
    if sampler in ("heun", "dpm++sde"):
        scheduler.sigmas = torch.cat([points[:1], points[1:-1].repeat_interleave(2), points[-1:]])
    if sampler in ("dpm2", "dpm2_a"):
        scheduler.sigmas = torch.cat([points[:1], points[1:].repeat_interleave(2), points[-1:]])
        to = points[1:]
        if sampler == "dpm2_a":
            up = (to**2 * (points[:-1] ** 2 - to**2) / points[:-1] ** 2) ** 0.5
            to = (to**2 - up**2) ** 0.5
            to[-1] = 0
            zero = torch.zeros(1, dtype=kind)
            twice = lambda v: torch.cat([v[:1], v[1:].repeat_interleave(2), v[-1:]])
            scheduler.sigmas_up, scheduler.sigmas_down = twice(torch.cat([up, zero])), twice(torch.cat([to, zero]))
        middle = (points[:-1] * to) ** 0.5
        if sampler == "dpm2":
            shifted = torch.cat([torch.zeros(1, dtype=kind), middle])
            scheduler.sigmas_interpol = torch.cat([shifted[:1], shifted[1:].repeat_interleave(2), shifted[-1:]])
        else:
            shifted = torch.cat([middle, torch.zeros(1, dtype=kind)])
            scheduler.sigmas_interpol = torch.cat([shifted[:1], shifted[1:].repeat_interleave(2), shifted[-1:]])
    if sampler in ("heun", "dpm2", "dpm2_a", "dpm++sde") and n > 1:
        between = (points[:-2] * points[1:-1]) ** 0.5
        if sampler == "heun":
            between = points[1:-1]
        if sampler == "dpm2_a":
            between = middle[:-1]
        second = torch.tensor(k_time(training, between.double().numpy()), dtype=kind)
        pairs = torch.stack([second, scheduler.timesteps[1:]], dim=1).flatten()
        scheduler.timesteps = torch.cat([scheduler.timesteps[:1], pairs])
    scheduler.num_inference_steps = n


def has_field(scheduler, name):
    return name in inspect.signature(type(scheduler).__init__).parameters


def file_of(sampler, schedule, fields):
    """The fields of scheduler_config.json."""
    return {**SD, **SPACINGS.get(schedule, {}), **DIFFUSERS.get(sampler, (None, {}))[1], **fields}


def prepared(sampler, schedule, fields, n, double):
    """The scheduler after set_timesteps."""
    name = DIFFUSERS[sampler][0]
    fields = file_of(sampler, schedule, fields)
    if schedule in USES:
        fields[USES[schedule]] = True
    scheduler = scheduler_of(name, fields, double)
    if schedule == "given":
        scheduler.set_timesteps(**GIVEN[sampler in TIMESTEPS])
        return scheduler
    scheduler.set_timesteps(n)
    if double and not scheduler.timesteps.is_floating_point():
        # Whole ones are float32's: diffusers cuts 998.99999, which float64 has not.
        single = scheduler_of(name, fields, False)
        single.set_timesteps(n)
        scheduler.timesteps = single.timesteps
    own = schedule in SPACINGS or schedule == "model" or (schedule in USES and has_field(scheduler, USES[schedule]))
    if sampler in TIMESTEPS and not own:
        training = np.array(((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod) ** 0.5, dtype=np.float64)
        t = np.round(k_time(training, tool_sigmas(schedule, training, n)))
        if schedule.startswith("ays") and n == 10:
            t = np.array(AYS["StableDiffusionXLTimesteps" if schedule == "ays_sdxl" else "StableDiffusionTimesteps"])
        scheduler.set_timesteps(timesteps=[int(v) for v in t])
    elif not own:
        training = np.array(((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod) ** 0.5, dtype=np.float64)
        if schedule in USES:  # k-diffusion's rule between the ends of the steps, for a class without the field
            training = scheduler.sigmas.double().numpy()[:-1][::-1]
        # log 0 is NaN in these two, which never end there by themselves
        end = 1e-12 if sampler in ("deis", "sa_solver") else 0
        with_sigmas(scheduler, sampler, np.append(tool_sigmas(schedule, training, n), end), n, double)
        if sampler == "deis":
            scheduler.step = types.MethodType(first_order_at_zero, scheduler)
    if sampler == "unipc_bh1" and scheduler.sigmas[-1] == 0:
        scheduler.multistep_uni_p_bh_update = types.MethodType(bh2_at_zero, scheduler)
    return scheduler


GIVEN = {True: {"timesteps": [951, 700, 333, 20]}, False: {"sigmas": [12.5, 5.0, 1.5, 0.4, 0.0]}}


def bh2_at_zero(self, *args, **kwargs):
    """bh1's B(h) is infinite in the step to sigma 0, and NaN comes of it: that step with bh2."""
    kind = self.config.solver_type
    if self.sigmas[self.step_index + 1] == 0:
        self.register_to_config(solver_type="bh2")
    result = type(self).multistep_uni_p_bh_update(self, *args, **kwargs)
    self.register_to_config(solver_type=kind)
    return result


def first_order_at_zero(self, *args, **kwargs):
    """A step to sigma 0 with DEIS: first order, as with the DPM-Solver classes."""
    if self.step_index == len(self.timesteps) - 1:
        self.lower_order_nums = 0
    return type(self).step(self, *args, **kwargs)


# ---- one run ---------------------------------------------------------------------------------------------------------


def run_diffusers(sampler, schedule, fields, n, eta, channels, double):
    scheduler = prepared(sampler, schedule, fields, n, double)
    if hasattr(scheduler, "set_begin_index"):  # else a first timestep that rounding doubled starts the run at its second
        scheduler.set_begin_index(0)
    generator = Draws.generator = torch.Generator().manual_seed(SEED)
    kind = torch.float64 if double else torch.float32
    x = torch.randn(SHAPE, generator=generator).to(kind) * scheduler.init_noise_sigma
    names = inspect.signature(type(scheduler).step).parameters
    extra = {k: v for k, v in {"generator": generator, "eta": eta}.items() if k in names}
    rows = []
    for t in scheduler.timesteps:
        x_in = scheduler.scale_model_input(x, t)
        ratio = float(x.flatten()[0] / x_in.flatten()[0])  # sqrt(1 + sigma^2) in k-diffusion's form
        x = scheduler.step(network(x_in, float(t), channels), t, x, **extra).prev_sample
        rows.append([*project(x).tolist(), float(t), ratio])
    return rows, x


def denoiser(scheduler, prediction, calls):
    """k-diffusion's form of the network: (x, sigma) -> x0. A sigma of the schedule is told as its timestep."""
    training = np.array(((1 - scheduler.alphas_cumprod) / scheduler.alphas_cumprod) ** 0.5, dtype=np.float64)
    points = scheduler.sigmas.double().numpy()[:-1]

    def denoise(x, sigma, **_):
        sigma = float(sigma.flatten()[0]) if torch.is_tensor(sigma) else float(sigma)
        nearest = int(np.argmin(abs(points - sigma)))
        known = abs(points[nearest] - sigma) < 1e-6 * sigma
        t = float(scheduler.timesteps[nearest] if known else k_time(training, sigma))
        calls.append([t, (1 + sigma**2) ** 0.5])
        out = network(x / (1 + sigma**2) ** 0.5, t, SHAPE[1])
        if prediction == "v_prediction":
            return x / (sigma**2 + 1) - out * sigma / (sigma**2 + 1) ** 0.5
        return x - sigma * out

    return denoise


def heun_step(denoise, x, sigma, to):
    d = (x - denoise(x, sigma)) / sigma
    x_2 = x + d * (to - sigma)
    if to == 0:
        return x_2
    return x + (d + (x_2 - denoise(x_2, to)) / to) / 2 * (to - sigma)


def karras(n, low, high):
    return (high ** (1 / 7) + np.linspace(0, 1, n) * (low ** (1 / 7) - high ** (1 / 7))) ** 7


def restart(denoise, x, sigmas, draw, n):
    """Xu et al. 2023 with A1111's choice of intervals."""
    legs = list(zip(sigmas[:-1], sigmas[1:]))
    if n >= 20:
        count, times = (n // 4, 2) if n >= 36 else (9, 1)
        sigmas = np.append(karras(n - count * times, sigmas[-2], sigmas[0]), 0)
        low, high = int(np.argmin(abs(sigmas - 0.1))), int(np.argmin(abs(sigmas - 2)))
        again = karras(count + 1, sigmas[low], sigmas[high])
        legs = list(zip(sigmas[:-1], sigmas[1:]))
        legs[low:low] = list(zip(again[:-1], again[1:])) * times
    reached = legs[0][0]
    for sigma, to in legs:
        if sigma > reached:
            x = x + draw() * (sigma**2 - reached**2) ** 0.5
        x = heun_step(denoise, x, sigma, to)
        reached = to
    return x


def ipndm(denoise, x, sigmas):
    """ComfyUI's sample_ipndm, from diff-sampler."""
    weights = {1: [1], 2: [3 / 2, -1 / 2], 3: [23 / 12, -16 / 12, 5 / 12], 4: [55 / 24, -59 / 24, 37 / 24, -9 / 24]}
    past = []
    for sigma, to in zip(sigmas[:-1], sigmas[1:]):
        x0 = denoise(x, sigma)
        past = [(x - x0) / sigma, *past][:4]
        x = x0 if to == 0 else x + (to - sigma) * sum(w * d for w, d in zip(weights[len(past)], past))
    return x


def run_outside(sampler, schedule, fields, n, double):
    euler = prepared("euler", schedule, fields, n, double)
    sigmas = euler.sigmas.double().numpy()
    generator = torch.Generator().manual_seed(SEED)
    kind = torch.float64 if double else torch.float32
    x = torch.randn(SHAPE, generator=generator).to(kind) * euler.init_noise_sigma
    draw = lambda *_: torch.randn(SHAPE, generator=generator).to(kind)
    calls = []
    denoise = denoiser(euler, fields.get("prediction_type", "epsilon"), calls)
    if sampler == "ipndm":
        x = ipndm(denoise, x, sigmas)
    elif sampler == "restart":
        x = restart(denoise, x, sigmas, draw, n)
    else:
        x = K.sample_dpmpp_2s_ancestral(denoise, x, euler.sigmas.to(kind), noise_sampler=draw, disable=True)
    sums = project(x).tolist()
    return [[math.nan, math.nan, *c] for c in calls[:-1]] + [[*sums, *calls[-1]]], x


def run(sampler, schedule, fields, n, eta, channels, double):
    torch.set_default_dtype(torch.float64 if double else torch.float32)
    try:
        torch_randn = torch.randn
        torch.randn = lambda *a, **k: torch_randn(*a, **{"dtype": torch.float32, **k})
        if sampler in OUTSIDE:
            return run_outside(sampler, schedule, fields, n, double)
        return run_diffusers(sampler, schedule, fields, n, eta, channels, double)
    finally:
        torch.randn = torch_randn
        torch.set_default_dtype(torch.float32)


# ---- what is run -----------------------------------------------------------------------------------------------------


def schedules_of(sampler):
    if sampler == "restart":
        return ["karras"]
    if sampler in ("lcm", "tcd"):
        return ["model", "sgm_uniform", "ays"]
    if sampler == "pndm":
        return list(SPACINGS)
    if sampler == "ddim":
        return list(SPACINGS)  # its class takes no list
    if sampler in TIMESTEPS:
        return [*SPACINGS, "sgm_uniform", "simple", "ays", "ays_sdxl"]
    if sampler == "dpm++2s":
        return ["linspace", *USES, *TOOLS]  # its class has no timestep_spacing
    return [*SPACINGS, *USES, *TOOLS]


def groups():
    """(sampler, schedule, fields of the file beyond SD's betas, eta, numbers of steps, network channels)"""
    c = SHAPE[1]
    for sampler in (*DIFFUSERS, *OUTSIDE):
        for schedule, prediction in itertools.product(schedules_of(sampler), ("epsilon", "v_prediction")):
            yield sampler, schedule, {"prediction_type": prediction}, 0.0, ALL_STEPS, c
    yield "euler", "given", {}, 0.0, (4,), c
    for sampler in ("ddpm", "lcm", "tcd"):
        yield sampler, "given", {}, 0.0, (4,), c

    for sampler in ("ddpm", "ddim", "euler", "heun", "lms", "dpm++2m", "dpm++2s", "unipc", "deis", "sa_solver", "lcm", "tcd"):
        yield sampler, "model", {"prediction_type": "sample"}, 0.0, SOME_STEPS, c
    for sampler in ("dpm++2m", "dpm++3m", "dpm++2m_sde", "dpm++2s", "unipc", "deis", "sa_solver", "ddpm", "ddim", "lcm"):
        yield sampler, "model", {"thresholding": True, "dynamic_thresholding_ratio": 0.8, "sample_max_value": 1.5}, 0.0, SOME_STEPS, c
    for sampler in ("ddpm", "ddim", "heun", "lcm"):
        yield sampler, "model", {"clip_sample": True, "clip_sample_range": 0.7}, 0.0, SOME_STEPS, c
    for eta in (0.5, 1.0):
        yield "ddim", "trailing", {"set_alpha_to_one": False}, eta, SOME_STEPS, c
    for eta in (0.3, 1.0):
        yield "tcd", "model", {}, eta, SOME_STEPS, c
    yield "lcm", "model", {"original_inference_steps": 20, "timestep_scaling": 0.003}, 0.0, SOME_STEPS, c
    yield "pndm", "leading", {"skip_prk_steps": False, "set_alpha_to_one": True}, 0.0, (4, 5, 10, 50), c
    for variance in ("fixed_small_log", "fixed_large", "learned", "learned_range"):
        yield "ddpm", "leading", {"variance_type": variance}, 0.0, SOME_STEPS, 2 * c if variance.startswith("learned") else c

    for sampler in ("dpm++2m", "dpm++2s"):
        yield sampler, "model", {"solver_type": "heun"}, 0.0, (3, 10, 50), c
        yield sampler, "model", {"final_sigmas_type": "sigma_min"}, 0.0, SOME_STEPS, c
        yield sampler, "model", {"lambda_min_clipped": -1.5}, 0.0, (3, 10), c
    yield "dpm++2m_sde", "model", {"solver_type": "heun"}, 0.0, (3, 10, 20), c
    yield "dpm++2m", "model", {"lower_order_final": False}, 0.0, (3, 10), c
    yield "dpm++2m", "model", {"euler_at_final": True, "final_sigmas_type": "sigma_min"}, 0.0, (20,), c
    yield "dpm++2m", "model", {"use_lu_lambdas": True}, 0.0, SOME_STEPS, c
    yield "dpm++2s", "model", {"lower_order_final": True}, 0.0, (2, 3, 10), c
    for order in (1, 2, 3, 4):
        yield "unipc", "model", {"solver_order": order}, 0.0, (3, 10), c
        yield "deis", "model", {"solver_order": min(order, 3)}, 0.0, (3, 10, 20), c
    yield "unipc", "model", {"predict_x0": False, "solver_order": 3, "final_sigmas_type": "sigma_min"}, 0.0, (3, 10), c
    yield "unipc", "model", {"disable_corrector": [0, 1, 4]}, 0.0, (3, 10), c
    yield "unipc", "karras", {"final_sigmas_type": "sigma_min", "sigma_min": 0.1, "sigma_max": 10.0}, 0.0, (3, 10), c
    yield "unipc", "model", {"lower_order_final": False, "final_sigmas_type": "sigma_min"}, 0.0, (3, 10), c
    for predictor, corrector in ((1, 1), (3, 3), (2, 4), (3, 2)):
        yield "sa_solver", "model", {"predictor_order": predictor, "corrector_order": corrector}, 0.0, (3, 10), c

    betas = (
        {"beta_schedule": "linear", "beta_start": 0.0001, "beta_end": 0.02},
        {"beta_schedule": "squaredcos_cap_v2"},
        {"trained_betas": [0.001 + 0.0004 * i for i in range(50)], "num_train_timesteps": 50},
        {"num_train_timesteps": 400},
    )
    for sampler, beta in itertools.product(("ddpm", "ddim", "pndm", "euler", "dpm2", "dpm++2m", "deis"), betas):
        yield sampler, "model", beta, 0.0, (10,), c
    yield "dpm++2m", "karras", {"beta_schedule": "squaredcos_cap_v2"}, 0.0, (10,), c
    for schedule in ("sigmoid", "laplace"):
        yield "ddpm", "leading", {"beta_schedule": schedule}, 0.0, (10,), c
    snr = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}
    for sampler, schedule in itertools.product(("ddpm", "ddim", "euler", "euler_a", "dpm++2m", "unipc", "lcm"), ("trailing", "leading")):
        yield sampler, schedule if sampler != "lcm" else "model", snr, 0.0, SOME_STEPS, c
    euler = (
        {"use_karras_sigmas": True, "sigma_min": 0.1, "sigma_max": 10.0},
        {"use_karras_sigmas": True, "interpolation_type": "log_linear"},
        {"interpolation_type": "log_linear"},
        {"final_sigmas_type": "sigma_min"},
        {"timestep_type": "continuous", "prediction_type": "v_prediction"},
    )
    for fields in euler:
        yield "euler", "model", fields, 0.0, SOME_STEPS, c


def checksums():
    """Sum of (i + 1)·t_i over the timesteps, for every number of steps; NaN where the reference has none to compare."""
    classes = ("DDIMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler", "LCMScheduler")
    for name, spacing in itertools.product(classes, SPACINGS):
        scheduler = getattr(diffusers, name).from_config({"timestep_spacing": spacing, "original_inference_steps": 1000})
        sums = []
        for n in range(1, 999):
            scheduler.set_timesteps(n)
            t = scheduler.timesteps.double().numpy()
            t = t[:n] if t[-1] == -1 else t  # np.arange's rounding: one timestep too many
            sums.append(float(np.sum(np.arange(1, len(t) + 1) * t)))
        yield f"checksum/{name}/{spacing}", torch.tensor(sums, dtype=torch.float64)


def k_diffusion(folder):
    """k_diffusion.sampling alone: its other modules and its SDE libraries are not needed."""
    for name in ("torchdiffeq", "torchsde"):
        module = types.ModuleType(name)
        module.odeint = None
        sys.modules[name] = module
    package = types.ModuleType("k_diffusion")
    package.__path__ = [str(Path(folder) / "k_diffusion")]
    package.utils = types.ModuleType("k_diffusion.utils")
    package.utils.append_dims = lambda x, n: x[(...,) + (None,) * (n - x.ndim)]
    sys.modules["k_diffusion"], sys.modules["k_diffusion.utils"] = package, package.utils
    return importlib.import_module("k_diffusion.sampling")


def compare_3m_sde():
    """The corrected third-order SDE step is k-diffusion's own, whose second step is of the heun type."""
    fields = {"solver_type": "heun"}
    _, x = run("dpm++3m_sde", "karras", fields, 20, 0, SHAPE[1], True)
    scheduler = prepared("dpm++3m_sde", "karras", fields, 20, True)
    generator = torch.Generator().manual_seed(SEED)
    sigmas = scheduler.sigmas
    start = torch.randn(SHAPE, generator=generator, dtype=torch.float32).double() * (1 + sigmas[0] ** 2) ** 0.5
    calls = iter(scheduler.timesteps)

    def denoise(x, sigma, **_):
        return x - sigma[0] * network(x / (1 + sigma[0] ** 2) ** 0.5, float(next(calls)), SHAPE[1])

    draw = lambda *_: torch.randn(SHAPE, generator=generator, dtype=torch.float32).double()
    theirs = K.sample_dpmpp_3m_sde(denoise, start, sigmas, noise_sampler=draw, disable=True)
    difference = float((theirs - x).abs().max() / theirs.abs().max())
    assert difference < 1e-9, difference
    print(f"k-diffusion's 3M SDE and diffusers' corrected: {difference:.1e} apart")


def main(folder):
    warnings.simplefilter("ignore")
    diffusers.utils.logging.set_verbosity_error()
    compare_3m_sde()
    tensors = {"noise": torch.randn(SHAPE, generator=torch.Generator().manual_seed(SEED))}
    listing = []
    for sampler, schedule, fields, eta, numbers, channels in groups():
        calls, singles, lengths, rounding = [], [], [], 0.0
        for n in numbers:
            rows, x = run(sampler, schedule, fields, n, eta, channels, True)
            assert torch.isfinite(x).all(), (sampler, schedule, fields, n)
            calls += rows if n <= 10 else [r for i, r in enumerate(rows) if i % 10 == 0 or i == len(rows) - 1]
            lengths.append(len(rows))
            _, single = run(sampler, schedule, fields, n, eta, channels, False)
            singles.append(project(single).tolist())
            rounding = max(rounding, float((single.double() - x).abs().max() / x.abs().max()))
        key = len(listing)
        tensors[f"calls/{key}"] = torch.tensor(calls, dtype=torch.float64).to(torch.float32)
        tensors[f"float32/{key}"] = torch.tensor(singles, dtype=torch.float64).to(torch.float32)
        listing.append({"sampler": sampler, "schedule": schedule,
                        "file": file_of(sampler, schedule, fields), "eta": eta, "channels": channels,
                        "steps": numbers, "calls": lengths, "rounding": float(f"{rounding:.2g}")})
    tensors.update(checksums())

    folder = Path(folder)
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "samplers.safetensors")
    document = {"diffusers": diffusers.__version__, "torch": torch.__version__.split("+")[0], "seed": SEED,
                "shape": SHAPE, "groups": listing}
    lines = json.dumps(document, separators=(",", ":")).replace('{"sampler"', '\n{"sampler"')
    (folder / "samplers.json").write_text(lines + "\n")
    worst = {}
    for g in listing:
        worst[g["sampler"]] = max(worst.get(g["sampler"], 0), g["rounding"])
    print(f"{len(listing)} groups, {sum(len(g['steps']) for g in listing)} runs; the reference's own rounding: {worst}")


if __name__ == "__main__":
    K = k_diffusion(sys.argv[2])
    main(sys.argv[1])
