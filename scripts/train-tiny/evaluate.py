#!/usr/bin/env python3
"""Measures the tiny model with an independent judge: a small CNN (which object, which background) trained on composed
real scenes with other seeds and a finer grid of positions.

  evaluate.py --train ...    trains the judge for --minutes of CPU time
  evaluate.py ...            judges real held-out scenes, their VAE reconstructions and generated pictures; writes
                             eval.json, table.md and the contact sheets to --out
  evaluate.py --sweep ...    quality against time for samplers, steps and guidance scales; writes sweep.json
Seeds are fixed: the same model gives the same figures.
"""

import argparse, json, os, random, time
import numpy as np, torch, torch.nn as nn, torch.nn.functional as F
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
)
from PIL import Image
from scenes import BACKGROUNDS, World, held_out, sheet
from pipeline import SCHEDULE, generate

SEEDS = ["A photo of an astronaut riding a horse on mars", "푸른 하늘 아래 평화로운 시골 풍경"]
SHEET = SEEDS + [
    "a photo of a cat",
    "사막의 고양이",
    "a castle on the beach",
    "a dog and a pizza in the snow",
    "A panda riding a bicycle in the city",
    "별이 빛나는 밤하늘",
    "a red heart on a white background",
    "숲속의 여우",
    "a robot in space",
    "말을 타는 공주",
    "a sunflower under a blue sky",
    "바다 위의 돛단배",
    "an elephant in the desert",
    "a penguin and a snowman in the snow",
    "달 위의 우주비행사",
    "a hamburger on a yellow background",
    "an octopus underwater",
    "생일 케이크와 선물",
    "a red car in front of a mountain",
    "a guitar at sunset",
    "로켓을 타는 원숭이",
    "a teddy bear in a room",
]
UNKNOWN = [
    "a zorblax cat in the desert",
    "a photo of a xylotronic robot",
    "쀍뚫한 고양이",
    "quantum fluxcapacitor",
    "🤷 §¶ħ",
    "a cat, trending on artstation, 8k, octane render",
    "",
    "",
]


class Judge(nn.Module):
    """64x64 picture -> object logits, background logits."""

    def __init__(self, objects, backgrounds, c=32):
        super().__init__()

        def block(i, o, s):
            return nn.Sequential(nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o), nn.ReLU())

        self.f = nn.Sequential(
            block(3, c, 2),
            block(c, 2 * c, 1),
            block(2 * c, 2 * c, 2),
            block(2 * c, 4 * c, 1),
            block(4 * c, 4 * c, 2),
            block(4 * c, 6 * c, 1),
            block(6 * c, 6 * c, 1),
        )
        self.o, self.b = nn.Linear(12 * c, objects), nn.Linear(12 * c, backgrounds)

    def forward(self, x):
        h = self.f(F.interpolate(x, size=(64, 64), mode="area"))
        h = torch.cat([h.amax((2, 3)), h.mean((2, 3))], 1)
        return self.o(h), self.b(h)


def tensor(images):
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float().div(127.5).sub(1)


def train(a):
    w, r = World(a.font, a.cldr, seed=9, step=4), random.Random(11)
    net = Judge(len(w.concepts), len(BACKGROUNDS))
    opt = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.02)
    cpu = lambda: time.process_time() / 60 / a.threads  # CPU minutes: the run may share the machine
    t0, step = cpu(), 0
    net.train()
    while cpu() - t0 < a.minutes:
        for g in opt.param_groups:
            g["lr"] = 2e-3 * min(1, (step + 1) / 50) * max(0.02, 1 - (cpu() - t0) / a.minutes)
        specs = [w.sample(r, holdout=True) for _ in range(48)]
        x = tensor([w.render(s) for s in specs])
        to = torch.zeros(len(specs), len(w.concepts))
        for i, s in enumerate(specs):
            for e, *_ in s["objs"]:
                to[i, w.concepts.index(e)] = 1 / len(s["objs"])
        tb = torch.tensor([BACKGROUNDS.index(s["bg"]) for s in specs])
        if step % 3 == 1:  # sharp, slightly blurred, noisy: generated pictures are not pixel-clean
            x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="reflect"), 3, 1)
        x = x + torch.randn_like(x) * 0.08 * (step % 3 == 2) + torch.randn(len(x), 3, 1, 1) * 0.06
        with torch.autocast("cpu", torch.bfloat16):
            o, b = net(x)
        has = to.sum(1) > 0
        loss = -(to[has] * F.log_softmax(o.float()[has], 1)).sum(1).mean() + F.cross_entropy(b.float(), tb)
        opt.zero_grad()
        loss.backward()
        opt.step()
        step += 1
        if step % 50 == 0:
            print(f"judge step {step} {cpu() - t0:.1f} min loss {loss.item():.3f}", flush=True)
    torch.save(net.state_dict(), os.path.join(a.work, "judge.pt"))


def score(net, w, images, specs):
    """Object right (of several: all among that many best answers), share of objects found, background right."""
    with torch.no_grad():
        out = [net(tensor(images[i : i + 64])) for i in range(0, len(images), 64)]
    o, b = torch.cat([o for o, _ in out]), torch.cat([b for _, b in out])
    n = hit = share = 0
    for s, t in zip(specs, o.topk(2, 1).indices.tolist()):
        want = {w.concepts.index(e) for e, *_ in s["objs"]}
        if want:
            n += 1
            found = len(want & set(t[: len(want)]))
            hit += found == len(want)
            share += found / len(want)
    bg = (b.argmax(1) == torch.tensor([BACKGROUNDS.index(s["bg"]) for s in specs])).float().mean().item()
    return dict(
        n=len(specs),
        object=round(hit / n, 3) if n else None,
        found=round(share / n, 3) if n else None,
        background=round(bg, 3),
    )


def held_out_specs(w, n, seed, held=True):
    r, p = random.Random(seed), [(e, b) for e in w.concepts for b in BACKGROUNDS]
    p = [q for q in p if held_out(*q) == held]
    r.shuffle(p)
    return [w.sample(r, kind="single", bg=b, concept=e, holdout=True) for e, b in (p * (n // len(p) + 1))[:n]]


def decode(pipe, images):
    with torch.no_grad():
        y = torch.cat(
            [pipe.vae.decode(pipe.vae.encode(x).latent_dist.mean).sample for x in tensor(images).split(32)]
        ).clamp(-1, 1)
    return list(((y + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy())


def pictures(a, pipe, w, specs, korean, seed=1000):
    q = random.Random(5)
    caps = [w.caption(s, q, korean=korean, show_bg=True) for s in specs]
    t = time.process_time()
    images = list(generate(pipe, caps, a.steps, a.cfg, seed))
    return images, caps, (time.process_time() - t) / len(caps)


SAMPLERS = {
    "ddim": lambda: DDIMScheduler(**SCHEDULE),
    "ddim trailing": lambda: DDIMScheduler(**SCHEDULE, timestep_spacing="trailing"),
    "euler": lambda: EulerDiscreteScheduler(
        **{k: v for k, v in SCHEDULE.items() if k not in ("clip_sample", "set_alpha_to_one")},
        timestep_spacing="leading",
    ),
    "euler trailing": lambda: EulerDiscreteScheduler(
        **{k: v for k, v in SCHEDULE.items() if k not in ("clip_sample", "set_alpha_to_one")},
        timestep_spacing="trailing",
    ),
    "dpm++2m": lambda: DPMSolverMultistepScheduler(
        **{k: v for k, v in SCHEDULE.items() if k not in ("clip_sample", "set_alpha_to_one")},
        timestep_spacing="leading",
    ),
    "dpm++2m trailing": lambda: DPMSolverMultistepScheduler(
        **{k: v for k, v in SCHEDULE.items() if k not in ("clip_sample", "set_alpha_to_one")},
        timestep_spacing="trailing",
    ),
}


def sweep(a, pipe, w, net):
    specs, res = held_out_specs(w, a.n, 3), {}
    two = [w.sample(random.Random(7 + i), kind="two") for i in range(a.n // 2)]
    for point in a.sweep.split(","):
        name, steps, cfg = point.split(":")
        pipe.scheduler, a.steps, a.cfg = SAMPLERS[name](), int(steps), float(cfg)
        t = time.time()
        im, _, cpu = pictures(a, pipe, w, specs, None)
        im2, _, _ = pictures(a, pipe, w, two, None)
        res[point] = dict(single=score(net, w, im, specs), two=score(net, w, im2, two), cpu_seconds=round(cpu, 3))
        print(point, res[point], f"{time.time() - t:.0f} s", flush=True)
    json.dump(res, open(os.path.join(a.out, "sweep.json"), "w"), indent=1)


def small(images):
    return F.avg_pool2d(tensor(images), 4).flatten(1)


def look_up(a, w, images):
    """RMS distance of 32x32 pictures to the nearest of 20000 training scenes: generated against fresh real ones."""
    r = random.Random(99)
    wt = World(a.font, a.cldr)
    train_set = torch.cat([small([wt.render(wt.sample(r)) for _ in range(500)]) for _ in range(40)])
    fresh = World(a.font, a.cldr, seed=10)
    specs = held_out_specs(fresh, len(images), 13)
    near = lambda q: torch.cdist(q, train_set).amin(1) / q.shape[1] ** 0.5
    g, f = near(small(images)), near(small([fresh.render(s) for s in specs]))
    return dict(
        generated=round(g.mean().item(), 4),
        fresh_real=round(f.mean().item(), 4),
        generated_min=round(g.min().item(), 4),
        fresh_real_min=round(f.min().item(), 4),
    )


def diversity(a, pipe, w):
    """Mean RMS distance between pictures of one caption, 8 seeds, against real scenes of that description."""
    specs, q, out, real = held_out_specs(w, 12, 17, held=False), random.Random(6), [], []
    pair = lambda ims: F.pdist(small(ims)).mean().item() / 3072**0.5
    for k, s in enumerate(specs):
        out.append(
            pair(
                list(
                    generate(pipe, [w.caption(s, q, korean=k % 2 == 1, show_bg=True)] * 8, a.steps, a.cfg, seed=50 * k)
                )
            )
        )
        r = random.Random(k)
        real.append(pair([w.render(w.sample(r, kind="single", bg=s["bg"], concept=s["objs"][0][0])) for _ in range(8)]))
    return dict(generated=round(float(np.mean(out)), 4), real=round(float(np.mean(real)), 4))


def image_to_image(a, pipe, w, net):
    """Strength 0.5, caption with another object on the same background: is the background kept, how near is it?"""
    specs = held_out_specs(w, 32, 19, held=False)
    r = random.Random(20)
    real = [w.render(s) for s in specs]
    wanted = [dict(s, objs=[(r.choice(w.concepts), *s["objs"][0][1:])]) for s in specs]
    p2 = StableDiffusionImg2ImgPipeline(**pipe.components, requires_safety_checker=False)
    p2.set_progress_bar_config(disable=True)
    q = random.Random(8)
    im = [
        (
            p2(
                w.caption(t, q, korean=False, show_bg=True),
                image=Image.fromarray(x),
                strength=0.5,
                num_inference_steps=a.steps,
                guidance_scale=a.cfg,
                generator=torch.Generator().manual_seed(i),
                output_type="np",
            ).images[0]
            * 255
        )
        .round()
        .astype(np.uint8)
        for i, (t, x) in enumerate(zip(wanted, real))
    ]
    same, other = (
        small(im).sub(small(real)).pow(2).mean(1).sqrt().mean().item(),
        small(im).sub(small(real[1:] + real[:1])).pow(2).mean(1).sqrt().mean().item(),
    )
    return dict(
        distance_to_source=round(same, 4),
        distance_to_another=round(other, 4),
        background_kept=score(net, w, im, specs)["background"],
    )


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--font", required=True)
    ap.add_argument("--cldr", required=True)
    ap.add_argument("--work", required=True)
    ap.add_argument("--model", default="easel-tiny")
    ap.add_argument("--train", action="store_true")
    ap.add_argument("--minutes", type=float, default=3)
    ap.add_argument("--sampler", default="ddim", choices=SAMPLERS)
    ap.add_argument("--steps", type=int, default=20)
    ap.add_argument("--cfg", type=float, default=4.0)
    ap.add_argument("--n", type=int, default=200)
    ap.add_argument("--sweep", default="", help="sampler:steps:guidance, comma separated")
    ap.add_argument("--quick", action="store_true", help="held-out pairs and two objects only")
    ap.add_argument("--out", default=".")
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--text-font", default="")
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(0)
    os.makedirs(a.out, exist_ok=True)
    if a.train:
        train(a)
    w = World(a.font, a.cldr, seed=10)
    net = Judge(len(w.concepts), len(BACKGROUNDS))
    net.load_state_dict(torch.load(os.path.join(a.work, "judge.pt"), weights_only=True))
    net.eval()
    specs = held_out_specs(w, 400, 31)
    print("judge on real held-out scenes:", score(net, w, [w.render(s) for s in specs], specs), flush=True)
    if a.train:
        return
    pipe = StableDiffusionPipeline.from_pretrained(a.model, torch_dtype=torch.float32, safety_checker=None)
    pipe.scheduler = SAMPLERS[a.sampler]()
    if a.sweep:
        return sweep(a, pipe, w, net)
    res, r = {}, random.Random(21)

    def record(name, images, specs):
        res[name] = score(net, w, images, specs)
        print(name, res[name], flush=True)

    specs = held_out_specs(w, a.n, 3)
    real = [w.render(s) for s in specs]
    doubles = [w.sample(r, kind="two") for _ in range(a.n // 2)]
    record("real scenes, held-out pairs", real, specs)
    record("VAE reconstructions of them", decode(pipe, real), specs)
    real2 = [w.render(s) for s in doubles]
    record("real scenes, two objects", real2, doubles)
    en, caps, cpu = pictures(a, pipe, w, specs, False)
    record("held-out pairs, English", en, specs)
    ko, caps_ko, _ = pictures(a, pipe, w, specs, True, seed=2000)
    record("held-out pairs, Korean", ko, specs)
    record("two objects", pictures(a, pipe, w, doubles, None)[0], doubles)
    if a.quick:
        return
    record("VAE reconstructions, two objects", decode(pipe, real2), doubles)
    seen = held_out_specs(w, a.n // 2, 4, held=False)
    record("seen pairs, English", pictures(a, pipe, w, seen, False)[0], seen)
    record("seen pairs, Korean", pictures(a, pipe, w, seen, True)[0], seen)
    for kind, title in (("ride", "riding"), ("stack", "one above the other"), ("land", "landscapes")):
        s = [w.sample(r, kind=kind) for _ in range(a.n // 4)]
        record(title, pictures(a, pipe, w, s, None)[0], s)
    res["nearest scene"] = look_up(a, w, en[:100])
    res["diversity"] = diversity(a, pipe, w)
    res["image to image"] = image_to_image(a, pipe, w, net)
    res["cpu_seconds_a_picture_in_a_batch"] = round(cpu, 3)
    for k in ("nearest scene", "diversity", "image to image"):
        print(k, res[k])
    json.dump(res, open(os.path.join(a.out, "eval.json"), "w"), indent=1, ensure_ascii=False)
    with open(os.path.join(a.out, "table.md"), "w") as f:
        f.write("| set | n | object right | objects found | background right |\n| --- | --- | --- | --- | --- |\n")
        show = lambda v: "-" if v is None else f"{100 * v:.1f} %"
        f.writelines(
            f"| {k} | {v['n']} | {show(v['object'])} | {show(v['found'])} | {show(v['background'])} |\n"
            for k, v in res.items()
            if isinstance(v, dict) and "background" in v
        )
    fonts = [a.text_font]
    for k, prompt in enumerate(SEEDS):
        sheet(
            list(generate(pipe, [prompt] * 10, a.steps, a.cfg, seed=0)),
            [f"seed {i}" for i in range(10)],
            os.path.join(a.out, f"seeds_{'mars' if k == 0 else 'countryside'}.png"),
            cols=5,
            fonts=fonts,
        )
    sheet(en[:30] + ko[:30], caps[:30] + caps_ko[:30], os.path.join(a.out, "heldout.png"), cols=10, fonts=fonts)
    sheet(
        list(generate(pipe, SHEET, a.steps, a.cfg, seed=42)),
        SHEET,
        os.path.join(a.out, "samples.png"),
        cols=6,
        fonts=fonts,
    )
    sheet(
        list(generate(pipe, UNKNOWN, a.steps, a.cfg, seed=7)),
        [c or "(empty)" for c in UNKNOWN],
        os.path.join(a.out, "unknown.png"),
        cols=4,
        fonts=fonts,
    )


if __name__ == "__main__":
    main()
