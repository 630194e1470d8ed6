"""What people might type for a scene, in English and Korean."""

from backgrounds import COLOURS

# key: (english place phrases, korean place phrases (adjectival), english landscapes, korean landscapes)
SCENERY = {
    "countryside": (
        [
            "in the countryside",
            "in a green field",
            "in a green field under a blue sky",
            "under a blue sky",
            "on the grass",
        ],
        ["시골의", "푸른 하늘 아래의", "초원의", "풀밭 위의", "푸른 들판의"],
        [
            "a peaceful countryside landscape under a blue sky",
            "the countryside under a blue sky",
            "a green field under a blue sky",
            "a peaceful rural landscape",
            "rolling green hills",
            "countryside",
            "a farm in the countryside",
        ],
        [
            "푸른 하늘 아래 평화로운 시골 풍경",
            "시골 풍경",
            "평화로운 시골 풍경",
            "푸른 하늘 아래 시골 마을",
            "푸른 하늘과 초록 들판",
            "푸른 초원",
            "평화로운 시골 마을",
        ],
    ),
    "night": (
        ["at night", "under a starry night sky", "under the stars"],
        ["밤하늘 아래의", "별이 빛나는 밤의", "한밤의"],
        ["a starry night sky", "the night sky with stars and a moon", "a night landscape"],
        ["별이 빛나는 밤하늘", "밤하늘 풍경", "별과 달이 있는 밤"],
    ),
    "sea": (
        ["on the sea", "on the ocean", "in the sea"],
        ["바다의", "바다 위의", "푸른 바다의"],
        ["the sea", "a blue ocean", "the open sea under a blue sky", "a seascape"],
        ["바다 풍경", "푸른 바다", "넓은 바다"],
    ),
    "beach": (
        ["on the beach", "on a sandy beach", "at the beach"],
        ["해변의", "해변에 있는", "바닷가의"],
        ["a beach", "a sandy beach with the sea", "a sunny beach"],
        ["해변 풍경", "모래 해변", "바닷가 풍경"],
    ),
    "desert": (
        ["in the desert", "in a desert", "on the sand dunes"],
        ["사막의", "사막에 있는", "모래 언덕의"],
        ["a desert", "desert sand dunes", "a desert landscape"],
        ["사막 풍경", "사막", "모래 언덕"],
    ),
    "snow": (
        ["in the snow", "on snow", "in winter"],
        ["눈밭의", "눈 위의", "겨울의", "눈 속의"],
        ["a snowy landscape", "snow in winter", "a winter landscape"],
        ["눈 내리는 풍경", "겨울 풍경", "눈 덮인 들판"],
    ),
    "mars": (
        ["on mars", "on Mars", "on the red planet", "on the planet mars"],
        ["화성의", "화성 위의", "화성에 있는", "붉은 행성의"],
        ["the surface of mars", "mars", "a red planet landscape", "a landscape on mars"],
        ["화성 풍경", "화성의 표면", "붉은 행성"],
    ),
    "moonland": (
        ["on the moon", "on the surface of the moon"],
        ["달 위의", "달 표면의", "달에 있는"],
        ["the surface of the moon", "a moon landscape"],
        ["달 표면", "달 표면 풍경"],
    ),
    "forest": (
        ["in a forest", "in the forest", "in the woods"],
        ["숲속의", "숲의", "숲에 있는"],
        ["a forest", "a green forest", "trees in the woods"],
        ["숲 풍경", "숲속", "푸른 숲"],
    ),
    "sunset": (
        ["at sunset", "in front of a sunset", "in the sunset"],
        ["노을 아래의", "석양의", "해 질 녘의"],
        ["a sunset", "a beautiful sunset", "sunset landscape"],
        ["노을 풍경", "아름다운 석양", "해 질 녘 풍경"],
    ),
    "city": (
        ["in a city", "in the city", "in front of skyscrapers"],
        ["도시의", "도시에 있는", "빌딩 앞의"],
        ["a city", "a city skyline", "skyscrapers in a city"],
        ["도시 풍경", "도시", "고층 빌딩"],
    ),
    "underwater": (
        ["underwater", "under the sea", "under water"],
        ["물속의", "바닷속의"],
        ["an underwater scene", "the bottom of the sea"],
        ["바닷속 풍경", "물속"],
    ),
    "space": (
        ["in space", "in outer space", "among the planets"],
        ["우주의", "우주 공간의", "우주에 있는"],
        ["outer space", "space with planets and stars"],
        ["우주 풍경", "우주 공간"],
    ),
    "mountain": (
        ["in the mountains", "in front of a mountain", "in front of mountains"],
        ["산의", "산 앞의", "산속의"],
        ["a mountain", "snowy mountains", "a mountain landscape"],
        ["산 풍경", "눈 덮인 산", "높은 산"],
    ),
    "room": (
        ["in a room", "in the living room", "at home"],
        ["방 안의", "거실의", "집 안의"],
        ["a room", "a living room"],
        ["방 안", "거실"],
    ),
    "white": (
        ["on a white background", "isolated on white", "on white"],
        ["흰 배경의", "하얀 배경의", "흰색 배경의"],
        ["a white background"],
        ["하얀 배경"],
    ),
}
for c, (_, ko) in COLOURS.items():
    SCENERY["plain " + c] = (
        [f"on a {c} background", f"on {c}"],
        [f"{ko} 배경의", f"{ko}색 배경의"],
        [f"a {c} background"],
        [f"{ko} 배경"],
    )
BACKGROUNDS = list(SCENERY)


def batchim(word):
    """True when a Korean word ends in a final consonant (it selects the particles 을/를 and 과/와)."""
    o = ord(word[-1]) - 0xAC00
    return 0 <= o < 11172 and o % 28 != 0


class Names:
    """Names of the objects; World fills name (emoji: English names, Korean names) and plural."""

    def en(self, e, r):
        n = r.choices(self.name[e][0], [3, 2, 1][: len(self.name[e][0])])[0]
        if n in self.plural:
            return r.choice(["", "", "some "]) + n
        u = r.random()
        if u < 0.14:
            return n
        if u < 0.24:
            return "the " + n
        return ("an " if n[0].lower() in "aeiou" and not n.startswith("UFO") else "a ") + n

    def ko(self, e, r):
        return r.choices(self.name[e][1], [3, 2, 1][: len(self.name[e][1])])[0]

    def caption(self, spec, r, korean=None, show_bg=None):
        korean = r.random() < 0.4 if korean is None else korean
        t, b, es = spec["type"], spec["bg"], [o[0] for o in spec["objs"]]
        show = show_bg if show_bg is not None else r.random() < (0.5 if b == "white" else 0.95)
        pe, pk, le, lk = SCENERY[b]
        if korean:
            n = [self.ko(e, r) for e in es]
            p = r.choice(pk)
            loc = (
                p[:-1].rstrip() + r.choice(["에서", "에서"])
                if p.endswith("의") and b not in ("night", "sunset") and not p.endswith("아래의") and "배경" not in p
                else p
            )
            if t == "land":
                s = r.choice(lk)
                return s + r.choice(["", "", "", "", " 사진", " 그림"])
            if t == "single":
                s = n[0]
                if r.random() < 0.12:
                    s = r.choice(["귀여운", "예쁜", "멋진"]) + " " + s
            elif t == "two":
                s = f"{n[0]}{'과' if batchim(n[0]) else '와'} {n[1]}"
            elif t == "stack":
                s = f"{n[1]} 위의 {n[0]}" if r.random() < 0.6 else f"{n[1]} 위에 있는 {n[0]}"
            else:
                s = f"{n[1]}{'을' if batchim(n[1]) else '를'} {r.choice(['타는', '탄', '타고 있는'])} {n[0]}"
            if show:
                s = f"{loc if t == 'ride' and r.random() < 0.6 else p} {s}"
            return s + r.choice(["", "", "", " 사진", " 그림", "의 사진", " 일러스트"])
        if t == "land":
            s = r.choice(le)
        else:
            n = [self.en(e, r) for e in es]
            if t == "single":
                s = n[0]
                if r.random() < 0.12 and s.startswith(("a ", "an ")):
                    s = "a " + r.choice(["cute", "beautiful", "cool", "nice"]) + " " + s.split(" ", 1)[1]
            elif t == "two":
                s = n[0] + r.choice([" and ", " and ", " next to ", " beside ", " with "]) + n[1]
            elif t == "stack":
                s = (
                    n[0] + r.choice([" above ", " on top of ", " over "]) + n[1]
                    if r.random() < 0.7
                    else n[1] + r.choice([" below ", " under "]) + n[0]
                )
            else:
                s = n[0] + r.choice([" riding ", " riding ", " riding ", " riding on "]) + n[1]
            if show:
                s += " " + r.choice(pe)
        s = (
            r.choice(
                [
                    "",
                    "",
                    "",
                    "a photo of ",
                    "a photo of ",
                    "a picture of ",
                    "a drawing of ",
                    "an image of ",
                    "an illustration of ",
                    "a painting of ",
                ]
            )
            + s
        )
        s += r.choice([""] * 14 + [", high quality", ", detailed", "."])
        u = r.random()
        return s.lower() if u < 0.4 else s[0].upper() + s[1:] if u < 0.7 else s
