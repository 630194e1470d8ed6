"""Pictures of the prompt language (see README.md): what each step is told is spelled out here, and diffusers' networks and
schedulers draw it.

    prompt_pictures_golden.py

Writes to tests/data/golden:
    prompts.pictures.json           the requests
    prompts.pictures.safetensors    NAME: uint8 [height, width, 3]; NAME.latents: the final latents, as pictures.json
"""
import json

import torch

from families_golden import build_pipeline as build_family
from make_golden import GOLDEN, MODELS, build_pipeline, make_scheduler, randn, write_arrays
from prompt_golden import a1111, chunks, weighted

LONG = "a very detailed oil painting of a lighthouse, " * 9 + "with a (red:1.4) roof"
WIDTH, HEIGHT = 72, 56

# name, model, sampler, request; `told`: at each step the parts, (weight, text for the first encoder, for the second)
CASES = [
    ("weights", "sd1", "ddim", {"prompt": "a (red:1.5) [fox] in the snow", "negative_prompt": "(blurry)", "steps": 3}, None),
    ("chunks", "sd1", "ddim", {"prompt": LONG, "negative_prompt": "low quality", "steps": 3}, None),
    ("negative chunks", "sd1", "euler", {"prompt": "a fox BREAK in the snow", "negative_prompt": LONG, "steps": 3}, None),
    ("schedule", "sd1", "ddim", {"prompt": "a [cat:dog:2] on mars", "steps": 5},
     [[(1, "a cat on mars")]] * 3 + [[(1, "a dog on mars")]] * 2),
    ("share and alternation", "sd1", "euler", {"prompt": "[a|b] [::0.5][snow:0.5] ", "steps": 4},
     [[(1, "a  ")], [(1, "a  ")], [(1, "b  ")], [(1, "a snow ")]]),
    ("composition", "sd1", "ddim", {"prompt": "a cat AND a (dog) :0.6 AND rain:-0.2", "negative_prompt": "blurry", "steps": 3},
     [[(1, "a cat"), (0.6, "a (dog)"), (-0.2, "rain")]] * 3),
    ("xl", "sdxl", "ddim", {"prompt": "a (red:1.5) fox", "prompt_2": LONG, "negative_prompt": "[blurry]", "steps": 3},
     [[(1, "a (red:1.5) fox", LONG)]] * 3),
    ("xl composition", "sdxl", "euler", {"prompt": "a [cat:fox:1] AND mars :0.5", "negative_prompt": "", "steps": 4},
     [[(1, "a cat"), (0.5, "mars")]] * 2 + [[(1, "a fox"), (0.5, "mars")]] * 2),
]
CFG = 6.0


class Texts:
    """Embeddings of a model: AUTOMATIC1111's weights for each encoder by itself, the shorter text filled up."""

    def __init__(self, pipe, model: str):
        self.model, self.pipe = model, pipe
        self.encoders = [(pipe.text_encoder, pipe.tokenizer)]
        if model == "sdxl":
            self.encoders.append((pipe.text_encoder_2, pipe.tokenizer_2))

    def states(self, texts, length: int) -> torch.Tensor:
        sides = []
        for (encoder, tokenizer), text in zip(self.encoders, texts):
            states = a1111(encoder, self.model, *chunks(tokenizer, weighted(text)))
            empty = a1111(encoder, self.model, *chunks(tokenizer, weighted("")))
            sides.append(torch.cat([states] + [empty] * ((length - states.shape[1]) // 77), 1))
        return torch.cat(sides, -1)

    def length(self, texts) -> int:
        return max(77 * len(chunks(tokenizer, weighted(text))[0]) for (_, tokenizer), text in zip(self.encoders, texts))

    def pooled(self, texts) -> torch.Tensor:
        encoder, tokenizer = self.encoders[-1]
        return encoder(torch.from_numpy(chunks(tokenizer, weighted(texts[1]))[0][:1])).text_embeds


def both(part) -> tuple:
    return (part[1], part[2] if len(part) > 2 else part[1])


def draw(pipe, model: str, sampler: str, request: dict, told, seed: int):
    texts = Texts(pipe, model)
    told = told or [[(1, request["prompt"])]] * request["steps"]
    negative = (request.get("negative_prompt", ""),) * 2
    length = max([texts.length(negative)] + [texts.length(both(part)) for step in told for part in step])
    scheduler = make_scheduler(MODELS / model, sampler)
    scheduler.set_timesteps(request["steps"])
    factor = pipe.vae_scale_factor
    x = randn(1, 4, HEIGHT // factor, WIDTH // factor, seed=seed) * scheduler.init_noise_sigma
    more = {"eta": 0.0} if sampler == "ddim" else {}
    for parts, t in zip(told, scheduler.timesteps, strict=True):
        seen = scheduler.scale_model_input(x, t)

        def predict(pair):
            extra = {}
            if model == "sdxl":
                sizes = torch.tensor([[HEIGHT, WIDTH, 0, 0, HEIGHT, WIDTH]], dtype=torch.float32)
                extra["added_cond_kwargs"] = {"text_embeds": texts.pooled(pair), "time_ids": sizes}
            return pipe.unet(seen, t, texts.states(pair, length), **extra).sample

        away = predict(negative)
        noise = away + CFG * sum(part[0] * (predict(both(part)) - away) for part in parts)
        x = scheduler.step(noise, t, x, **more).prev_sample
    picture = pipe.vae.decode(x / pipe.vae.config.scaling_factor).sample
    return x, ((picture / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)[0].permute(1, 2, 0)


@torch.no_grad()
def main():
    pipes = {"sd1": build_pipeline(MODELS / "sd1"), "sdxl": build_family("sdxl")}
    arrays, listed = {}, []
    for i, (name, model, sampler, request, told) in enumerate(CASES):
        latents, picture = draw(pipes[model], model, sampler, request, told, seed=i)
        arrays[name], arrays[f"{name}.latents"] = picture.numpy(), latents.numpy()
        listed.append({"name": name, "model": model, "sampler": sampler, "seed": i, "cfg_scale": CFG, "width": WIDTH,
                       "height": HEIGHT, **request})
    write_arrays(GOLDEN / "prompts.pictures.safetensors", arrays)
    (GOLDEN / "prompts.pictures.json").write_text(json.dumps(listed, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
