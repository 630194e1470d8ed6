"""Reference data of the prompt language (see README.md): 200 prompts, their chunks and weighted embeddings.

    prompt_golden.py        needs compel, pinned in requirements.txt

Writes to tests/data/golden:
    prompts.json            {"text", "model", "compel"} each; `compel`: whether compel was asked as well
    prompts.safetensors     per prompt K: K.ids [chunks, 77], K.weights [chunks, 77], K.a1111 and K.compel: every
                            STRIDE-th value of the embeddings, K.pooled where the encoder has one

AUTOMATIC1111's rules are written here from their documentation: (x) is 1.1, [x] 1/1.1, (x:w) w, nested ones multiply, a
backslash takes a bracket's meaning; what is left open counts to the end. 75 tokens a chunk, BREAK begins a new one, a full
chunk is broken behind a comma among its last 20 tokens. Embeddings are multiplied and the chunk's mean is restored.
"""
import json
import random

import numpy as np
import torch
from compel.embeddings_provider import EmbeddingsProvider, ReturnedEmbeddingsType, SplitLongTextMode

from families_golden import build_module, build_tokenizer
from make_golden import GOLDEN, write_arrays

STRIDE = 97
ENCODERS = {"sd1": ("text_encoder", "tokenizer"), "sdxl": ("text_encoder_2", "tokenizer_2")}
WORDS = ("a photo of red fox castle on mars lighthouse painting very detailed oil cliff watercolour horse astronaut "
         "푸른 하늘 평화로운 시골 풍경 夕焼け 🐱 café naïve rock'n'roll 1990s").split()


# --- prompts -----------------------------------------------------------------------------------------------------


def phrase(draw: random.Random, commas: bool) -> str:
    words = [draw.choice(WORDS) for _ in range(draw.randint(1, 5))]
    return " ".join(words) + ("," if commas and draw.random() < 0.5 else "")


def group(draw: random.Random, depth: int, commas: bool) -> str:
    inside = phrase(draw, commas)
    if depth < 3 and draw.random() < 0.4:
        inside += " " + group(draw, depth + 1, commas)
    kind = draw.random()
    if kind < 0.3:
        return f"({inside})"
    if kind < 0.5:
        return f"[{inside}]"
    if kind < 0.9:
        return f"({inside}:{draw.choice(['1.3', '0.5', '1.21', '.8', '0.', ' 1.1 ', '+1.4', '0'])})"
    return "\\(" + inside + "\\)"


def prompt(draw: random.Random, parts: int, commas: bool, breaks: bool, odd: bool) -> str:
    text = []
    for _ in range(parts):
        text.append(group(draw, 1, commas) if draw.random() < 0.5 else phrase(draw, commas))
        if breaks and draw.random() < 0.15:
            text.append("BREAK")
        if odd and draw.random() < 0.3:
            text.append(draw.choice(["(", "[", ")", "]", ":", "\\", ":1.3)", "16:9"]))
    return " ".join(text)


def prompts() -> list[dict]:
    draw = random.Random(10)
    out = []
    for i in range(200):
        if i < 90:
            one = {"text": prompt(draw, draw.randint(1, 6), True, False, False), "compel": True}
        elif i < 130:
            one = {"text": prompt(draw, draw.randint(1, 6), True, True, True), "compel": False}
        elif i < 170:
            one = {"text": prompt(draw, draw.randint(15, 30), True, i % 2 == 0, False), "compel": False}
        else:
            one = {"text": prompt(draw, draw.randint(15, 30), False, False, False), "compel": True}
        one["model"] = "sdxl" if i % 4 == 3 else "sd1"
        out.append(one)
    return out


# --- the rules ---------------------------------------------------------------------------------------------------


def weighted(text: str) -> list[tuple[str, float]]:
    """(text, weight) for each run of one weight; ("BREAK", None) between chunks."""
    pieces: list[list] = []  # letter or "BREAK", weight
    open_round: list[int] = []
    open_square: list[int] = []

    def scale(start: int, by: float):
        for piece in pieces[start:]:
            if piece[1] is not None:
                piece[1] *= by

    at = 0
    while at < len(text):
        c, rest = text[at], text[at:]
        if c == "\\":
            letter = rest[1:2] if rest[1:2] and rest[1:2] in "()[]\\" else ""
            pieces.append([letter, 1.0])
            at += 1 + len(letter)
            continue
        if c in "([":
            (open_round if c == "(" else open_square).append(len(pieces))
        elif c == ":" and open_round and ")" in rest and is_number(rest[1:rest.index(")")]):
            scale(open_round.pop(), float(rest[1:rest.index(")")]))
            at += rest.index(")")
        elif c == ")" and open_round:
            scale(open_round.pop(), 1.1)
        elif c == "]" and open_square:
            scale(open_square.pop(), 1 / 1.1)
        elif rest.startswith("BREAK") and not text[at - 1:at].isalnum() and not rest[5:6].isalnum():
            while pieces and pieces[-1][0].isspace():
                pieces.pop()
            pieces.append(["BREAK", None])
            at += 5
            while text[at:at + 1].isspace():
                at += 1
            continue
        else:
            pieces.append([c, 1.0])
        at += 1
    for start in open_round:
        scale(start, 1.1)
    for start in open_square:
        scale(start, 1 / 1.1)
    runs: list[tuple[str, float]] = []
    for letter, weight in pieces:
        if runs and weight is not None and runs[-1][1] == weight:
            runs[-1] = (runs[-1][0] + letter, weight)
        elif letter:
            runs.append((letter, weight))
    return runs or [("", 1.0)]


def is_number(text: str) -> bool:
    text = text.strip()
    body = text[1:] if text[:1] in ("+", "-") else text
    return bool(body) and set(body) <= set("0123456789.") and body.count(".") <= 1 and body != "."


def chunks(tokenizer, runs) -> tuple[np.ndarray, np.ndarray]:
    comma = tokenizer.convert_tokens_to_ids(",</w>")
    rows: list[list[tuple[int, float]]] = [[]]
    for text, weight in runs:
        if weight is None:
            rows.append([])
            continue
        for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
            row = rows[-1]
            if len(row) == 75 and token != comma:
                # as many as stand behind the last comma go with it, if that are fewer than 20
                behind = next((n for n, (t, _) in enumerate(reversed(row)) if t == comma), 75)
                rows.append(row[75 - behind:] if behind < 20 else [])
                rows[-2] = row[:75 - behind] if behind < 20 else row
            elif len(row) == 75:
                rows.append([])
            rows[-1].append((token, weight))
    if len(rows) > 1 and not rows[-1]:
        rows.pop()
    start, end, pad = tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id
    ids = [[start, *(t for t, _ in row), end] + [pad] * (75 - len(row)) for row in rows]
    weights = [[1.0, *(w for _, w in row), 1.0] + [1.0] * (75 - len(row)) for row in rows]
    return np.array(ids, dtype=np.int64), np.array(weights, dtype=np.float32)


# --- embeddings --------------------------------------------------------------------------------------------------


def states_of(encoder, model: str, ids: torch.Tensor) -> torch.Tensor:
    out = encoder(ids, output_hidden_states=True)
    return out.hidden_states[-2] if model == "sdxl" else out.last_hidden_state


def a1111(encoder, model: str, ids: np.ndarray, weights: np.ndarray) -> torch.Tensor:
    states = []
    for row, w in zip(torch.from_numpy(ids), torch.from_numpy(weights)):
        z = states_of(encoder, model, row[None])
        scaled = z * w[None, :, None]
        states.append(scaled * (z.mean() / scaled.mean()) if (w != 1).any() else z)
    return torch.cat(states, 1)


def compel_provider(encoder, tokenizer, model: str) -> EmbeddingsProvider:
    kinds = ReturnedEmbeddingsType
    kind = kinds.PENULTIMATE_HIDDEN_STATES_NON_NORMALIZED if model == "sdxl" else kinds.LAST_HIDDEN_STATES_NORMALIZED
    mode = SplitLongTextMode.BRUTAL | SplitLongTextMode.COPY_FIRST_CLS_TOKEN
    return EmbeddingsProvider(tokenizer, encoder, truncate=False, returned_embeddings_type=kind,
                              split_long_text_mode=mode)


def by_compel(provider: EmbeddingsProvider, runs) -> torch.Tensor:
    runs = [run for run in runs if run[0].strip()]
    texts, weights = [text for text, _ in runs], [weight for _, weight in runs]
    return provider.get_embeddings_for_weighted_prompt_fragments([texts], [weights])


@torch.no_grad()
def main():
    loaded = {}
    for model, (part, name) in ENCODERS.items():
        encoder, tokenizer = build_module(model, part), build_tokenizer(model, name)
        loaded[model] = encoder, tokenizer, compel_provider(encoder, tokenizer, model)
    arrays, listed = {}, prompts()
    for k, one in enumerate(listed):
        encoder, tokenizer, provider = loaded[one["model"]]
        runs = weighted(one["text"])
        ids, weights = chunks(tokenizer, runs)
        arrays[f"{k}.ids"] = ids.astype(np.int32)
        arrays[f"{k}.weights"] = weights
        arrays[f"{k}.a1111"] = a1111(encoder, one["model"], ids, weights).flatten()[::STRIDE].numpy()
        if one["model"] == "sdxl":
            arrays[f"{k}.pooled"] = encoder(torch.from_numpy(ids[:1])).text_embeds[0].numpy()
        # compel breaks chunks where they are full, whatever stands there
        one["compel"] = one["compel"] and (len(ids) == 1 or "," not in one["text"])
        if one["compel"]:
            arrays[f"{k}.compel"] = by_compel(provider, runs).flatten()[::STRIDE].numpy()
    write_arrays(GOLDEN / "prompts.safetensors", arrays)
    (GOLDEN / "prompts.json").write_text(json.dumps(listed, ensure_ascii=False, indent=0) + "\n")


if __name__ == "__main__":
    main()
