"""Textual inversions in the forms they are published in, and diffusers' pictures with them (see README.md).

    textual_inversion_golden.py

Writes to tests/data:
    embeddings/sd1, embeddings/sdxl             the files; a word is a file's name
    golden/embeddings.json                      the requests
    golden/embeddings.pictures.safetensors      NAME: uint8 [height, width, 3]
"""
import json
import shutil

import torch
from safetensors.torch import load_file, save_file

from families_golden import build_pipeline as build_family
from make_golden import GOLDEN, MODELS, build_pipeline, make_scheduler, randn, write_arrays

EMBEDDINGS = GOLDEN.parent / "embeddings"
REQUEST = {"width": 72, "height": 56, "steps": 3, "cfg_scale": 6.0, "sampler": "ddim"}
CASES = [
    ("a1111 pt", "sd1", {"prompt": "a inkwash cat, inkwash", "seed": 1}),
    ("diffusers bin", "sd1", {"prompt": "a mosswork castle", "negative_prompt": "inkwash", "seed": 2}),
    ("a1111 safetensors", "sd1", {"prompt": "glowlight", "negative_prompt": "blurry", "seed": 3}),
    ("xl", "sdxl", {"prompt": "a duskxl fox", "negative_prompt": "", "seed": 4}),
    ("xl negative", "sdxl", {"prompt": "a fox", "negative_prompt": "duskxl, blurry", "seed": 5}),
]


def values(count: int, like: torch.nn.Module, seed: int) -> torch.Tensor:
    """As large as the model's own embeddings."""
    table = like.get_input_embeddings().weight
    return randn(count, table.shape[1], seed=seed) * table.std()


def write_files(pipes: dict) -> None:
    shutil.rmtree(EMBEDDINGS, ignore_errors=True)
    for folder in ("sd1/more", "sdxl"):
        (EMBEDDINGS / folder).mkdir(parents=True)
    encoder, xl = pipes["sd1"].text_encoder, pipes["sdxl"]
    torch.save({"string_to_token": {"*": 265}, "string_to_param": {"*": values(2, encoder, 1)}, "name": "inkwash",
                "step": 3000, "sd_checkpoint": None, "sd_checkpoint_name": None}, EMBEDDINGS / "sd1/inkwash.pt")
    torch.save({"<mosswork>": values(1, encoder, 2)[0]}, EMBEDDINGS / "sd1/mosswork.bin")
    save_file({"emb_params": values(4, encoder, 3)}, EMBEDDINGS / "sd1/more/glowlight.safetensors")
    save_file({"clip_l": values(3, xl.text_encoder, 4), "clip_g": values(3, xl.text_encoder_2, 5)},
              EMBEDDINGS / "sdxl/duskxl.safetensors")


def pool_at_the_end(encoder: torch.nn.Module) -> None:
    """Published configs say eos_token_id 2, for which transformers pools at the largest id: that is a learned word's,
    as diffusers appends it, and no longer the end. Easel pools at the end, as AUTOMATIC1111 does."""
    for module in (encoder, *encoder.modules()):
        if hasattr(module, "eos_token_id"):
            module.eos_token_id = 49407
    encoder.config.eos_token_id = 49407


def load(pipes: dict) -> None:
    pool_at_the_end(pipes["sdxl"].text_encoder_2)
    for name, word in (("inkwash.pt", "inkwash"), ("mosswork.bin", "mosswork"), ("more/glowlight.safetensors", "glowlight")):
        pipes["sd1"].load_textual_inversion(str(EMBEDDINGS / "sd1" / name), token=word)
    both, xl = load_file(EMBEDDINGS / "sdxl/duskxl.safetensors"), pipes["sdxl"]
    xl.load_textual_inversion(both["clip_l"], token="duskxl", text_encoder=xl.text_encoder, tokenizer=xl.tokenizer)
    xl.load_textual_inversion(both["clip_g"], token="duskxl", text_encoder=xl.text_encoder_2, tokenizer=xl.tokenizer_2)


@torch.no_grad()
def main():
    pipes = {"sd1": build_pipeline(MODELS / "sd1"), "sdxl": build_family("sdxl")}
    write_files(pipes)
    load(pipes)
    arrays, listed = {}, []
    for name, model, changes in CASES:
        case = {**REQUEST, **changes}
        pipe = pipes[model]
        pipe.scheduler = make_scheduler(MODELS / model, case["sampler"])
        picture = pipe(case["prompt"], negative_prompt=case.get("negative_prompt"), width=case["width"],
                       height=case["height"], num_inference_steps=case["steps"], guidance_scale=case["cfg_scale"],
                       generator=torch.Generator().manual_seed(case["seed"]), output_type="np").images[0]
        arrays[name] = (picture * 255).round().astype("uint8")
        listed.append({"name": name, "model": model, **case})
    write_arrays(GOLDEN / "embeddings.pictures.safetensors", arrays)
    (GOLDEN / "embeddings.json").write_text(json.dumps(listed, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
