"""Backgrounds, drawn at twice the size and reduced: 16 landscapes and 8 plain colours."""

import numpy as np
from PIL import Image, ImageDraw

SIZE = 128
COLOURS = {
    "red": ((222, 60, 55), "빨간"),
    "orange": ((245, 150, 50), "주황"),
    "yellow": ((250, 216, 80), "노란"),
    "green": ((90, 178, 92), "초록"),
    "blue": ((70, 122, 220), "파란"),
    "purple": ((142, 92, 196), "보라"),
    "pink": ((248, 168, 196), "분홍"),
    "black": ((22, 22, 26), "검은"),
}


def gradient(top, bottom, n=2 * SIZE):
    t = np.linspace(0, 1, n)[:, None, None]
    a = np.asarray(top, float) * (1 - t) + np.asarray(bottom, float) * t
    return Image.fromarray(np.broadcast_to(a, (n, n, 3)).astype(np.uint8).copy())


class Painter:
    """Backgrounds, drawn at twice the size and reduced."""

    def __init__(self, rng):
        self.r = rng

    def stars(self, d, n, ymax=256):
        for _ in range(n):
            x, y, s = self.r.random() * 256, self.r.random() * ymax, self.r.choice([1, 1.5, 2.5])
            d.ellipse([x - s, y - s, x + s, y + s], fill=(255, 255, 225))

    def cloud(self, d, x, y, s, col=(255, 255, 255)):
        for dx, dy, k in [(-1, 0.2, 0.6), (-0.4, -0.15, 0.75), (0.3, -0.2, 0.8), (1, 0.2, 0.55), (0, 0.25, 0.7)]:
            d.ellipse(
                [x + dx * s - k * s, y + dy * s - k * s * 0.7, x + dx * s + k * s, y + dy * s + k * s * 0.7], fill=col
            )

    def hill(self, d, base, amp, col, ph=None, period=1.0):
        ph = self.r.random() * 6.28 if ph is None else ph
        xs = np.arange(0, 257, 4)
        ys = base + amp * np.sin(xs / 256 * 6.28 * period + ph)
        d.polygon([(0, 256)] + list(zip(xs.tolist(), ys.tolist())) + [(256, 256)], fill=col)

    def tree(self, d, x, y, s, col=(46, 125, 62)):
        d.rectangle([x - s * 0.1, y - s * 0.3, x + s * 0.1, y], fill=(110, 76, 48))
        for k in (0, 1, 2):
            w = s * (0.45 - 0.1 * k)
            top = y - s * (0.55 + 0.27 * k)
            d.polygon([(x - w, top + s * 0.36), (x + w, top + s * 0.36), (x, top - s * 0.1)], fill=col)

    def house(self, d, x, y, s):
        d.rectangle([x - s * 0.5, y - s * 0.5, x + s * 0.5, y], fill=(248, 240, 224))
        d.polygon([(x - s * 0.62, y - s * 0.5), (x + s * 0.62, y - s * 0.5), (x, y - s)], fill=(196, 72, 56))
        d.rectangle([x - s * 0.12, y - s * 0.3, x + s * 0.12, y], fill=(120, 80, 56))

    def draw(self, kind):
        r = self.r
        if kind.startswith("plain "):
            c = np.array(COLOURS[kind[6:]][0]) + r.randint(-6, 6)
            return Image.new("RGB", (SIZE, SIZE), tuple(int(v) for v in np.clip(c, 0, 255)))
        if kind == "white":
            return Image.new("RGB", (SIZE, SIZE), (255, 255, 255))
        im = getattr(self, kind)()
        return im.resize((SIZE, SIZE), Image.BOX)

    def countryside(self):
        r = self.r
        im = gradient((70, 150, 238), (200, 230, 255))
        d = ImageDraw.Draw(im)
        for x in r.sample([40, 110, 190], 2):
            self.cloud(d, x + r.randint(-10, 10), r.randint(28, 60), r.randint(20, 28))
        self.hill(d, 136, 10, (120, 186, 96))
        self.hill(d, 156, 8, (98, 172, 78))
        hx = r.choice([48, 208])
        self.house(d, hx, 162, 40)
        self.tree(d, 256 - hx + r.randint(-16, 16), 166, 52, (52, 138, 66))
        self.tree(d, 256 - hx + 34, 170, 38, (52, 138, 66))
        self.hill(d, 176, 6, (122, 196, 84))
        return im

    def night(self):
        r = self.r
        im = gradient((12, 16, 52), (44, 54, 116))
        d = ImageDraw.Draw(im)
        self.stars(d, 50, 180)
        x = r.choice([44, 212])
        d.ellipse([x - 22, 22, x + 22, 66], fill=(252, 244, 200))
        self.hill(d, 196, 8, (24, 34, 52))
        return im

    def sea(self):
        r = self.r
        im = gradient((110, 186, 244), (206, 234, 252))
        d = ImageDraw.Draw(im)
        self.cloud(d, r.choice([60, 190]), 40, 24)
        im.paste(gradient((38, 120, 196), (14, 72, 150)).crop((0, 0, 256, 144)), (0, 112))
        d = ImageDraw.Draw(im)
        for y in range(124, 256, 18):
            for x in range(r.randint(-24, 0), 256, 48):
                d.arc([x, y, x + 30, y + 12], 200, 340, fill=(140, 196, 236), width=3)
        return im

    def beach(self):
        r = self.r
        im = gradient((92, 180, 248), (212, 240, 255))
        d = ImageDraw.Draw(im)
        x = r.choice([44, 212])
        d.ellipse([x - 18, 20, x + 18, 56], fill=(255, 224, 96))
        d.rectangle([0, 96, 256, 150], fill=(40, 148, 206))
        self.hill(d, 146, 4, (226, 246, 250), period=1.5)
        self.hill(d, 152, 4, (240, 214, 150), period=1.5)
        return im

    def desert(self):
        r = self.r
        im = gradient((120, 190, 240), (252, 230, 180))
        d = ImageDraw.Draw(im)
        x = r.choice([48, 208])
        d.ellipse([x - 20, 18, x + 20, 58], fill=(255, 236, 140))
        self.hill(d, 136, 14, (232, 182, 98))
        self.hill(d, 164, 10, (218, 162, 78))
        self.hill(d, 200, 8, (236, 190, 108))
        return im

    def snow(self):
        r = self.r
        im = gradient((150, 176, 206), (214, 226, 240))
        d = ImageDraw.Draw(im)
        for x in (28, 72, 200, 236):
            self.tree(d, x + r.randint(-8, 8), 158, r.randint(52, 70), (196, 216, 226))
        self.hill(d, 156, 7, (244, 248, 252))
        for _ in range(40):
            x, y = r.random() * 256, r.random() * 256
            d.ellipse([x - 2.5, y - 2.5, x + 2.5, y + 2.5], fill=(255, 255, 255))
        return im

    def mars(self):
        r = self.r
        im = gradient((226, 150, 104), (248, 200, 150))
        d = ImageDraw.Draw(im)
        x = r.randint(30, 220)
        d.polygon([(x - 70, 150), (x - 30, 106), (x + 26, 106), (x + 70, 150)], fill=(186, 88, 52))
        self.hill(d, 146, 7, (200, 84, 42))
        self.hill(d, 180, 6, (182, 66, 32))
        for _ in range(5):
            x, y, s = r.randint(0, 256), r.randint(176, 246), r.randint(8, 18)
            d.ellipse([x - s, y - s * 0.4, x + s, y + s * 0.4], fill=(150, 52, 26))
        return im

    def moonland(self):
        r = self.r
        im = gradient((6, 6, 16), (16, 16, 34))
        d = ImageDraw.Draw(im)
        self.stars(d, 34, 150)
        x = r.choice([48, 208])
        d.ellipse([x - 24, 18, x + 24, 66], fill=(66, 126, 220))
        d.ellipse([x - 12, 28, x + 10, 50], fill=(96, 180, 104))
        self.hill(d, 150, 6, (168, 168, 172))
        for _ in range(7):
            x, y, s = r.randint(0, 256), r.randint(164, 246), r.randint(8, 22)
            d.ellipse([x - s, y - s * 0.4, x + s, y + s * 0.4], fill=(132, 132, 138))
        return im

    def forest(self):
        r = self.r
        im = gradient((150, 206, 150), (196, 226, 170))
        d = ImageDraw.Draw(im)
        for col, n, y, s in [((74, 140, 84), 8, 150, 110), ((40, 106, 58), 6, 176, 140)]:
            for i in range(n):
                self.tree(d, (i + 0.5) * 256 / n + r.randint(-8, 8), y, s + r.randint(-14, 14), col)
        self.hill(d, 172, 5, (88, 138, 62))
        return im

    def sunset(self):
        r = self.r
        im = gradient((98, 62, 140), (255, 168, 84))
        d = ImageDraw.Draw(im)
        x = r.choice([80, 128, 176])
        d.ellipse([x - 34, 112, x + 34, 180], fill=(255, 226, 120))
        for y in (60, 92):
            self.cloud(d, r.randint(20, 236), y, 20, (230, 120, 110))
        self.hill(d, 164, 6, (74, 40, 76))
        return im

    def city(self):
        r = self.r
        im = gradient((150, 196, 236), (226, 236, 244))
        d = ImageDraw.Draw(im)
        x = 0
        while x < 256:
            w, h = r.choice([32, 40, 48]), r.randint(90, 170)
            d.rectangle(
                [x, 192 - h, x + w - 3, 192],
                fill=r.choice([(112, 124, 146), (136, 146, 164), (92, 104, 130), (160, 150, 150)]),
            )
            for yy in range(200 - h, 180, 18):
                for xx in range(x + 6, x + w - 10, 12):
                    d.rectangle([xx, yy, xx + 6, yy + 9], fill=(248, 232, 160))
            x += w
        d.rectangle([0, 192, 256, 256], fill=(88, 90, 98))
        for x in range(8, 256, 48):
            d.rectangle([x, 226, x + 26, 231], fill=(240, 232, 200))
        return im

    def underwater(self):
        r = self.r
        im = gradient((52, 170, 222), (10, 58, 128))
        d = ImageDraw.Draw(im)
        self.hill(d, 224, 7, (196, 178, 122))
        for x in (r.randint(10, 60), r.randint(196, 246)):
            for k in (-8, 0, 8):
                d.line([(x + k, 232), (x + k * 2 - 6, 196), (x + k * 2 + 4, 170)], fill=(40, 140, 84), width=6)
        for _ in range(12):
            x, y, s = r.random() * 256, r.random() * 200, r.randint(3, 7)
            d.ellipse([x - s, y - s, x + s, y + s], outline=(190, 232, 250), width=2)
        return im

    def space(self):
        r = self.r
        im = gradient((14, 8, 38), (34, 14, 62))
        d = ImageDraw.Draw(im)
        self.stars(d, 70)
        x, y = r.choice([(40, 40), (216, 40), (40, 216), (216, 216)])
        d.ellipse([x - 30, y - 30, x + 30, y + 30], fill=(222, 160, 96))
        d.ellipse([x - 48, y - 9, x + 48, y + 9], outline=(240, 214, 160), width=4)
        d.ellipse([246 - x, 246 - y, 266 - x, 266 - y], fill=(120, 160, 226))
        return im

    def mountain(self):
        r = self.r
        im = gradient((120, 176, 232), (220, 236, 248))
        d = ImageDraw.Draw(im)
        for x, h, w in [(r.randint(20, 60), 100, 90), (r.randint(190, 236), 110, 96), (r.randint(110, 146), 140, 110)]:
            d.polygon([(x - w, 186), (x, 186 - h), (x + w, 186)], fill=(110, 118, 138))
            d.polygon(
                [
                    (x - w * 0.3, 186 - h * 0.7),
                    (x, 186 - h),
                    (x + w * 0.3, 186 - h * 0.7),
                    (x + w * 0.1, 186 - h * 0.62),
                    (x - w * 0.08, 186 - h * 0.68),
                ],
                fill=(246, 250, 254),
            )
        self.hill(d, 180, 6, (96, 150, 92))
        return im

    def room(self):
        r = self.r
        im = Image.new("RGB", (256, 256), (240, 222, 196))
        d = ImageDraw.Draw(im)
        x = r.choice([28, 148])
        d.rectangle([x, 28, x + 80, 104], fill=(255, 255, 255))
        d.rectangle([x + 7, 35, x + 37, 97], fill=(150, 206, 244))
        d.rectangle([x + 43, 35, x + 73, 97], fill=(150, 206, 244))
        x = 228 - x
        d.rectangle([x - 36, 40, x + 20, 84], fill=(120, 84, 56))
        d.rectangle([x - 30, 46, x + 14, 78], fill=(226, 120, 110))
        d.rectangle([0, 172, 256, 256], fill=(176, 122, 78))
        d.rectangle([0, 168, 256, 176], fill=(250, 244, 232))
        for y in (198, 226):
            d.line([(0, y), (256, y)], fill=(152, 102, 62), width=2)
        return im
