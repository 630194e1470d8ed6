#!/usr/bin/env python3
"""One picture by easel and its peers in turn on one machine: the same seeded random weights in full size, the same size,
steps, guidance and threads, each in a process of its own, in alternating rounds.

    peers.py --easel PROGRAM [--environment FOLDER] [--spec sd15] [--dtype bf16] [--steps 4] [--rounds 2]
             [--peers easel,diffusers,openvino]

--environment: a virtual environment, which is made, and filled with the peers' pinned packages; without it they are the caller's.

Peers: easel, diffusers (channels-last), compiled (the same under torch.compile, frozen), openvino (static shapes), sdcpp
(stable-diffusion.cpp, sampler ddim_trailing). sdcpp takes f16 for bf16, without flash attention: on a Zen 4 with AVX512-BF16 a
step took 29.8 s in f16, 36.1 s in bf16, 30.6 s in f32, 83.6 s with diffusion_flash_attn, 32.0 s with diffusion_conv_direct, and
45.8 s without GGML_LLAMAFILE. compiled and sdcpp need a C++ compiler. The checkpoint is made once and kept in --weights
(2 GB for sd15; for sdcpp once more as a single file). Prints a table: seconds of a step with guidance (median over steps after the
first), of decoding, of the whole picture without loading, and peak memory, each with its ratio to easel's.
"""
import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PROMPT = "A photo of an astronaut riding a horse on mars"
SIZES = {"sd15": 512, "sdxl": 1024}

PACKAGES = {"openvino": "openvino==2026.4.0", "sdcpp": "stable-diffusion-cpp-python==0.4.7"}  # beside the goldens', pinned, too
SDCPP_BUILD = "-DGGML_NATIVE=ON -DGGML_LLAMAFILE=ON -DSD_WEBP=OFF -DSD_WEBM=OFF"


def go_on_in(environment: Path, peers: list[str]) -> None:
    """Unless this is its Python already: makes it, installs what the peers need and starts again there."""
    if Path(sys.prefix).resolve() == environment.resolve():
        return
    python = environment / "bin" / "python"
    if not python.exists():
        venv.create(environment, with_pip=True)
    wanted = ["-r", str(ROOT / "scripts/golden/requirements.txt"), *(PACKAGES[peer] for peer in peers if peer in PACKAGES)]
    subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True, env={**os.environ, "CMAKE_ARGS": SDCPP_BUILD})
    os.execv(python, [str(python), *sys.argv])


def make_weights(spec: str, folder: Path) -> Path:
    target = folder / f"{spec}-random"
    if not (target / "model_index.json").exists():
        subprocess.run([sys.executable, str(ROOT / "scripts/golden/random_weights.py"), "--config", str(ROOT / "models/specs" / spec),
                        "--out", str(target), "--dtype", "f16"], check=True)
    return target


def make_single_file(easel: str, folder: Path) -> None:
    target = single_file(folder)
    if not target.exists():
        unfinished = target.with_name("unfinished-" + target.name)
        subprocess.run([easel, "convert", str(folder), str(unfinished)], check=True)
        unfinished.rename(target)


def single_file(folder: Path) -> Path:
    return folder.with_name(folder.name + ".safetensors")


# --- easel -------------------------------------------------------------------------------------------------------


def run_easel(a, model: Path, size: int) -> dict:
    words = [a.easel, "bench", PROMPT, "-m", str(model), "-W", str(size), "-H", str(size), "--steps", str(a.steps), "--sampler", "ddim",
             "--dtype", a.dtype, "--device", "cpu", "--repeats", "1", "--json", "-q", "--kernels", a.kernels]
    out = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout)
    return {"step": statistics.median(out["step"]), "decode": statistics.median(out["decode"]),
            "picture": statistics.median(out["picture"]), "memory": out["peak_memory_bytes"], "load": out["load"]}


# --- the peers, each in a process of its own -----------------------------------------------------------------------


def peak_memory() -> int:
    line = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def diffusers_pipeline(model: str, dtype: str):
    import torch
    from diffusers import DDIMScheduler, DiffusionPipeline
    pipe = DiffusionPipeline.from_pretrained(model, torch_dtype={"f32": torch.float32, "bf16": torch.bfloat16}[dtype])
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.unet.to(memory_format=torch.channels_last)
    pipe.vae.to(memory_format=torch.channels_last)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def timed_picture(pipe, size: int, steps: int) -> dict:
    import torch
    marks = []

    def mark(pipe_, step, t, kwargs):
        marks.append(time.perf_counter())
        return kwargs

    with torch.inference_mode():
        start = time.perf_counter()
        pipe(PROMPT, width=size, height=size, num_inference_steps=steps, guidance_scale=7.5, callback_on_step_end=mark,
             generator=torch.Generator().manual_seed(0))
        end = time.perf_counter()
    return {"step": statistics.median(b - a for a, b in zip(marks, marks[1:])), "decode": end - marks[-1], "picture": end - start}


def run_diffusers(model: str, dtype: str, size: int, steps: int) -> dict:
    begin = time.perf_counter()
    pipe = diffusers_pipeline(model, dtype)
    load = time.perf_counter() - begin
    timed_picture(pipe, size, 2)  # warm-up, as easel's
    return {**timed_picture(pipe, size, steps), "load": load, "memory": peak_memory()}


def run_compiled(model: str, dtype: str, size: int, steps: int) -> dict:
    import torch
    import torch._inductor.config as inductor
    inductor.freezing = True  # weights in oneDNN's own layouts, as easel's: a step was 3 to 11 % faster
    begin = time.perf_counter()
    pipe = diffusers_pipeline(model, dtype)
    pipe.unet.forward = torch.compile(pipe.unet.forward)
    pipe.vae.decode = torch.compile(pipe.vae.decode)
    timed_picture(pipe, size, 2)  # compiles
    load = time.perf_counter() - begin
    return {**timed_picture(pipe, size, steps), "load": load, "memory": peak_memory()}


def run_openvino(model: str, dtype: str, size: int, steps: int) -> dict:
    """U-Net and VAE decoder with static shapes; the rest of the pipeline, a hundredth of it, stays diffusers'."""
    import openvino as ov
    import torch
    begin = time.perf_counter()
    pipe = diffusers_pipeline(model, "f32")
    core, cores = ov.Core(), os.cpu_count()
    settings = {"INFERENCE_PRECISION_HINT": dtype, "INFERENCE_NUM_THREADS": str(cores), "PERFORMANCE_HINT": "LATENCY"}
    side, width = size // 8, pipe.unet.config.cross_attention_dim

    class Unet(torch.nn.Module):
        def __init__(self, unet):
            super().__init__()
            self.unet = unet

        def forward(self, x, t, context):
            return self.unet(x, t, encoder_hidden_states=context, return_dict=False)[0]

    class Decoder(torch.nn.Module):
        def __init__(self, vae):
            super().__init__()
            self.vae = vae

        def forward(self, x):
            return self.vae.decode(x, return_dict=False)[0]

    with torch.no_grad():
        shapes = (torch.zeros(2, 4, side, side), torch.tensor(1.0), torch.zeros(2, 77, width))
        unet = ov.convert_model(Unet(pipe.unet), example_input=shapes, input=[list(s.shape) for s in shapes])
        decoder = ov.convert_model(Decoder(pipe.vae), example_input=(shapes[0][:1],), input=[[1, 4, side, side]])
    compiled = core.compile_model(unet, "CPU", settings)
    compiled_decoder = core.compile_model(decoder, "CPU", settings)

    def call(x, t, encoder_hidden_states=None, **_):
        out = compiled([x.numpy(), torch.as_tensor(t, dtype=torch.float32).numpy(), encoder_hidden_states.numpy()])[0]
        return (torch.from_numpy(out),)

    def decode(x, *_, **__):
        return (torch.from_numpy(compiled_decoder([x.numpy()])[0]),)

    pipe.unet.forward, pipe.vae.decode = call, decode
    load = time.perf_counter() - begin
    timed_picture(pipe, size, 2)
    return {**timed_picture(pipe, size, steps), "load": load, "memory": peak_memory()}


SDCPP_TYPES = {"bf16": "f16", "f32": "f32"}


def sdcpp_picture(model, size: int, steps: int) -> dict:
    marks = []

    def mark(step, total, seconds):
        if step > 0:  # 0 is told before the first
            marks.append(time.perf_counter())

    start = time.perf_counter()
    image = model.generate_image(prompt=PROMPT, width=size, height=size, sample_steps=steps, cfg_scale=7.5, sample_method="ddim_trailing",
                                 seed=0, progress_callback=mark)[0]
    end = time.perf_counter()
    if all(low == high for low, high in image.convert("RGB").getextrema()):
        raise RuntimeError("stable-diffusion.cpp made a picture of one colour: its values are not numbers or it failed")
    return {"step": statistics.median(b - a for a, b in zip(marks, marks[1:])), "decode": end - marks[-1], "picture": end - start}


def run_sdcpp(folder: str, dtype: str, size: int, steps: int) -> dict:
    from stable_diffusion_cpp import StableDiffusion
    begin = time.perf_counter()
    model = StableDiffusion(model_path=str(single_file(Path(folder))), wtype=SDCPP_TYPES[dtype], n_threads=os.cpu_count(),
                            vae_decode_only=True, verbose=False)
    load = time.perf_counter() - begin
    sdcpp_picture(model, size, 2)
    return {**sdcpp_picture(model, size, steps), "load": load, "memory": peak_memory()}


def in_process(function: str, a, model: Path, size: int) -> dict:
    code = f"import sys, json; sys.path.insert(0, {str(Path(__file__).parent)!r}); import peers; " \
           f"print('RESULT ' + json.dumps(peers.{function}({str(model)!r}, {a.dtype!r}, {size}, {a.steps})))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"peers.py: {function} failed ({done.returncode}):\n{done.stderr[-4000:]}")
    return json.loads(next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))[7:])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--easel", required=True)
    parser.add_argument("--environment", type=Path, metavar="FOLDER")
    parser.add_argument("--kernels", default="fast")
    parser.add_argument("--spec", default="sd15", choices=SIZES)
    parser.add_argument("--size", type=int)
    parser.add_argument("--dtype", default="bf16", choices=("bf16", "f32"))
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--peers", default="easel,diffusers,openvino")
    parser.add_argument("--weights", type=Path, default=Path(tempfile.gettempdir()))
    a = parser.parse_args()
    if a.environment:
        go_on_in(a.environment, a.peers.split(","))
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    model, size = make_weights(a.spec, a.weights), a.size or SIZES[a.spec]
    if "sdcpp" in a.peers.split(","):
        make_single_file(a.easel, model)
    results = {name: [] for name in a.peers.split(",")}
    for _ in range(a.rounds):
        for name in results:
            run = run_easel(a, model, size) if name == "easel" else in_process(f"run_{name}", a, model, size)
            print(name, {k: round(v, 3) for k, v in run.items()}, file=sys.stderr)
            results[name].append(run)
    best = {name: {key: min(run[key] for run in runs) for key in runs[0]} for name, runs in results.items()}
    base = best.get("easel", next(iter(best.values())))
    print(f"| {a.spec}, {size}x{size}, {a.dtype}, {os.cpu_count()} cores | step | decode | picture | peak memory |\n|---|---|---|---|---|")
    for name, run in best.items():
        cells = [f"{run[key]:.2f} s ({run[key] / base[key]:.2f})" for key in ("step", "decode", "picture")]
        print(f"| {name} | {' | '.join(cells)} | {run['memory'] / 1e9:.2f} GB ({run['memory'] / base['memory']:.2f}) |")


if __name__ == "__main__":
    main()
