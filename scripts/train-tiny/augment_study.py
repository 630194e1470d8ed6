#!/usr/bin/env python3
"""Does `easel augment` help a classifier that has few pictures?

Each draw takes a few real scenes a class, draws variations of them with the bundled model, and trains one small
classifier on each of

  real              the real pictures alone
  real + classical  the same with random shifts and flips, which every other row has too
  + augment         with variations by "a photo of a {label}"
  + augment, scenes with variations by "a {label} in the desert", "… on the beach", …

and tests all on real scenes that no training saw. The generator has seen these classes: what it adds is known to it from its
own training, so a gain says that the tool works and not that pictures come from nothing.

  augment_study.py --font F --cldr DIR --easel PATH --work DIR [--draws 10]
"""

import argparse, json, os, random, subprocess, time
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from PIL import Image

from captions import BACKGROUNDS
from evaluate import Judge, tensor
from scenes import World

CLASSES = "🐕 🐖 🐧 🦊 🚗 🚲 🏰 🤖 🎁 🍕".split()
SCENES = ["a {label} in the desert", "a {label} on the beach", "a {label} in the snow", "a {label} in the forest",
          "a {label} under a blue sky", "a {label} on mars"]
ARMS = ["real", "real + classical", "+ augment", "+ augment, scenes"]


def scenes_of(world, emoji, n, r):
    return [world.render(world.sample(r, kind="single", concept=emoji, bg=r.choice(BACKGROUNDS), holdout=True))
            for _ in range(n)]


def write_real(folder, world, per_class, r):
    for emoji in CLASSES:
        label = world.name[emoji][0][0]
        os.makedirs(f"{folder}/{label}", exist_ok=True)
        for i, image in enumerate(scenes_of(world, emoji, per_class, r)):
            Image.fromarray(image).save(f"{folder}/{label}/{i}.png")


def read(folder, labels):
    images, classes = [], []
    for k, label in enumerate(labels):
        for name in sorted(os.listdir(f"{folder}/{label}")):
            images.append(np.asarray(Image.open(f"{folder}/{label}/{name}").convert("RGB")))
            classes.append(k)
    return images, classes


def augment(a, source, out, seed, templates):
    command = [a.easel, "augment", source, "--outdir", out, "-n", str(a.variations), "--strength", a.strength,
               "-s", str(seed), "--quiet", "--batch-size", "8"]
    for template in templates:
        command += ["--template", template]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def shifted(x, g):
    """Every picture by up to 16 pixels, half of them mirrored."""
    x = F.pad(x, (16, 16, 16, 16), mode="reflect")
    rows = []
    for one in x:
        dx, dy = (int(v) for v in torch.randint(0, 33, (2,), generator=g))
        one = one[:, dy : dy + 128, dx : dx + 128]
        rows.append(one.flip(-1) if torch.rand(1, generator=g) < 0.5 else one)
    return torch.stack(rows)


def accuracy(a, real, more, test, seed, classical):
    """Half of each batch is real, half are variations."""
    torch.manual_seed(seed)
    g = torch.Generator().manual_seed(seed)
    net = Judge(len(CLASSES), 1, c=16)
    optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, a.steps)
    sets = [(tensor(images), torch.tensor(classes)) for images, classes in ([real] if more is None else [real, more])]
    net.train()
    for _ in range(a.steps):
        xs, ys = [], []
        for x, y in sets:
            pick = torch.randint(0, len(x), (32 // len(sets),), generator=g)
            xs.append(x[pick])
            ys.append(y[pick])
        x = torch.cat(xs)
        loss = F.cross_entropy(net(shifted(x, g) if classical else x)[0], torch.cat(ys))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    net.eval()
    x, y = tensor(test[0]), torch.tensor(test[1])
    with torch.no_grad():
        return torch.cat([net(part)[0].argmax(1) for part in x.split(100)]).eq(y).float().mean().item()


def interval(values):
    """Mean and half width of the 95 % confidence interval (Student's t)."""
    from scipy.stats import t

    values = np.array(values)
    return values.mean(), t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / len(values) ** 0.5


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--font", required=True)
    p.add_argument("--cldr", required=True)
    p.add_argument("--easel", required=True)
    p.add_argument("--work", required=True)
    p.add_argument("--draws", type=int, default=10)
    p.add_argument("--per-class", type=int, default=3)
    p.add_argument("--variations", type=int, default=4)
    p.add_argument("--strength", default="0.3..0.6")
    p.add_argument("--steps", type=int, default=200)
    p.add_argument("--test", type=int, default=40, help="pictures a class")
    a = p.parse_args()
    world = World(a.font, a.cldr, seed=9, step=4)  # the judge's: other backgrounds and places than in training
    labels = [world.name[emoji][0][0] for emoji in CLASSES]
    r = random.Random(77)
    test = [(image, k) for k, emoji in enumerate(CLASSES) for image in scenes_of(world, emoji, a.test, r)]
    test = ([image for image, _ in test], [k for _, k in test])
    results = {arm: [] for arm in ARMS}
    for draw in range(a.draws):
        start, work = time.time(), f"{a.work}/{draw}"
        write_real(f"{work}/real", world, a.per_class, random.Random(1000 + draw))
        for name, templates in (("plain", ["a photo of a {label}"]), ("scenes", SCENES)):
            if not os.path.exists(f"{work}/{name}"):
                augment(a, f"{work}/real", f"{work}/{name}", 1000 * draw, templates)
        real = read(f"{work}/real", labels)
        more = {name: read(f"{work}/{name}", labels) for name in ("plain", "scenes")}
        for arm, extra, classical in zip(ARMS, (None, None, more["plain"], more["scenes"]), (False, True, True, True)):
            results[arm].append(accuracy(a, real, extra, test, draw, classical))
        print(draw, {arm: round(v[-1], 3) for arm, v in results.items()}, f"{time.time() - start:.0f} s", flush=True)
        json.dump(results, open(f"{a.work}/results.json", "w"))
    base = np.array(results["real + classical"])
    for arm in ARMS:
        mean, half = interval(results[arm])
        gain, gain_half = interval(np.array(results[arm]) - base) if arm != "real + classical" else (0, 0)
        print(f"{arm:20s} {100 * mean:5.1f} ± {100 * half:.1f} %   against classical {100 * gain:+5.1f} ± {100 * gain_half:.1f}")


if __name__ == "__main__":
    main()
