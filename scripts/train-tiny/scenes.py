#!/usr/bin/env python3
"""Procedural scenes for the tiny text-to-image model: emoji sprites on drawn backgrounds, captioned in
English and Korean.

Pictures: Noto Color Emoji (OFL/Apache-2.0).  Names: Unicode CLDR annotations (Unicode-DFS-2016), with a
few overrides where the CLDR name is not what a person would type.

  spec   = World(font, cldr).sample(rng)      what is in a scene (small dict, picklable)
  image  = world.render(spec)                 128x128 RGB uint8
  string = world.caption(spec, rng)           one of many captions for it

Run as a script it writes a contact sheet:  scenes.py --font F --cldr DIR --out sheet.png
"""

import argparse, hashlib, os, random, time
import xml.etree.ElementTree as ET
import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont
from backgrounds import SIZE, Painter
from captions import BACKGROUNDS, SCENERY, Names

# emoji[=english[/alias]][=korean[/alias]]   an empty field keeps the CLDR name; '+' marks a plural/uncountable
CONCEPTS = """
🐈 🐕==강아지/개 🐎 🐄=cow=젖소/소 🐖==돼지 🐘 🐧 🦁==사자 🐼==판다 🦊==여우 🐸==개구리 🐢 🐙 🦋 🦄==유니콘 🐉 🐳=whale=고래 🐟 🐓=rooster=수탉/닭 🦒 🐇 🦉 🐒
🍎=apple/red apple=사과/빨간 사과 🍌 🍓 🍉 🍕=pizza+ 🍔=hamburger/burger 🍩=donut/doughnut 🎂=birthday cake/cake=생일 케이크/케이크 🍦=ice cream=아이스크림 ☕=cup of coffee/coffee+=커피
🚗=car=자동차/차 🚌 🚲=bicycle/bike 🚀 ⛵=sailboat=돛단배/요트 ✈=airplane/plane 🚂=train/locomotive=기차 🎈
🏰=castle=성 🏠 🌳=tree=나무 🌵 🌻 🌹=rose=장미
🧑‍🚀==우주비행사/우주인 👸 🎅==산타클로스/산타 🤖==로봇 👻==유령 ⛄=snowman=눈사람 🧙=wizard=마법사
❤=red heart/heart=빨간 하트/하트 💙==파란 하트 ⭐=star/yellow star=별/노란 별 ☂=umbrella=우산 🎸 ⚽=soccer ball/football=축구공 🎁=gift/present=선물 👑 💎=diamond/gem=다이아몬드/보석 🧸=teddy bear=곰 인형
"""
RIDERS = "🧑‍🚀 👸 🎅 🤖 👻 🧙 ⛄ 🐈 🐕 🐒 🐼 🐧 🐸 🦊 🐇 🧸".split()
MOUNTS = "🐎 🐄 🐖 🐘 🐉 🐢 🐕 🐳 🦒 🚲 🚀 🚗".split()
SPRITE = 64  # one size for all: 8 latent cells, so every object is one pattern to learn
FLOATING = {"white", "space", "underwater"} | {k for k in SCENERY if k.startswith("plain")}


def held_out(emoji, bg, percent=8):
    """Concept x background pairs never shown in training (a stable pseudo-random 8 %), kept for evaluation."""
    if emoji in ("🐎", "🧑‍🚀") and bg == "mars":
        return False
    return int(hashlib.md5(f"{emoji}|{bg}".encode()).hexdigest(), 16) % 100 < percent


class World(Names):
    def __init__(self, font, cldr, bank=96, seed=0, step=8):
        """font: NotoColorEmoji.ttf.  cldr: the folder common/ of Unicode CLDR.  step: position grid in pixels
        (8 = one latent cell; the model then learns far faster than with free positions)."""
        self.step, self.bank = step, bank
        self.font = ImageFont.truetype(font, 109)
        names = {l: {} for l in ("en", "ko")}
        for l in names:
            for p in ("annotations", "annotationsDerived"):
                for a in ET.parse(os.path.join(cldr, p, l + ".xml")).iter("annotation"):
                    if a.get("type") == "tts":
                        names[l][a.get("cp")] = a.text
        self.name, self.plural = {}, set()
        for item in CONCEPTS.split("\n"):
            for field in self._split(item):
                e, en, ko = (field.split("=") + ["", ""])[:3]
                ens = [n for n in en.split("/") if n] or [names["en"][e]]
                self.plural |= {n[:-1] for n in ens if n.endswith("+")}
                self.name[e] = ([n.rstrip("+") for n in ens], [n for n in ko.split("/") if n] or [names["ko"][e]])
        self.concepts = list(self.name)
        self.sprites, self.bgs, self.seed = {}, {}, seed

    @staticmethod
    def _split(line):
        """Fields start at an emoji; names may contain spaces."""
        out = []
        for w in line.split():
            if ord(w[0]) > 0x2000 and not 0xAC00 <= ord(w[0]) < 0xD7A4:
                out.append(w)
            else:
                out[-1] += " " + w
        return out

    # ---------------------------------------------------------------- pictures
    def sprite(self, e, s):
        if (e, s) not in self.sprites:
            im = Image.new("RGBA", (136, 136), (0, 0, 0, 0))
            ImageDraw.Draw(im).text((0, 4), e, font=self.font, embedded_color=True)
            self.sprites[e, s] = im.convert("RGBa").resize((s, s), Image.LANCZOS).convert("RGBA")
        return self.sprites[e, s]

    def background(self, kind, i):
        if (kind, i) not in self.bgs:
            self.bgs[kind, i] = Painter(random.Random(f"{self.seed}-{kind}-{i}")).draw(kind)
        return self.bgs[kind, i].copy()

    def render(self, spec):
        im = self.background(spec["bg"], spec["bgi"])
        if spec["shadow"]:
            for _, s, x, y in spec["objs"][-1:] if spec["type"] == "ride" else spec["objs"]:
                sh = Image.new("L", (SIZE, SIZE), 0)
                ImageDraw.Draw(sh).ellipse([x + s * 0.14, y + s * 0.88, x + s * 0.86, y + s * 1.0], fill=70)
                im.paste((20, 20, 30), (0, 0), sh.filter(ImageFilter.GaussianBlur(2)))
        for e, s, x, y in spec["objs"]:
            sp = self.sprite(e, s)
            im.paste(sp, (x, y), sp)
        return np.asarray(im)

    # ---------------------------------------------------------------- scenes
    def sample(self, r, kind=None, bg=None, concept=None, holdout=False):
        """A random scene.  Unless holdout=True the held-out concept x background pairs are avoided."""
        kind = kind or r.choices(["single", "two", "stack", "ride", "land"], [50, 22, 4, 15, 9])[0]
        while True:
            b = bg or (r.choice(list(SCENERY)[:16]) if r.random() < 0.8 else r.choice(BACKGROUNDS))
            if kind == "ride":
                es = [r.choice(RIDERS), r.choice(MOUNTS)]
                if r.random() < 0.2:
                    es = ["🧑‍🚀", "🐎"]
                    b = bg or ("mars" if r.random() < 0.4 else b)
            elif kind == "land":
                es = []
                b = bg or ("countryside" if r.random() < 0.12 else b)
            else:
                es = r.sample(self.concepts, 1 if kind == "single" else 2)
                if concept:
                    es[0] = concept
            if len(set(es)) == len(es) and (holdout or not any(held_out(e, b) for e in es)):
                break
        g = self.step
        j = lambda lo, hi: lo + g * r.randint(0, (hi - lo) // g)
        fl, s = b in FLOATING, SPRITE
        if kind == "single":
            objs = [(es[0], s, j(16, 48), j(24, 40) if fl else j(48, 56))]
        elif kind == "two":
            y = j(24, 40) if fl else j(48, 56)
            objs = [(es[0], s, 0, y), (es[1], s, 64, y)]
        elif kind == "stack":
            x = j(24, 40)
            objs = [(es[0], s, x, 0), (es[1], s, x, 64)]
        elif kind == "ride":
            x = j(24, 40)
            objs = [(es[0], s, x, 8), (es[1], s, x, 56)]
        else:
            objs = []
        return dict(
            type=kind,
            bg=b,
            bgi=r.randrange(self.bank),
            objs=objs,
            shadow=not fl and kind != "stack" and b not in ("sea", "night"),
        )


def sheet(images, captions, path, cols=6, fonts=(), scale=1, width=None):
    """A contact sheet with the caption under each picture."""
    f = next((ImageFont.truetype(p, 11) for p in fonts if p and os.path.exists(p)), ImageFont.load_default(11))
    w, h = images[0].shape[1] * scale, images[0].shape[0] * scale
    rows = (len(images) + cols - 1) // cols
    im = Image.new("RGB", (cols * (w + 8) + 8, rows * (h + 46) + 8), (255, 255, 255))
    d = ImageDraw.Draw(im)
    for i, (a, c) in enumerate(zip(images, captions)):
        x, y = 8 + i % cols * (w + 8), 8 + i // cols * (h + 46)
        im.paste(Image.fromarray(a).resize((w, h), Image.LANCZOS), (x, y))
        line, lines = "", []
        for ch in c:
            if d.textlength(line + ch, font=f) > w:
                lines.append(line)
                line = ""
            line += ch
        for k, s in enumerate((lines + [line])[:3]):
            d.text((x, y + h + 2 + 13 * k), s.strip(), fill=(0, 0, 0), font=f)
    im.save(path)


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("--font", required=True)
    ap.add_argument("--cldr", required=True)
    ap.add_argument("--out", default="sheet.png")
    ap.add_argument("--text-font", default="")
    ap.add_argument("--n", type=int, default=48)
    ap.add_argument("--seed", type=int, default=0)
    a = ap.parse_args()
    w, r = World(a.font, a.cldr), random.Random(a.seed)
    specs = (
        [w.sample(r, kind="land", bg=b) for b in BACKGROUNDS[:16]]
        + [w.sample(r, kind="ride") for _ in range(10)]
        + [w.sample(r) for _ in range(a.n)]
    )
    t = time.time()
    ims = [w.render(s) for s in specs]
    t = time.time() - t
    sheet(ims, [w.caption(s, r) for s in specs], a.out, cols=10, fonts=[a.text_font])
    print(len(w.concepts), "concepts", len(BACKGROUNDS), "backgrounds", f"{t / len(ims) * 1000:.1f} ms/scene")
    print(sorted(w.plural))
