#!/usr/bin/env python3
"""Reference data of AltDiffusion: a small sentencepiece model, ids, hidden states and pictures of tiny random models.

    alt_golden.py --cldr /usr/share/unicode/cldr/common      (Debian: unicode-cldr-core)

The sentencepiece model (tests/data/models/alt/tokenizer) is trained on Unicode CLDR's names of emoji in the nine
languages of AltDiffusion-m9; ids are those of the sentencepiece package plus fairseq's offsets. Hidden states and pictures
come from diffusers' deprecated alt_diffusion module on the CPU in f32."""

import argparse, io, json, random
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import sentencepiece
import torch

from make_golden import GOLDEN, MODELS, build_module, make_scheduler, randn, write_arrays
from random_weights import random_tensor, read_config

LANGUAGES = "en zh es fr ru ja ko ar it".split()
NAMES = ("alt", "alt-pre")
ODD = ["", " ", "   ", "\t", "\n", "a\tb\nc", "  lead", "trail  ", "a  b", "a\u3000b", "a\u00a0b", "\u200b", "e\u0301", "ﬁ ligature", "Ａｂｃ",
       "1234567890", "!!!", "...", "<s>", "</s>", "<pad>", "<mask> x", "▁", "▁▁a", "🐱🚀", "👩‍🚀", "🏳️‍🌈", "𝔘𝔫𝔦", "ﷺ", "ㅋㅋㅋ", "a" * 300, "가" * 200]  # fmt: skip
PROMPTS = [
    "",
    "a photo of an astronaut riding a horse on mars",
    "푸른 하늘 아래 평화로운 시골 풍경",
    "一只猫在月亮上",
    "قطة على القمر، صورة",
    "a very detailed oil painting of a lighthouse on a cliff " * 9,
]
CASES = [
    ("alt", "ddim", dict(prompt=PROMPTS[2], steps=2)),
    ("alt", "euler", dict(prompt=PROMPTS[1], steps=5, negative_prompt="흐릿한 그림", seed=7)),
    ("alt", "pndm", dict(prompt=PROMPTS[4], steps=6, width=96, height=160)),
    ("alt", "ddim", dict(prompt=PROMPTS[5], steps=2, cfg_scale=1.0)),
    ("alt-pre", "ddim", dict(prompt=PROMPTS[2], steps=2)),
    ("alt-pre", "euler_a", dict(prompt=PROMPTS[3], steps=5, seed=3)),
]


def corpus(cldr: Path) -> list:
    lines = []
    for language in LANGUAGES:
        for part in ("annotations", "annotationsDerived"):
            for node in ET.parse(cldr / part / f"{language}.xml").iter("annotation"):
                lines.append(node.text.replace(" | ", " "))
    return lines


def train(lines: list, file: Path) -> None:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines), model_writer=model, vocab_size=3000, model_type="unigram",
        character_coverage=0.999, normalization_rule_name="nmt_nfkc", num_threads=1, unk_id=0, bos_id=1, eos_id=2, pad_id=-1,
    )  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(model.getvalue())


class Tokenizer:
    """What XLMRobertaTokenizer of transformers 4 did, as the pipeline calls it."""

    model_max_length, added_tokens_encoder = 77, {}

    def __init__(self, file):
        self.pieces = sentencepiece.SentencePieceProcessor(model_file=str(file))

    def encode(self, text):
        return [3 if piece == 0 else piece + 1 for piece in self.pieces.encode(text)]

    def __call__(self, text, padding=None, max_length=None, truncation=False, return_tensors="pt"):
        texts = [text] if isinstance(text, str) else text
        rows = [[0, *self.encode(t)[: 75 if truncation else None], 2] for t in texts]
        length = 77 if padding == "max_length" else max(map(len, rows))
        ids = torch.tensor([row + [1] * (length - len(row)) for row in rows])
        return argparse.Namespace(input_ids=ids, attention_mask=(ids != 1).long())

    def tokenize(self, text):
        return self.pieces.encode(text, out_type=str)

    def batch_decode(self, ids):
        return [""] * len(ids)


def write_tokens(lines: list, tokenizer: Tokenizer) -> None:
    r = random.Random(0)
    texts = ODD + PROMPTS
    while len(texts) < 1000:
        words = r.sample(lines, r.randint(1, 3))
        texts.append(r.choice([" ", ", ", "  ", " 🎨 ", "。"]).join(words)[: r.randint(3, 60)])
    rows = [[text, tokenizer.encode(text)] for text in texts]
    with open(GOLDEN / "alt_tokens.jsonl", "w") as out:
        out.writelines(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in rows)


def build_text_encoder(name: str):
    from diffusers.pipelines.deprecated.alt_diffusion import modeling_roberta_series as series

    config = series.RobertaSeriesConfig(**read_config(MODELS / name, "text_encoder"))
    model = series.RobertaSeriesModelWithTransformation(config).eval()
    state = {k: random_tensor(f"text_encoder/{k}", v.shape) for k, v in model.state_dict().items()}
    model.load_state_dict(state, strict=True)
    return model


def build_pipeline(name: str, tokenizer):
    from diffusers.pipelines.deprecated.alt_diffusion.pipeline_alt_diffusion import AltDiffusionPipeline

    pipe = AltDiffusionPipeline(
        vae=build_module(MODELS / name, "vae"), text_encoder=build_text_encoder(name), tokenizer=tokenizer,
        unet=build_module(MODELS / name, "unet"), scheduler=make_scheduler(MODELS / name, "ddim"),
        safety_checker=None, feature_extractor=None, image_encoder=None, requires_safety_checker=False,
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


def write_models(tokenizer: Tokenizer) -> None:
    stages, pictures, cases = {}, {}, []
    pipes = {name: build_pipeline(name, tokenizer) for name in NAMES}
    for name, pipe in pipes.items():
        batch = tokenizer(PROMPTS, padding="max_length", truncation=True)
        stages[f"{name}.ids"] = batch.input_ids
        stages[f"{name}.out"] = pipe.text_encoder(batch.input_ids, attention_mask=batch.attention_mask)[0]
    for number, (name, sampler, changes) in enumerate(CASES):
        case = dict(name=f"{number:02d}-{name}-{sampler}", model=name, sampler=sampler, negative_prompt=None,
                    width=136, height=88, cfg_scale=7.5, seed=0)  # fmt: skip
        case.update(changes)
        pipe = pipes[name]
        pipe.scheduler = make_scheduler(MODELS / name, sampler)
        picture = pipe(
            case["prompt"], negative_prompt=case["negative_prompt"], width=case["width"], height=case["height"],
            num_inference_steps=case["steps"], guidance_scale=case["cfg_scale"],
            generator=torch.Generator().manual_seed(case["seed"]), output_type="np",
        ).images  # fmt: skip
        pictures[case["name"]] = (picture * 255).round().astype(np.uint8)
        cases.append(case)
    write_arrays(GOLDEN / "alt.stages.safetensors", {k: v.numpy() for k, v in stages.items()})
    write_arrays(GOLDEN / "alt.pictures.safetensors", pictures)
    (GOLDEN / "alt.pictures.json").write_text(json.dumps(cases, indent=1, ensure_ascii=False) + "\n")


def write_keys() -> None:
    """AltDiffusion-m9's text encoder in full size (XLM-R large), without storage."""
    from diffusers.pipelines.deprecated.alt_diffusion import modeling_roberta_series as series

    config = series.RobertaSeriesConfig(
        vocab_size=250002, hidden_size=1024, intermediate_size=4096, num_hidden_layers=24, num_attention_heads=16,
        max_position_embeddings=514, type_vocab_size=1, project_dim=768, layer_norm_eps=1e-5,
    )  # fmt: skip
    with torch.device("meta"):
        state = series.RobertaSeriesModelWithTransformation(config).state_dict()
    shapes = {k: list(v.shape) for k, v in state.items() if ".pooler." not in k}
    text = ",\n".join(f"{json.dumps(k)}:{json.dumps(v, separators=(',', ':'))}" for k, v in shapes.items())
    (GOLDEN / "keys.alt.json").write_text("{\n" + text + "\n}\n")


def write_configs(pieces: int) -> None:
    """Parts of tests/data/models/sd1 with an XLM-R text encoder before them."""
    for name in NAMES:
        for part in ("unet", "vae", "scheduler"):
            (MODELS / name / part).mkdir(parents=True, exist_ok=True)
            file = f"{part}/scheduler_config.json" if part == "scheduler" else f"{part}/config.json"
            (MODELS / name / file).write_bytes((MODELS / "sd1" / file).read_bytes())
        config = dict(architectures=["RobertaSeriesModelWithTransformation"], attention_probs_dropout_prob=0.1, bos_token_id=0,
                      classifier_dropout=None, eos_token_id=2, hidden_act="gelu", hidden_dropout_prob=0.1, hidden_size=48,
                      initializer_range=0.02, intermediate_size=96, layer_norm_eps=1e-05, learn_encoder=False,
                      max_position_embeddings=130, model_type="xlm-roberta", num_attention_heads=4, num_hidden_layers=3,
                      output_past=True, pad_token_id=1, pooler_fn="cls", position_embedding_type="absolute", project_dim=32,
                      torch_dtype="float32", transformers_version="4.25.1", type_vocab_size=1, use_attention_mask=True,
                      use_cache=True, vocab_size=pieces + 2)  # fmt: skip
        if name == "alt-pre":
            config["has_pre_transformation"] = True
        (MODELS / name / "text_encoder").mkdir(parents=True, exist_ok=True)
        (MODELS / name / "text_encoder/config.json").write_text(json.dumps(config, indent=2) + "\n")
        index = json.loads((MODELS / "sd1/model_index.json").read_text())
        index.update(_class_name="AltDiffusionPipeline", tokenizer=["transformers", "XLMRobertaTokenizer"],
                     text_encoder=["alt_diffusion", "RobertaSeriesModelWithTransformation"])  # fmt: skip
        (MODELS / name / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
    tokenizer_config = dict(tokenizer_class="XLMRobertaTokenizer", model_max_length=77, bos_token="<s>", eos_token="</s>",
                            unk_token="<unk>", pad_token="<pad>", mask_token="<mask>")  # fmt: skip
    (MODELS / "alt/tokenizer/tokenizer_config.json").write_text(json.dumps(tokenizer_config, indent=2) + "\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cldr", type=Path, required=True)
    args = parser.parse_args()
    torch.set_grad_enabled(False)
    lines, file = corpus(args.cldr), MODELS / "alt/tokenizer/sentencepiece.bpe.model"
    if not file.exists():  # training is not exact over versions; the committed model is the reference
        train(lines, file)
    tokenizer = Tokenizer(file)
    write_tokens(lines, tokenizer)
    write_configs(tokenizer.pieces.get_piece_size())
    write_keys()
    write_models(tokenizer)


if __name__ == "__main__":
    main()
