"""Pictures whose U-Net reuses its deep layers: the authors' own DeepCache around diffusers' pipelines.

    deepcache_golden.py

Writes tests/data/golden/deepcache.json and deepcache.safetensors, as samplers.pictures.
"""
import sys
import types

import diffusers
import torch

import families_golden
import make_golden
from make_golden import MODELS
from pictures_of_samplers_golden import DEFAULTS, EPS, XL, V, render, write_pictures

# The package's other modules want versions of diffusers that are long gone; its extension wants none.
sys.modules.setdefault("DeepCache", types.ModuleType("DeepCache")).__path__ = [
    str(p) for p in __import__("importlib.util").util.find_spec("DeepCache").submodule_search_locations]
from DeepCache.extension.deepcache import DeepCacheSDHelper  # noqa: E402

# (model, sampler, interval, branch, what differs)
CASES = [
    (EPS, "ddim", 3, 0, {"steps": 7}),
    (EPS, "euler_a", 2, 1, {"steps": 5, "seed": 3}),
    (V, "dpm++2m", 2, 0, {"steps": 5, "scheduler": "karras"}),
    (V, "ddim", 4, 3, {"steps": 6, "width": 72}),
    (XL, "dpm++2m", 3, 2, {"steps": 5}),
    (XL, "euler", 5, 0, {"steps": 6}),
]


def make_cases() -> list:
    return [{"name": f"{n}-{model}-{sampler}", "model": model, "sampler": sampler, **DEFAULTS, **changes,
             "cache": f"deepcache:{interval}" + (f":{branch}" if branch else "")}
            for n, (model, sampler, interval, branch, changes) in enumerate(CASES)]


def render_cached(pipe, case: dict) -> tuple:
    plain, _ = render(pipe, case)
    interval, branch = (case["cache"].split(":") + ["0"])[1:3]
    helper = DeepCacheSDHelper(pipe=pipe)
    helper.set_params(cache_interval=int(interval), cache_branch_id=int(branch))
    helper.enable()
    pictures, latents = render(pipe, case)
    helper.disable()
    assert abs(pictures - plain).max() > 0.01, case["name"]
    return pictures, latents


def main() -> None:
    torch.set_grad_enabled(False)
    diffusers.utils.logging.set_verbosity_error()
    pipes = {EPS: make_golden.build_pipeline(MODELS / EPS)}
    pipes.update({model: families_golden.build_pipeline(model) for model in (V, XL)})
    write_pictures("deepcache", make_cases(), lambda case: render_cached(pipes[case["model"]], case))


if __name__ == "__main__":
    main()
