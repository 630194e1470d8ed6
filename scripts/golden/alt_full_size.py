#!/usr/bin/env python3
"""A random AltDiffusion-m9 in full size: XLM-R large and its projection before Stable Diffusion 1.5's U-Net and VAE.

    alt_full_size.py --out big-alt [--dtype f16]

The text encoder's names and shapes are keys.alt.json. The sentencepiece model is that of tests/data/models/alt, filled
up with unused pieces to the published 250,000, so that its ids fit the full embedding.
"""
import argparse
import json
import struct
from pathlib import Path

from make_golden import GOLDEN, MODELS, SD15
from random_weights import DTYPES, random_part, random_tensor, read_config, save_part, write_scheduler_and_index

PIECES = 250000
XLM_R_LARGE = {"vocab_size": PIECES + 2, "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
               "num_attention_heads": 16, "max_position_embeddings": 514, "project_dim": 768}


def field(number: int, content: bytes) -> bytes:
    """A length-delimited protobuf field of up to 127 bytes."""
    assert len(content) < 128
    return bytes([number << 3 | 2, len(content)]) + content


def unused_piece(name: str) -> bytes:
    """sentencepiece's ModelProto.pieces: piece, score, type UNUSED."""
    return field(1, field(1, name.encode()) + b"\x15" + struct.pack("<f", -100.0) + b"\x18\x05")


def write_tokenizer(out: Path) -> None:
    folder = MODELS / "alt/tokenizer"
    out.mkdir(parents=True, exist_ok=True)
    model = (folder / "sentencepiece.bpe.model").read_bytes()
    pieces = read_config(MODELS / "alt", "text_encoder")["vocab_size"] - 2
    # a repeated field goes on wherever it comes again
    filling = b"".join(unused_piece(f"<unused{i}>") for i in range(PIECES - pieces))
    (out / "sentencepiece.bpe.model").write_bytes(model + filling)
    (out / "tokenizer_config.json").write_bytes((folder / "tokenizer_config.json").read_bytes())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dtype", choices=DTYPES, default="f16")
    args = parser.parse_args()
    dtype = DTYPES[args.dtype]
    write_tokenizer(args.out / "tokenizer")
    shapes = json.loads((GOLDEN / "keys.alt.json").read_text())
    text = {k: random_tensor(f"text_encoder/{k}", shape).to(dtype) for k, shape in shapes.items()}
    save_part(text, args.out / "text_encoder", "model", "", sharded=False)
    config = {**read_config(MODELS / "alt", "text_encoder"), **XLM_R_LARGE}
    (args.out / "text_encoder/config.json").write_text(json.dumps(config, indent=2) + "\n")
    for part in ("unet", "vae"):
        save_part(random_part(SD15, part, dtype=dtype), args.out / part, "diffusion_pytorch_model", "", sharded=False)
        (args.out / part / "config.json").write_text(json.dumps(read_config(SD15, part), indent=2) + "\n")
    write_scheduler_and_index(MODELS / "alt", args.out)


if __name__ == "__main__":
    main()
