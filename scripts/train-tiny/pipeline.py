"""The networks' shapes, the export as a StableDiffusionPipeline folder and sampling."""

import json, os, shutil
import numpy as np, torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

SCHEDULE = dict(
    num_train_timesteps=1000,
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    clip_sample=False,
    set_alpha_to_one=False,
    steps_offset=1,
    prediction_type="v_prediction",
)


def make_unet(a):
    down = tuple("CrossAttnDownBlock2D" if c else "DownBlock2D" for c in a.attn)
    up = tuple("CrossAttnUpBlock2D" if c else "UpBlock2D" for c in reversed(a.attn))
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=a.latent_channels,
        out_channels=a.latent_channels,
        down_block_types=down,
        up_block_types=up,
        block_out_channels=a.ch,
        layers_per_block=1,
        cross_attention_dim=a.hidden,
        attention_head_dim=a.heads,
        norm_num_groups=8,
    )


def make_text(a, vocab):
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocab,
            hidden_size=a.hidden,
            intermediate_size=4 * a.hidden,
            num_hidden_layers=a.layers,
            num_attention_heads=a.hidden // 32,
            max_position_embeddings=77,
            hidden_act="quick_gelu",
            projection_dim=a.hidden,
            bos_token_id=49406,
            eos_token_id=49407,
            pad_token_id=1,
        )
    )


def expand(sd, used, full=49408):
    """Compact token table -> the full CLIP vocabulary; unseen tokens get the unknown-word vector (row 0)."""
    out = {k: v.detach().float().cpu() for k, v in sd.items()}
    key = next(k for k in out if k.endswith("token_embedding.weight"))
    rows = out[key][:1].repeat(full, 1)
    rows[used] = out[key][1:]
    out[key] = rows
    return out


def legacy_layout(out, tokenizer):
    """Newer transformers drop the prefix text_model. and write one tokenizer.json: go back to the files of SD 1.5."""
    path = os.path.join(out, "text_encoder", "model.safetensors")
    sd = {k if k.startswith("text_model.") else "text_model." + k: v for k, v in load_file(path).items()}
    save_file(sd, path, metadata={"format": "pt"})
    config = os.path.join(out, "vae", "config.json")
    fields = json.load(open(config))
    fields.pop("_name_or_path", None)  # the folder it was trained in
    json.dump(fields, open(config, "w"), indent=2, sort_keys=True)
    folder = os.path.join(out, "tokenizer")
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(os.path.join(tokenizer, name), folder)
    if os.path.exists(os.path.join(folder, "tokenizer.json")):
        os.remove(os.path.join(folder, "tokenizer.json"))
    special = {
        k: dict(content=v, lstrip=False, normalized=n, rstrip=False, single_word=False)
        for k, v, n in (
            ("bos_token", "<|startoftext|>", True),
            ("eos_token", "<|endoftext|>", True),
            ("unk_token", "<|endoftext|>", True),
        )
    }
    json.dump(
        dict(special, pad_token="<|endoftext|>"), open(os.path.join(folder, "special_tokens_map.json"), "w"), indent=2
    )
    json.dump(
        dict(
            add_prefix_space=False,
            bos_token="<|startoftext|>",
            do_lower_case=True,
            eos_token="<|endoftext|>",
            errors="replace",
            model_max_length=77,
            pad_token="<|endoftext|>",
            tokenizer_class="CLIPTokenizer",
            unk_token="<|endoftext|>",
        ),
        open(os.path.join(folder, "tokenizer_config.json"), "w"),
        indent=2,
    )


def export(a, net, ema, used, out):
    """The averaged weights as a pipeline; written to out as fp16 unless that is empty."""
    sd = {k: v for k, v in zip(dict(net.named_parameters()), ema)}
    pick = lambda head: {k[len(head) + 1 :]: v for k, v in sd.items() if k.startswith(head + ".")}
    text = make_text(a, 49408)
    text.load_state_dict(expand(pick("text"), used))
    unet = make_unet(a)
    unet.load_state_dict({k: v.detach().float().cpu() for k, v in pick("unet").items()})
    pipe = StableDiffusionPipeline(
        vae=AutoencoderKL.from_pretrained(os.path.join(a.work, "vae")),
        text_encoder=text,
        unet=unet,
        tokenizer=CLIPTokenizer.from_pretrained(a.tokenizer, model_max_length=77),
        scheduler=DDIMScheduler(**SCHEDULE),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    if out:
        pipe.to(torch.float16).save_pretrained(out, safe_serialization=True)
        pipe.to(torch.float32)
        legacy_layout(out, a.tokenizer)
    return pipe


@torch.no_grad()
def generate(pipe, prompts, steps=20, cfg=4.0, seed=0, chunk=32, latents=False):
    """DDIM with classifier-free guidance; the noise of picture i depends on seed + i alone."""
    pipe.set_progress_bar_config(disable=True)
    out = []
    for i in range(0, len(prompts), chunk):
        g = [torch.Generator().manual_seed(seed + i + j) for j in range(len(prompts[i : i + chunk]))]
        out.append(
            pipe(
                prompts[i : i + chunk],
                height=128,
                width=128,
                num_inference_steps=steps,
                guidance_scale=cfg,
                generator=g,
                output_type="latent" if latents else "np",
            ).images
        )
    return torch.cat(out) if latents else (np.concatenate(out) * 255).round().astype(np.uint8)
