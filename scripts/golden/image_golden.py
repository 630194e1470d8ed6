#!/usr/bin/env python3
"""Pictures in the formats people have, with the pixels Pillow reads from them, and Pillow's resizing and blurring:
writes tests/data/pictures/*. Needs Pillow (it comes with diffusers)."""

import json, os
import numpy as np
from PIL import Image, ImageFilter, ImageOps

OUT = os.path.join(os.path.dirname(__file__), "..", "..", "tests", "data", "pictures")


def smooth(w, h):
    """Low frequencies, so that JPEG decoders agree within a few units."""
    y, x = np.mgrid[0:h, 0:w]
    rgb = [255 * x / (w - 1), 255 * y / (h - 1), 255 * (x + y) / (w + h - 2)]
    return Image.fromarray(np.stack(rgb, -1).round().astype(np.uint8))


def noisy(w, h, seed):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8))


def exif(orientation):
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def flat(image, background=(255, 255, 255)):
    image = ImageOps.exif_transpose(image)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        below = Image.new("RGBA", image.size, background)
        image = Image.alpha_composite(below, image)
    return np.asarray(image.convert("RGB"))


def pictures():
    picture, rough = smooth(24, 16), noisy(13, 9, 1)
    for k in range(1, 9):
        yield f"turned{k}.jpg", picture, dict(exif=exif(k), quality=95, subsampling=0)
    yield "progressive.jpg", picture, dict(progressive=True, quality=95)
    yield "grey.jpg", picture.convert("L"), dict(quality=95)
    yield "plain.bmp", rough, {}
    yield "plain.tga", rough, {}
    yield "packed.tga", rough, dict(compression="tga_rle")
    yield "turned6.png", rough, dict(exif=exif(6))
    yield "palette.png", rough.quantize(16), {}
    yield "grey.png", rough.convert("L"), {}
    alpha = rough.copy()
    alpha.putalpha(Image.fromarray(np.arange(13 * 9, dtype=np.uint8).reshape(9, 13) * 2))
    yield "alpha.png", alpha, {}
    yield "alpha.tga", alpha, {}
    yield "grey_alpha.png", alpha.convert("LA"), {}


def main():
    os.makedirs(OUT, exist_ok=True)
    expected = {}
    for name, image, options in pictures():
        image.save(os.path.join(OUT, name), **options)
        pixels = flat(Image.open(os.path.join(OUT, name)))
        expected[name] = dict(width=pixels.shape[1], height=pixels.shape[0], pixels=pixels.flatten().tolist())
    grey16 = (np.arange(13 * 9, dtype=np.uint16).reshape(9, 13) * 500).astype(np.uint16)
    Image.fromarray(grey16).save(os.path.join(OUT, "grey16.png"))
    high = np.repeat((grey16 >> 8).astype(np.uint8)[..., None], 3, -1)
    expected["grey16.png"] = dict(width=13, height=9, pixels=high.flatten().tolist())
    rough = noisy(29, 17, 2)
    work = dict(source=dict(width=29, height=17, pixels=np.asarray(rough).flatten().tolist()), resized=[], blurred=[])
    for w, h in ((8, 8), (29, 40), (64, 17), (3, 2), (57, 33)):
        pixels = np.asarray(rough.resize((w, h), Image.LANCZOS)).flatten().tolist()
        work["resized"].append(dict(width=w, height=h, pixels=pixels))
    work["grey"] = np.asarray(rough.convert("L")).flatten().tolist()
    for sigma in (0.5, 1, 2.5, 4, 11):
        pixels = np.asarray(rough.convert("L").filter(ImageFilter.GaussianBlur(sigma))).flatten().tolist()
        work["blurred"].append(dict(sigma=sigma, pixels=pixels))
    json.dump(expected, open(os.path.join(OUT, "expected.json"), "w"), separators=(",", ":"))
    json.dump(work, open(os.path.join(OUT, "pixel_work.json"), "w"), separators=(",", ":"))


if __name__ == "__main__":
    main()
