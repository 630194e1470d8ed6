#!/usr/bin/env python3
"""256 unlike jobs three ways, in turn on one machine: easel in one process, easel started for each, and diffusers called
the best way it can be: the model loaded once, jobs of one sampler and one number of steps in full batches with a generator
for each picture, the faster of float32 and bfloat16, channels-last.

    batch.py --easel PROGRAM [--jobs 256] [--model models/easel-tiny] [--batch 8]     needs the pinned diffusers

Jobs differ in prompt, negative prompt, seed, guidance and in one of two samplers and step counts. diffusers takes one
guidance scale a call, so it gets its jobs sorted by that too where it has to. Prints seconds, pictures a second, ratios.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
OBJECTS = ("dog", "cat", "fox", "castle", "car", "robot", "penguin", "bicycle")
PLACES = ("in the desert", "on the beach", "in the snow", "on mars")
KINDS = (("ddim", 10), ("euler", 8))  # sampler, steps
GUIDANCE = (3.0, 4.0, 5.0, 6.0)


def jobs(count: int) -> list[dict]:
    out = []
    for i in range(count):
        sampler, steps = KINDS[i % 2]
        job = {"prompt": f"a {OBJECTS[i % 8]} {PLACES[(i // 8) % 4]}", "seed": i, "sampler": sampler, "steps": steps,
               "cfg_scale": GUIDANCE[(i // 3) % 4]}
        if i % 4 == 1:
            job["negative_prompt"] = "night"
        out.append(job)
    return out


def easel_once(program: str, model: str, todo: list[dict], folder: str, dtype: str) -> None:
    file = Path(folder) / "jobs.jsonl"
    file.write_text("".join(json.dumps(job) + "\n" for job in todo))
    subprocess.run([program, "-m", model, "--from-file", str(file), "--outdir", folder, "-q", "--dtype", dtype], check=True,
                   stdout=subprocess.DEVNULL)


def easel_each(program: str, model: str, todo: list[dict], folder: str, dtype: str) -> None:
    for i, job in enumerate(todo):
        words = [program, "-m", model, job["prompt"], "-s", str(job["seed"]), "--sampler", job["sampler"], "--steps",
                 str(job["steps"]), "--cfg-scale", str(job["cfg_scale"]), "-q", "--dtype", dtype, "-o", f"{folder}/{i}.png"]
        if "negative_prompt" in job:
            words += ["-n", job["negative_prompt"]]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)


def by_diffusers(model: str, todo: list[dict], folder: str, dtype: str, batch: int) -> None:
    """Runs in a process of its own, so that its imports and its loading count as easel's start does."""
    code = f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import batch; " \
           f"batch.diffusers_process({model!r}, {folder!r}, {dtype!r}, {batch})"
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True, input=json.dumps(todo), text=True,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def diffusers_process(model: str, folder: str, dtype: str, batch: int) -> None:
    import diffusers
    import torch
    from diffusers import DDIMScheduler, EulerDiscreteScheduler, StableDiffusionPipeline
    schedulers = {"ddim": DDIMScheduler, "euler": EulerDiscreteScheduler}
    pipe = StableDiffusionPipeline.from_pretrained(model, torch_dtype={"f32": torch.float32, "bf16": torch.bfloat16}[dtype],
                                                   safety_checker=None)
    pipe.unet.to(memory_format=torch.channels_last)
    pipe.vae.to(memory_format=torch.channels_last)
    pipe.set_progress_bar_config(disable=True)
    diffusers.utils.logging.set_verbosity_error()
    packs: dict = {}
    for i, job in enumerate(json.load(sys.stdin)):
        packs.setdefault((job["sampler"], job["steps"], job["cfg_scale"]), []).append((i, job))
    for (sampler, steps, cfg), pack in packs.items():
        pipe.scheduler = schedulers[sampler].from_config(pipe.scheduler.config)
        for at in range(0, len(pack), batch):
            some = pack[at:at + batch]
            images = pipe([job["prompt"] for _, job in some], negative_prompt=[job.get("negative_prompt", "") for _, job in some],
                          num_inference_steps=steps, guidance_scale=cfg,
                          generator=[torch.Generator().manual_seed(job["seed"]) for _, job in some]).images
            for (i, _), image in zip(some, images, strict=True):
                image.save(f"{folder}/{i}.png")


def timed(run) -> float:
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        run(folder)
        seconds = time.perf_counter() - start
        count = len(list(Path(folder).glob("*.png")))
    print(f"  {count} pictures in {seconds:.1f} s", file=sys.stderr)
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--easel", required=True)
    parser.add_argument("--model", default=str(ROOT / "models/easel-tiny"))
    parser.add_argument("--jobs", type=int, default=256)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=1)
    a = parser.parse_args()
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    todo = jobs(a.jobs)
    ways = {}
    for dtype in ("f32", "bf16"):
        ways[f"easel, one process, {dtype}"] = lambda f, d=dtype: easel_once(a.easel, a.model, todo, f, d)
        ways[f"diffusers, batches of {a.batch}, {dtype}"] = lambda f, d=dtype: by_diffusers(a.model, todo, f, d, a.batch)
    ways[f"easel, {a.jobs} starts, f32"] = lambda f: easel_each(a.easel, a.model, todo, f, "f32")
    seconds = {name: [] for name in ways}
    for _ in range(a.repeats):
        for name, run in ways.items():
            print(name, file=sys.stderr)
            seconds[name].append(timed(run))
    best = {name: min(times) for name, times in seconds.items()}
    fastest = min(t for name, t in best.items() if name.startswith("easel, one"))
    print("| way | seconds | pictures a second | times the fastest's |\n|---|---|---|---|")
    for name, t in best.items():
        print(f"| {name} | {t:.1f} | {a.jobs / t:.2f} | {t / fastest:.2f} |")


if __name__ == "__main__":
    main()
