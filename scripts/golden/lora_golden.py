"""LoRAs of every kind with random factors, what LyCORIS merges of them, and diffusers' (PEFT's) pictures (see README.md).

    lora_golden.py        needs peft and lycoris_lora, pinned in requirements.txt

Writes to tests/data:
    loras/NAME.safetensors              the files
    golden/loras.safetensors            NAME/PART/TENSOR: the merged weight at strength 1, every STRIDE-th value, and the
                                        same @0.6 at that strength (DoRA's shares are shared out differently by everyone)
    golden/loras.json                   the pictures' requests
    golden/loras.pictures.safetensors   NAME: uint8 [height, width, 3]
"""
import json
import shutil

import torch
from lycoris.functional.general import weight_decompose
from lycoris.functional.locon import diff_weight as locon_difference
from lycoris.functional.lokr import diff_weight as lokr_difference
from lycoris.modules import get_module, make_module
from safetensors.torch import save_file

from families_golden import build_pipeline as build_family
from make_golden import GOLDEN, MODELS, build_pipeline, make_scheduler, write_arrays

LORAS = GOLDEN.parent / "loras"
STRIDE = 7
RANK, ALPHA = 4, 3.0
ATTENTION = "down_blocks.0.attentions.0.transformer_blocks.0."
LINEAR, ONE, CONV = ATTENTION + "attn2.to_q", "down_blocks.0.attentions.0.proj_in", "down_blocks.0.resnets.0.conv1"
TEXT = "text_model.encoder.layers.0.self_attn.q_proj"
REQUEST = {"prompt": "a photo of an astronaut", "negative_prompt": "blurry", "width": 72, "height": 56, "steps": 3,
           "cfg_scale": 6.0, "sampler": "ddim"}


class Draw:
    def __init__(self, seed: int):
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, *shape, gain=1.0) -> torch.Tensor:
        return torch.randn(shape, generator=self.generator) * gain


# --- factors -----------------------------------------------------------------------------------------------------


def locon(draw: Draw, shape, tucker=False) -> dict:
    out, into, kernel = shape[0], shape[1], list(shape[2:])
    if tucker:
        ones = [1] * len(kernel)
        return {"lora_down.weight": draw(RANK, into, *ones), "lora_mid.weight": draw(RANK, RANK, *kernel, gain=0.1),
                "lora_up.weight": draw(out, RANK, *ones), "alpha": torch.tensor(ALPHA)}
    ones = [1] * len(kernel)
    return {"lora_down.weight": draw(RANK, into, *kernel, gain=0.1), "lora_up.weight": draw(out, RANK, *ones),
            "alpha": torch.tensor(ALPHA)}


def loha(draw: Draw, shape, tucker=False) -> dict:
    out, into, kernel = shape[0], shape[1], list(shape[2:])
    if tucker:
        return {"hada_t1": draw(RANK, RANK, *kernel), "hada_w1_a": draw(RANK, out), "hada_w1_b": draw(RANK, into, gain=0.1),
                "hada_t2": draw(RANK, RANK, *kernel), "hada_w2_a": draw(RANK, out), "hada_w2_b": draw(RANK, into, gain=0.1),
                "alpha": torch.tensor(ALPHA)}
    wide = into * int(torch.tensor(kernel).prod()) if kernel else into
    return {"hada_w1_a": draw(out, RANK), "hada_w1_b": draw(RANK, wide, gain=0.3), "hada_w2_a": draw(out, RANK),
            "hada_w2_b": draw(RANK, wide, gain=0.3), "alpha": torch.tensor(ALPHA)}


def lokr(draw: Draw, shape, kind: str) -> dict:
    """LyCORIS factors a matrix only where that is smaller, which bounds the ranks."""
    out, into, kernel = shape[0], shape[1], list(shape[2:])
    small_out, small_in = out // 4, into // 4
    rank = 1 if kind == "both low" else 2
    parts = {"lokr_w1_a": draw(4, rank), "lokr_w1_b": draw(rank, 4)} if kind == "both low" else {"lokr_w1": draw(4, 4)}
    if kind == "whole":
        parts["lokr_w2"] = draw(small_out, small_in, *kernel, gain=0.1)
    elif kind == "tucker":
        parts |= {"lokr_t2": draw(rank, rank, *kernel, gain=0.1), "lokr_w2_a": draw(rank, small_out),
                  "lokr_w2_b": draw(rank, small_in)}
    else:
        wide = small_in * int(torch.tensor(kernel).prod()) if kernel else small_in
        parts |= {"lokr_w2_a": draw(small_out, rank), "lokr_w2_b": draw(rank, wide, gain=0.1)}
    return {**parts, "alpha": torch.tensor(ALPHA)}


def dora(draw: Draw, weight: torch.Tensor, by_output: bool) -> dict:
    parts = locon(draw, weight.shape)
    over = [d for d in range(weight.dim()) if d != (0 if by_output else 1)]
    norm = torch.linalg.vector_norm(weight, dim=over, keepdim=True)
    return {**parts, "dora_scale": norm * (1 + 0.3 * draw(*norm.shape))}


def kohya(module: str) -> str:
    return ("lora_te_" if module.startswith("text_model") else "lora_unet_") + module.replace(".", "_")


# --- files -------------------------------------------------------------------------------------------------------


def lycoris_files(unet) -> dict:
    weight = {name: unet.get_submodule(name).weight.detach() for name in (LINEAR, ONE, CONV)}
    draw = Draw(1)
    return {
        "locon": {LINEAR: locon(draw, weight[LINEAR].shape), ONE: locon(draw, weight[ONE].shape),
                  CONV: locon(draw, weight[CONV].shape)},
        "locon-tucker": {CONV: locon(draw, weight[CONV].shape, tucker=True)},
        "loha": {LINEAR: loha(draw, weight[LINEAR].shape), CONV: loha(draw, weight[CONV].shape)},
        "loha-tucker": {CONV: loha(draw, weight[CONV].shape, tucker=True)},
        "lokr": {LINEAR: lokr(draw, weight[LINEAR].shape, "whole"), CONV: lokr(draw, weight[CONV].shape, "low")},
        "lokr-low": {LINEAR: lokr(draw, weight[LINEAR].shape, "both low"), CONV: lokr(draw, weight[CONV].shape, "tucker")},
        "dora": {LINEAR: dora(draw, weight[LINEAR], True), CONV: dora(draw, weight[CONV], True)},
        "dora-by-input": {LINEAR: dora(draw, weight[LINEAR], False), CONV: dora(draw, weight[CONV], False)},
    }


def module_kind(parts: dict) -> str:
    return next(iter(parts)).split("_")[0]


def merged(module: str, parts: dict, original, strength: float) -> torch.Tensor:
    if "lokr_t2" in parts:  # both take the wrong side of lokr_w2_a for the rank
        factors = [parts.get(f"lokr_{name}") for name in ("w1", "w1_a", "w1_b", "w2", "w2_a", "w2_b", "t2")]
        change = lokr_difference(*factors, gamma=ALPHA / parts["lokr_t2"].shape[0] * parts["lokr_w2_a"].shape[1])
        return original.weight.detach() + strength * change.reshape(original.weight.shape)
    if "dora_scale" in parts and parts["dora_scale"].shape[0] == 1:  # make_module knows norms by output alone
        change = locon_difference(parts["lora_down.weight"], parts["lora_up.weight"], None, gamma=ALPHA / RANK)
        whole = original.weight.detach() + change.reshape(original.weight.shape)
        return weight_decompose(whole, parts["dora_scale"], 1, wd_on_out=False)
    state = {f"x.{name}": tensor.clone() for name, tensor in parts.items()}
    kind, params = get_module(state, "x")
    made = make_module(kind, params, "x", original)
    if module_kind(parts) in ("hada", "lokr"):  # its get_merged_weight scales twice, its forward once
        return original.weight.detach() + strength * made.get_weight(original.weight.shape).detach()
    return made.get_merged_weight(multiplier=strength, shape=original.weight.shape)[0].detach()


def write_lycoris(pipe) -> dict:
    arrays = {}
    for name, modules in lycoris_files(pipe.unet).items():
        state = {f"{kohya(module)}.{part}": t.contiguous() for module, parts in modules.items() for part, t in parts.items()}
        save_file(state, LORAS / f"{name}.safetensors")
        for module, parts in modules.items():
            original = pipe.unet.get_submodule(module)
            for strength, mark in ((1.0, ""), (0.6, "@0.6")):
                if mark and name.startswith("dora"):
                    continue
                weight = merged(module, parts, original, strength)
                arrays[f"{name}/unet/{module}.weight{mark}"] = weight.flatten()[::STRIDE].numpy()
    return arrays


def peft_file(pipe, draw: Draw, with_dora: bool) -> dict:
    """As diffusers' save_lora_weights names them; transformers 5 knows no `text_model.` any more."""
    state = {}
    for part, network, modules in (("unet", pipe.unet, (LINEAR, CONV, ATTENTION + "attn1.to_out.0", "mid_block.resnets.0.conv2")),
                                   ("text_encoder", pipe.text_encoder, (TEXT.removeprefix("text_model."),))):
        for module in modules:
            weight = network.get_submodule(module).weight
            name = f"{part}.{module}"
            out, into, kernel = weight.shape[0], weight.shape[1], list(weight.shape[2:])
            state[f"{name}.lora_A.weight"] = draw(RANK, into, *kernel, gain=0.2)
            state[f"{name}.lora_B.weight"] = draw(out, RANK, *([1] * len(kernel)), gain=0.5)
            if with_dora and part == "unet":
                norm = torch.linalg.vector_norm(weight.detach().flatten(1), dim=1)
                magnitude = norm * (1 + 0.3 * draw(out))
                state[f"{name}.lora_magnitude_vector"] = magnitude.view(1, -1, 1, 1) if kernel else magnitude
    return state




def xl_files(pipe, draw: Draw) -> tuple[dict, dict]:
    """Both text encoders and an attention of the U-Net: as kohya's trainer names them, the U-Net's modules as LDM does,
    and for diffusers, whose converter does not know transformers 5."""
    first = next(i for i, block in enumerate(pipe.unet.down_blocks) if hasattr(block, "attentions"))
    ldm = 1 + 3 * first  # two layers and a downsampler a level, behind conv_in
    names = {f"lora_unet_input_blocks_{ldm}_1_transformer_blocks_0_attn2_to_k":
             ("unet", f"down_blocks.{first}.attentions.0.transformer_blocks.0.attn2.to_k")}
    for i, part in ((1, "text_encoder"), (2, "text_encoder_2")):
        names[f"lora_te{i}_text_model_encoder_layers_1_self_attn_v_proj"] = (part, "encoder.layers.1.self_attn.v_proj")
    theirs, ours = {}, {}
    for name, (part, module) in names.items():
        network = getattr(pipe, part)
        weight = getattr(network, "text_model", network).get_submodule(module).weight
        factors = locon(draw, weight.shape)
        theirs |= {f"{name}.{factor}": tensor for factor, tensor in factors.items()}
        prefix = f"{part}." + ("text_model." if part == "text_encoder_2" else "")
        ours[f"{prefix}{module}.lora_A.weight"] = factors["lora_down.weight"]
        ours[f"{prefix}{module}.lora_B.weight"] = factors["lora_up.weight"] * (ALPHA / RANK)
    return theirs, ours


# --- pictures ----------------------------------------------------------------------------------------------------


def picture(pipe, model: str, seed: int):
    pipe.scheduler = make_scheduler(MODELS / model, REQUEST["sampler"])
    out = pipe(REQUEST["prompt"], negative_prompt=REQUEST["negative_prompt"], width=REQUEST["width"],
               height=REQUEST["height"], num_inference_steps=REQUEST["steps"], guidance_scale=REQUEST["cfg_scale"],
               generator=torch.Generator().manual_seed(seed), output_type="np").images[0]
    return (out * 255).round().astype("uint8")


def main():
    shutil.rmtree(LORAS, ignore_errors=True)
    LORAS.mkdir(parents=True)
    sd1, xl = build_pipeline(MODELS / "sd1"), build_family("sdxl")
    write_arrays(GOLDEN / "loras.safetensors", write_lycoris(sd1))
    save_file(peft_file(sd1, Draw(2), False), LORAS / "peft.safetensors")
    save_file(peft_file(sd1, Draw(3), True), LORAS / "peft-dora.safetensors")
    kohya_xl, for_diffusers = xl_files(xl, Draw(4))
    save_file(kohya_xl, LORAS / "kohya-xl.safetensors")
    arrays, listed = {}, []
    for i, (name, model, files) in enumerate([("peft", "sd1", {"peft": 1.0}), ("peft share", "sd1", {"peft": 0.7}),
                                              ("dora", "sd1", {"peft-dora": 1.0}),
                                              ("two", "sd1", {"peft": 0.5, "locon": 0.8}),
                                              ("xl", "sdxl", {"kohya-xl": 0.9})]):
        pipe = sd1 if model == "sd1" else xl
        for file in files:
            source = for_diffusers if file == "kohya-xl" else str(LORAS / f"{file}.safetensors")
            pipe.load_lora_weights(source, adapter_name=file.replace("-", "_"))
        pipe.set_adapters([file.replace("-", "_") for file in files], list(files.values()))
        arrays[name] = picture(pipe, model, seed=i)
        pipe.unload_lora_weights()
        listed.append({"name": name, "model": model, "seed": i, "lora": [f"{f}.safetensors:{w}" for f, w in files.items()],
                       **REQUEST})
    write_arrays(GOLDEN / "loras.pictures.safetensors", arrays)
    (GOLDEN / "loras.json").write_text(json.dumps(listed, indent=1) + "\n")


if __name__ == "__main__":
    with torch.no_grad():
        main()
