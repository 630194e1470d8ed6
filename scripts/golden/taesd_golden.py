"""AutoencoderTiny (TAESD) in small: decode and encode, the full-size network's keys, pictures by diffusers' pipelines.

    taesd_golden.py

Writes to tests/data/golden:
    taesd.json           configs: of the small autoencoders; keys: of the full-size one, with shapes; pictures: the
                         requests, drawn by `model` with the first small autoencoder in place of its own
    taesd.safetensors    K.latent, K.decoded, K.picture, K.encoded: of configs[K]; NAME: pictures [B, H, W, 3] uint8,
                         NAME.latents: [B, 4, h, w]
"""
import json

import diffusers
import numpy as np
import torch
from diffusers import AutoencoderTiny

import pictures_in_golden
import pictures_of_samplers_golden
from make_golden import GOLDEN, MODELS, build_pipeline, randn, write_arrays
from random_weights import random_tensor

CONFIGS = [
    # narrower than published, encoder and decoder of unequal width
    {"encoder_block_out_channels": [16] * 4, "decoder_block_out_channels": [24] * 4,
     "num_encoder_blocks": [1, 2, 1, 1], "num_decoder_blocks": [2, 1, 2, 1]},
    # three levels, a latent of 16 channels (as of SD3's and Flux's), a scale and a shift
    {"encoder_block_out_channels": [8] * 3, "decoder_block_out_channels": [16] * 3, "latent_channels": 16,
     "num_encoder_blocks": [2, 1, 1], "num_decoder_blocks": [1, 1, 1], "scaling_factor": 0.9, "shift_factor": 0.1},
]

DEFAULTS = {**pictures_in_golden.DEFAULTS, "steps": 4}
# (sampler, begins with a picture, with a mask, what differs from DEFAULTS). The seed's noise differs from that of an
# AutoencoderKL: no sample of a posterior is drawn before it.
CASES = [
    ("ddim", False, False, {"width": 104, "height": 72}),
    ("euler_a", True, False, {"strength": 0.6, "batch_count": 2, "seed": 5}),
    ("ddim", True, True, {"strength": 0.6}),
]


def build(config: dict) -> AutoencoderTiny:
    vae = AutoencoderTiny.from_config(config)
    weights = {k: random_tensor(f"vae/{k}", v.shape) for k, v in vae.state_dict().items()}
    last = f"decoder.layers.{len(vae.decoder.layers) - 1}."  # pictures inside [0, 1]
    weights[last + "weight"] *= 0.3
    weights[last + "bias"] = 0.5 + 0.2 * weights[last + "bias"]
    vae.load_state_dict(weights)
    return vae.eval()


def stages(number: int, vae: AutoencoderTiny) -> dict:
    factor = 2 ** (len(vae.config.decoder_block_out_channels) - 1)
    latent = randn(1, vae.config.latent_channels, 11, 7, seed=6)
    picture = randn(1, 3, 7 * factor, 5 * factor, seed=7).clamp(-1, 1)
    return {f"{number}.latent": latent, f"{number}.decoded": vae.decode(latent).sample,
            f"{number}.picture": picture, f"{number}.encoded": vae.encode(picture).latents}


def render(case: dict, begins: bool, vae: AutoencoderTiny) -> tuple:
    if not begins:
        pipe = build_pipeline(MODELS / case["model"])
        pipe.vae = vae
        return pictures_of_samplers_golden.render(pipe, case)
    pipe = pictures_in_golden.build(case["model"], case["masked"])
    pipe.vae = vae
    return pictures_in_golden.render(pipe, case, *pictures_in_golden.draw_inputs())


def main() -> None:
    torch.set_grad_enabled(False)
    diffusers.utils.logging.set_verbosity_error()
    vaes = [build(config) for config in CONFIGS]
    out = {}
    for number, vae in enumerate(vaes):
        out.update({k: v.numpy() for k, v in stages(number, vae).items()})
    cases = []
    for number, (sampler, begins, masked, changes) in enumerate(CASES):
        case = {"name": f"{number}-{sampler}", "model": "sd1", "sampler": sampler, "begins": begins, "masked": masked,
                **DEFAULTS, **changes}
        pictures, latents = render(case, begins, vaes[0])
        clipped = ((pictures == 0) | (pictures == 1)).mean()
        print(f"{case['name']}: {clipped:.0%} of the values at the ends")
        assert clipped < 0.3 and pictures.std() > 0.05, case["name"]
        cases.append(case)
        out[case["name"]] = (np.asarray(pictures) * 255).round().astype(np.uint8)
        out[case["name"] + ".latents"] = latents.numpy()
    write_arrays(GOLDEN / "taesd.safetensors", out)
    configs = [{"_class_name": "AutoencoderTiny", **config} for config in CONFIGS]
    keys = {k: list(v.shape) for k, v in AutoencoderTiny().state_dict().items()}
    dump = lambda value: json.dumps(value, ensure_ascii=False)
    lines = lambda values: "[\n" + ",\n".join(map(dump, values)) + "\n]"
    (GOLDEN / "taesd.json").write_text(
        f'{{"configs": {lines(configs)},\n"pictures": {lines(cases)},\n"keys": {dump(keys)}}}\n')


if __name__ == "__main__":
    main()
