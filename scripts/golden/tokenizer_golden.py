"""Reference data of tests/text/tokenizer_test.cpp, by transformers' CLIPTokenizer: tests/data/golden/tokenizer.jsonl.

    tokenizer_golden.py

One JSON object a line:
    {"text", "ids"}                    the ids of the text, without specials, uncut
    {"text", "ids", "cut"}             the same of a text longer than 75 tokens; "cut" is what a diffusers pipeline says it cut
    {"decode", "text"}                 ids → text
    {"files", "max_length", "pad", "cases"}
                                       a tokenizer folder with the published vocabulary and these files beside it

Random characters are those assigned in Unicode 14, the version of Python 3.11's unicodedata (so all of Unicode 13). No
string is left out: utf8proc 2.8 knows Unicode 15, the reference's tables of classes and cases are newer, and src/text
follows its older table of compositions.
"""
import json
import random
import shutil
import sys
import tempfile
import unicodedata
from pathlib import Path

from transformers import CLIPTokenizer

REPOSITORY = Path(__file__).resolve().parents[2]
TOKENIZER = REPOSITORY / "models/easel-tiny/tokenizer"
GOLDEN = REPOSITORY / "tests/data/golden/tokenizer.jsonl"
BOS, EOS = "<|startoftext|>", "<|endoftext|>"

# Every kind of character that is or looks like white space: \s, then what is not.
SPACES = [chr(c) for c in (0x20, 0x09, 0x0A, 0x0B, 0x0C, 0x0D, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029,
                           0x202F, 0x205F, 0x3000)]
NO_SPACES = [chr(c) for c in (0x1C, 0x1D, 0x1E, 0x1F, 0x180E, 0x200B, 0x200C, 0x200D, 0x2060, 0xFEFF, 0x00, 0x08, 0x7F)]

TRICKY = [
    "", " ", "\t\n", "a", "A", ".", "7", "\0", "a\0b", " leading and trailing ",
    # contractions, at the start of words, in capitals, with the other apostrophe, and swallowed by a run of signs
    "don't", "DON'T", "I'm you're he's we've they'll she'd", "I'M YOU'RE HE'S WE'VE THEY'LL SHE'D", "'tis 'twas 'more 'dare",
    "rock'n'roll", "''s", "!'s", "x's's", "'s", "'", "'re'", "don’t it’s", "l'été d'or", "'ſ", "'S", "o'lly 'l 'v 'r", "'lll",
    # digits one by one, numbers that are no digits
    "1234567890", "3.14159", "1,000,000", "a1b22c333", "½¼¾", "x²y³", "٣٤٥", "१२३", "Ⅷ ⅷ", "①②③", "〇一二", "𝟘𝟙", "1st 2nd",
    # special tokens inside the text and what looks like them
    BOS, EOS, BOS + EOS, f"a{EOS}b", f"a {EOS} b", f"  {EOS}  ", EOS * 3, BOS.upper(), EOS.upper(), f"a{EOS.upper()}!!",
    f"!!{EOS.upper()}!!", f"!!{BOS.upper()}!!", f"!!{BOS}!!", f"{EOS.upper()}{EOS.upper()}", "<|StartOfText|>é", "<|EndOfText|>é",
    "<|<|startoftext|>", "<|startoftext|", "|startoftext|>", "< |startoftext|>", "<|start\u200boftext|>", "<|startoftext |>",
    "<|endoftext|>'s", "<|ENDOFTEXT|>'s", "e<|endoftext|>\u0301", "e<|startoftext|>\u0301", "<|startoftext|>\u0301",
    "<|endoftext|>\u0301", "<|ſtartoftext|>", "<|K|>", "</w>", "a</w>b", "Ġ", "Ġhello", "<unk>", "<pad>", "[PAD]",
    # lower case: two characters from one, no final sigma, capitals that leave their script or block
    "İstanbul", "I ı i İ", "ΑΣ ΟΔΥΣΣΕΥΣ", "ẞ ß", "Ǆ ǅ ǆ", "K Å Ω", "Ꭰ ꭰ Ᏸ", "Ა ა", "𐐀𐐨", "ΐ Ϊ́", "ﬁ ﬀ", "Ⅷ Ⓐ ⓐ", "𝐀𝔸", "Ａｂｃ",
    # NFC: composed, decomposed, reordered, excluded from composition, singletons
    "é", "e\u0301", "\u0301e", "\u0301", "a\u0323\u0302 a\u0302\u0323", "ệ", "\u1e9b\u0323", "ö" + "o\u0308", "\u212b\u2126\u212a",
    "\u0915\u093c \u0958", "\ufb1d \u05d9\u05b4", "\u2adc \u2add\u0338", "\u0344 \u0308\u0301", "\u0340\u0341\u0343", "\u0374 \u037e \u0387",
    "\u1100\u1161\u11a8", "\u1100\u1161", "\u1100 \u1161", "\uac00\u11a8", "\uac01\u11a8", "\u1112\u1161\u11ab\u1100\u1173\u11af",
    "\u3131\u314f", "\ua960\u1161\ud7cb", "\uf900\ufa0e \u2f800", "\u0f73\u0f75\u0f81", "\U0001d15e\U0001d165", "\U00011099\U000110ba",
    "a\u0315\u0300\u05ae\u0300\u0062", "q\u0307\u0323", "Z" + "\u0335\u0322\u031b\u0345" * 8,
    # emoji: joined, toned, flags, key caps, variation selectors, text presentation
    "👨‍👩‍👧‍👦", "👩🏽‍🚀", "🏴‍☠️", "🏳️‍🌈", "🇰🇷🇯🇵", "🇰", "1️⃣ #️⃣", "❤️ ❤ ☺︎", "🤷🏿‍♀️", "🫠🫡", "🐱🚀🌈", "a🐱b", "🏴\U000e0067\U000e0062\U000e007f", "👍👍👍",
    # control, format and private characters, the ends of the ranges
    "\x01\x02\x1b[0m", "a\u200db", "\u202eabc\u202c", "a\u00adb", "\ufeffBOM", "\ue000\uf8ff", "\U000f0000\U0010fffd", "\ufffd\ufffe\uffff",
    "\U0010ffff", "\u07ff\u0800", "\ud7ff\ue000", "\U0001ffff\U00020000", "\x7f\x80\x81\x9f",
    # prompt languages: plain characters for this tokenizer
    "(a:1.2), [b], ((c)), {d|e}, <lora:x:0.5>, BREAK, AND", "masterpiece, best quality, 8k, --ar 16:9 --v 5", "a\\(b\\)", "C++/C#/F#",
    "https://example.org/a?b=c&d=%20", "user@example.org", "C:\\Users\\x", "#hashtag @mention", "snake_case CamelCase kebab-case",
    "_x_ __y__", "£5 €6 $7 ¥8", "50% ½% 3½", "a…b", "a—b–c-d", "«guillemets» „Gänsefüßchen“", "¿Qué? ¡Ya!", "1+1=2 ≠ 3", "∀x∈ℝ",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "hahahahahahahahahahaha", "pneumonoultramicroscopicsilicovolcanoconiosis",
    "Donaudampfschifffahrtsgesellschaftskapitän", "!!!!!!!!!!!!!!!!", "................", "?!?!?!", "ab" * 40, "\u0e01" * 20,
]

PROMPTS = [
    "a photo of an astronaut riding a horse on mars", "A detailed oil painting of a lighthouse at dusk, by Vermeer",
    "cinematic still, 35mm film, f/1.8, golden hour", "portrait of a woman with freckles, soft light, bokeh",
    "low-poly isometric castle, pastel colours", "ein Foto von einem Hund im grünen Gras", "Überraschung: schöne Straßen in Köln",
    "une photo d'un château près de l'océan, été", "un gato negro sobre el tejado, año nuevo", "fotografia de um pássaro à beira-mar",
    "un piccolo caffè a Città di Castello", "een molen in de polder bij zonsondergang", "fjällräven i snön, blåbär och ål",
    "et rødt hus ved fjorden, sømand", "punainen mökki järven rannalla", "lítið hús á Íslandi, þoka og æður", "žlutý kůň běží po louce",
    "źdźbło trawy, jabłoń i gęś", "egy hűvös őszi reggel Tihanyban", "o pădure în ceață, țară și șosea", "İstanbul'da güneşli bir gün, çay",
    "Фото астронавта на лошади", "Зелене поле під синім небом, їжак", "Жълта къща в Пловдив", "Μια φωτογραφία μιας γάτας στην Αθήνα",
    "צילום של חתול על הגג", "שָׁלוֹם", "صورة لقطة على السطح", "عَرَبِيّ ١٢٣", "عکس یک اسب سفید در کوهستان", "بلی کی تصویر", "एक बाग में बाघ की तस्वीर",
    "একটি নৌকার ছবি", "ஒரு யானையின் படம்", "ఒక పువ్వు చిత్రం", "ಒಂದು ಹೂವಿನ ಚಿತ್ರ", "ഒരു ആനയുടെ ചിത്രം", "සිංහල අකුරු", "ภาพถ่ายของแมวบนหลังคา",
    "ຮູບພາບຂອງແມວ", "ရွှေရောင် ဘုရား", "រូបភាពឆ្មា", "བོད་ཡིག", "ამის ფოტო", "Հայաստանի լեռները", "የድመት ፎቶ", "монгол морь", "ᠮᠣᠩᠭᠣᠯ",
    "푸른 하늘 아래 평화로운 시골 풍경", "한글과 漢字를 섞은 문장", "富士山と桜の写真", "カタカナとひらがな、ﾊﾝｶｸ", "夜の東京、ネオン、雨", "一只猫坐在窗台上", "水墨畫，山與雲",
    "龍飛鳳舞 𠮷野家", "một con mèo trên mái nhà", "Hà Nội mùa thu, phở", "isang pusa sa bubong", "seekor kucing di atap", "paka juu ya paa",
    "ìyàwó àti ọkọ", "he pōpoki ma luna o ka hale", "ngeru i runga i te tuanui", "ᐃᓄᒃᑎᑐᑦ", "ᎠᏂᏴᏫᏯ", "ߒߞߏ", "Esperanto: ĉevalo ŝi ĝardeno", "𐌲𐌿𐍄𐌹𐍃𐌺", "𝓯𝓪𝓷𝓬𝔂",
]

DECODES = [[], [0], [49406, 320, 49407], [49407, 49407], [128, 320], [320, 128], [256 + 128], [49408], [-1 + 2**31], [1, 2, 3], [222, 223, 224, 225],
           list(range(188, 256)), list(range(444, 512))]


def mark_texts() -> list[str]:
    """Every combining mark between two that would change places with it, had it no class in the reference's tables
    (Unicode 9's) as in ours; and a pair that composes since Unicode 13."""
    marks = [chr(c) for c in range(0x110000) if unicodedata.combining(chr(c))]
    probes = [f"x\u0345{mark}\u0334" for mark in marks]
    return ["".join(probes[i : i + 4]) for i in range(0, len(probes), 4)] + ["\U00011935\U00011930\u0301", "\U00011938"]


def random_texts(rng: random.Random) -> list[str]:
    assigned = [chr(c) for c in range(0x110000) if unicodedata.category(chr(c)) not in ("Cn", "Cs", "Co")]
    common = [c for c in assigned if ord(c) < 0x3000]
    marks = [c for c in assigned if unicodedata.combining(c)]
    cased = [c for c in assigned if c.lower() != c or c.upper() != c]
    composing = [c for c in assigned if unicodedata.decomposition(c)]
    jamo = [chr(c) for c in (*range(0x1100, 0x1200), *range(0xA960, 0xA97D), *range(0xD7B0, 0xD7C7))]
    emoji = [c for c in assigned if unicodedata.category(c) == "So" and ord(c) > 0x2600]
    joins = ["\u200d", "\ufe0f", "\u20e3", "\U0001f3fd"]
    words = [w for p in PROMPTS for w in p.split()]
    pieces = ["'s", "'T", "'ll", "'", BOS, EOS, "<|", "|>", "startoftext", "EndOfText", BOS.upper(), "!", "...", "7", "42", "a", "B", "é", " ", "  ", "\u3000", "\0"]

    def pick(pool: list[str], low: int, high: int) -> str:
        return "".join(rng.choice(pool) for _ in range(rng.randint(low, high)))

    def random_case(text: str) -> str:
        return "".join(c.upper() if rng.random() < 0.5 else c.lower() for c in text)

    kinds = [
        (600, lambda: pick(assigned, 1, 8)),
        (300, lambda: pick(common, 2, 12)),
        (200, lambda: "".join(pick(common, 1, 1) + pick(marks, 0, 3) for _ in range(3))),
        (150, lambda: pick(cased, 2, 10)),
        (150, lambda: unicodedata.normalize("NFD", pick(composing, 1, 5))),
        (100, lambda: pick(jamo, 2, 8)),
        (150, lambda: "".join(rng.choice(emoji) + rng.choice(joins + [""]) for _ in range(rng.randint(1, 5)))),
        (200, lambda: "".join(rng.choice(words) + pick(SPACES + NO_SPACES[:6], 1, 2) for _ in range(rng.randint(1, 4)))),
        (200, lambda: random_case(" ".join(rng.choice(words) for _ in range(rng.randint(1, 4))))),
        (200, lambda: pick(pieces, 2, 8)),
        (150, lambda: pick([chr(c) for c in range(128)], 2, 20)),
        (100, lambda: pick(["a", "b", "ab", "th", "e", "ing"], 5, 20)),
    ]
    return [make() for count, make in kinds for _ in range(count)]


def long_texts(rng: random.Random) -> list[str]:
    words = " ".join(PROMPTS).split()
    return [
        " ".join(["cat"] * 75), " ".join(["cat"] * 76), " ".join(["cat"] * 77), "cat " * 74 + "🐱", "cat " * 73 + "🐱 👨‍👩‍👧 end", "7" * 90, "가" * 40,
        "x " * 75 + "\x1c\x1f", "x " * 75 + EOS + " y", "Zwölf " * 40, "!" * 2000, "ab'cd" * 40,
        *(" ".join(rng.choice(words) for _ in range(60)) for _ in range(12)),
    ]


def added(content: str, normalized: bool, typed: bool = True, **more) -> dict:
    token = {"content": content, "lstrip": False, "normalized": normalized, "rstrip": False, "single_word": False} | more
    return token | {"__type": "AddedToken"} if typed else token


def folders() -> list[dict]:
    """What published and saved tokenizer folders hold beside the vocabulary: {file name: content}."""
    config = {"do_lower_case": True, "model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    strings = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": EOS}
    typed = {"bos_token": added(BOS, True), "eos_token": added(EOS, True), "unk_token": added(EOS, True)}
    plain = {"bos_token": added(BOS, True, False), "eos_token": added(EOS, True, False), "unk_token": added(EOS, True, False)}
    decoder = {"49406": added(BOS, True, False, special=True), "49407": added(EOS, False, False, special=True)}
    ordinary = added("<Cat-Toy>", True, False, special=False)
    return [
        {},
        {"tokenizer_config.json": config | typed | {"pad_token": EOS}, "special_tokens_map.json": plain | {"pad_token": EOS}},  # SD1.x
        {"tokenizer_config.json": config | typed | {"pad_token": "!"}, "special_tokens_map.json": plain | {"pad_token": "!"}},  # SD2, SDXL's second
        {"tokenizer_config.json": config | strings},
        {"tokenizer_config.json": config, "special_tokens_map.json": strings},
        {"tokenizer_config.json": config, "special_tokens_map.json": plain | {"pad_token": added("!", False, False)}},
        {"tokenizer_config.json": config, "special_tokens_map.json": plain | {"pad_token": added("!", True, False)}},
        {"special_tokens_map.json": plain | {"pad_token": EOS}},
        {"tokenizer_config.json": config | strings | {"added_tokens_decoder": decoder}, "special_tokens_map.json": plain | {"pad_token": "!"}},
        {"tokenizer_config.json": config | strings | {"pad_token": "!", "added_tokens_decoder": {"0": added("!", False, False, special=True)} | decoder}},
        {"tokenizer_config.json": config | strings | {"added_tokens_decoder": decoder | {"49408": ordinary}}},
        {"tokenizer_config.json": config | strings | {"added_tokens_decoder": decoder | {"49408": ordinary | {"lstrip": True, "rstrip": True}}}},
        {"tokenizer_config.json": config | strings | {"added_tokens_decoder": decoder | {"49408": added("<cat", False, False), "49409": added("<cat-toy>", False, False)}}},
        {"tokenizer_config.json": config | strings, "added_tokens.json": {"<Cat-Toy>": 49408, "cat": 1481, "<foo>": 49409}},
        {"tokenizer_config.json": config | {"eos_token": added(EOS, True), "unk_token": added(EOS, False), "pad_token": added(EOS, False)}},
        {"tokenizer_config.json": config | {"eos_token": added(EOS, False), "unk_token": added(EOS, True), "pad_token": added(EOS, True)}},
        {"tokenizer_config.json": config | {"pad_token": added(EOS, False, lstrip=True, rstrip=True)}},
        {"tokenizer_config.json": config | strings | {"additional_special_tokens": ["cat</w>"]}},
        {"tokenizer_config.json": {"max_len": 66}},
        {"tokenizer_config.json": {"model_max_length": 10}},
    ]


FOLDER_TEXTS = [f"a {EOS} b{EOS.upper()}!!", f"a {BOS} b{BOS.upper()}!!", "hi! a !b !!", " x <Cat-Toy>  y<cat-toy>z", "cat cats</w>", "cat</w> x",
                "one two three four five six seven eight nine ten eleven"]


def cut_text(tokenizer: CLIPTokenizer, text: str) -> str | None:
    """As StableDiffusionPipeline.encode_prompt logs it."""
    kept = tokenizer(text, padding="max_length", max_length=tokenizer.model_max_length, truncation=True).input_ids
    uncut = tokenizer(text, padding="longest").input_ids
    if len(uncut) < len(kept) or uncut == kept:
        return None
    return tokenizer.batch_decode([uncut[tokenizer.model_max_length - 1 : -1]])[0]


def text_entry(tokenizer: CLIPTokenizer, text: str) -> dict:
    entry = {"text": text, "ids": tokenizer(text).input_ids[1:-1]}
    cut = cut_text(tokenizer, text)
    return entry if cut is None else entry | {"cut": cut}


def folder_entry(files: dict) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        for name in ("vocab.json", "merges.txt"):
            shutil.copy(TOKENIZER / name, folder)
        for name, content in files.items():
            (Path(folder) / name).write_text(json.dumps(content), encoding="utf-8")
        tokenizer = CLIPTokenizer.from_pretrained(folder)
    tokenizer.model_max_length = min(tokenizer.model_max_length, 77)  # "no limit" is 77 for the text encoder
    return {"files": files, "max_length": tokenizer.model_max_length, "pad": tokenizer.pad_token_id,
            "cases": [text_entry(tokenizer, text) for text in FOLDER_TEXTS]}


def main() -> None:
    if unicodedata.unidata_version > "15.0.0":
        sys.exit(f"unicodedata {unicodedata.unidata_version} has characters that utf8proc 2.8 (Unicode 15) does not know")
    rng = random.Random(3)
    tokenizer = CLIPTokenizer.from_pretrained(TOKENIZER)
    spaces = [f"a{c}b {c}c{c}{c}d{c}" for c in SPACES + NO_SPACES]
    texts = list(dict.fromkeys(TRICKY + PROMPTS + spaces + mark_texts() + random_texts(rng) + long_texts(rng)))
    entries = [text_entry(tokenizer, text) for text in texts]
    entries += [{"decode": ids, "text": tokenizer.batch_decode([ids])[0]} for ids in DECODES]
    entries += [folder_entry(files) for files in folders()]
    with GOLDEN.open("w", encoding="utf-8", newline="\n") as out:
        for entry in entries:
            out.write(json.dumps(entry, ensure_ascii=False, separators=(",", ":")) + "\n")
    print(f"{GOLDEN}: {len(texts)} texts, {GOLDEN.stat().st_size} bytes")


if __name__ == "__main__":
    main()
