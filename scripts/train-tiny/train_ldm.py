#!/usr/bin/env python3
"""Trains the CLIP text encoder and the U-Net on cached latents of composed scenes, then saves a
StableDiffusionPipeline folder in fp16.  Needs the VAE of train_vae.py in --work.

First the text encoder alone learns, for --text-minutes, to tell what a caption says (objects, background, kind of
scene), read off by linear heads at and after the end token; then it trains on with the U-Net, the heads kept at a
small weight.  Only the tokens that occur in captions are trained; all others share one "unknown word" vector, which
captions also receive at random so that unknown words do no harm.
The U-Net predicts v; the loss weighs x0 by min(SNR + 1, 5): min-SNR alone gives the noisy steps, where the picture
follows the text, almost no weight.
Resumable: --work/ldm.ckpt holds weights, EMA, optimiser and the minutes spent; run again to go on, with a larger
--minutes to train longer, with --minutes 0 to export the checkpoint as it is.
"""

import argparse, os, time
import numpy as np, torch, torch.nn.functional as F
from diffusers import StableDiffusionPipeline
import workers
from pipeline import export, generate, make_text, make_unet
from pool import KINDS, Batches, build_pool
from scenes import BACKGROUNDS, sheet

PROMPTS = [
    "A photo of an astronaut riding a horse on mars",
    "푸른 하늘 아래 평화로운 시골 풍경",
    "a photo of a cat",
    "사막의 고양이",
    "a castle on the beach",
    "a dog and a pizza in the snow",
    "a panda riding a bicycle in the city",
    "a starry night sky",
    "red heart on a white background",
    "숲속의 여우",
    "a robot in space",
    "말을 타는 공주",
    "바다 위의 돛단배",
    "a penguin next to a snowman",
    "an elephant in the desert",
    "별과 선물",
    "a guitar at sunset",
    "a butterfly in the forest",
]


class Model(torch.nn.Module):
    def __init__(self, a, vocab, classes):
        super().__init__()
        self.text, self.unet = make_text(a, vocab), make_unet(a)
        torch.nn.init.normal_(self.text.get_input_embeddings().weight, std=0.02)
        self.classes = [classes, classes, len(BACKGROUNDS), len(KINDS)]
        self.heads = torch.nn.Linear(a.hidden, sum(self.classes))

    def read(self, h, tokens, labels, eos):
        """Cross-entropy of what the caption says, from the end token and three positions of the padding after it: the
        padding outnumbers the words in cross-attention, so it had better carry the meaning."""
        end, n = (tokens == eos).int().argmax(1), tokens.shape[1]
        pos = torch.cat(
            [
                end[:, None],
                (end[:, None] + (torch.rand(len(tokens), 3, device=h.device) * (n - end[:, None])).long()).clamp(
                    max=n - 1
                ),
            ],
            1,
        )
        z = (
            self.heads(torch.gather(h, 1, pos[..., None].expand(-1, -1, h.shape[-1])).flatten(0, 1))
            .float()
            .split(self.classes, 1)
        )
        keep = (end > 1).repeat_interleave(4)
        return sum(F.cross_entropy(q[keep], labels[:, i].repeat_interleave(4)[keep]) for i, q in enumerate(z))


def warm_start(model, folder, used):
    """Text encoder and U-Net of an earlier pipeline of the same shape; unused token rows hold its unknown word."""
    pipe = StableDiffusionPipeline.from_pretrained(folder, torch_dtype=torch.float32, safety_checker=None)
    text, key = (
        pipe.text_encoder.state_dict(),
        next(k for k in model.text.state_dict() if k.endswith("token_embedding.weight")),
    )
    rows = text[key]
    unknown = rows.mode(0).values  # the row that most tokens share
    text[key] = torch.cat([unknown[None], rows[used]])
    model.text.load_state_dict(text)
    model.unet.load_state_dict(pipe.unet.state_dict())


def train_text(rank, a, model, pool, table):
    """The text encoder and the heads alone (with --init only the heads), on captions cut to 40 positions."""
    make, clock, step, acc = Batches(pool, table), workers.Clock(0.0, a.text_minutes), 0, 0.0
    opt = torch.optim.AdamW(
        [*([] if a.init else model.text.parameters()), *model.heads.parameters()], betas=(0.9, 0.99), weight_decay=0.01
    )
    while clock.share < 1:
        for g in opt.param_groups:
            g["lr"] = clock.cosine(1e-2 if a.init else 1.5e-3, 100, step)
        i, tokens = make.captions(64)
        tokens, labels = tokens[:, :40].to(workers.DEVICE), make.labels[i].to(workers.DEVICE)
        with torch.autocast(workers.DEVICE, torch.bfloat16):
            loss = model.read(model.text(input_ids=tokens).last_hidden_state, tokens, labels, make.eos)
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.text.parameters(), 1.0)
        opt.step()
        step += 1
        acc += loss.item()
        if step % 100 == 0 and rank == 0:
            print(
                f"text {clock.spent:.1f}/{a.text_minutes:g} min caption CE {acc / 100:.3f}",
                f"{step * 64 / clock.spent / 60:.0f} captions/s a worker",
                flush=True,
            )
            acc = 0.0


def train(rank, a, model, ema, counts, resume, pool, table, used):
    make, before = Batches(pool, table), counts.sum().item()
    torch.manual_seed(rank + 2 * int(before))  # a resumed run goes on to other samples
    opt = torch.optim.AdamW(model.parameters(), lr=a.lr, betas=(0.9, 0.99), weight_decay=0.01, fused=True)
    if resume and resume["opt"]:
        opt.load_state_dict(resume["opt"])
    clock, log = workers.Clock(resume["spent"] if resume else 0.0, a.minutes), resume["log"] if resume else []
    clock.origin = clock.spent if a.warm_restart else 0.0
    unet = torch.compile(model.unet) if a.compile else model.unet
    step, mark, saved, shown = 0, time.time(), time.time(), clock.spent
    acc = np.zeros(3)
    while clock.share < 1:
        for g in opt.param_groups:
            g["lr"] = clock.cosine(a.lr, 150, step)
        x, t, tokens, v, weight, labels, mask = make(a.batch)
        with torch.autocast(workers.DEVICE, torch.bfloat16):
            h = model.text(input_ids=tokens).last_hidden_state
            ce = model.read(h, tokens, labels, make.eos)
            err = (unet(x, t, encoder_hidden_states=h).sample.float() - v).pow(2).mean(1)
        loss = ((err * (1 + a.object_weight * mask)).mean((1, 2)) * weight).mean() / (1 + 0.3 * a.object_weight)
        opt.zero_grad()
        (loss + a.aux * ce).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        step += 1
        counts[rank] += len(x)
        if rank:
            continue
        torch._foreach_lerp_(ema, [p.detach() for p in model.parameters()], 1 - min(a.ema, (1 + step) / (10 + step)))
        acc += [
            (err.mean((1, 2)) * weight).mean().item(),
            ((err * mask).sum((1, 2)) * weight).sum().item() / mask.sum().item(),
            ce.item(),
        ]
        if step % 50 == 0:
            now, seen = time.time(), counts.sum().item()
            rate = (seen - before) / (now - mark)
            mark, before = now, seen
            log.append([int(seen), round(clock.spent, 2), *(acc / 50).tolist(), rate, opt.param_groups[0]["lr"]])
            print(
                f"ldm {clock.spent:.1f}/{a.minutes:g} min seen {int(seen)} loss {acc[0] / 50:.4f}",
                f"objects {acc[1] / 50:.4f} caption CE {acc[2] / 50:.3f} {rate:.1f} samples/s lr {log[-1][-1]:.1e}",
                flush=True,
            )
            acc *= 0
        if time.time() - saved > 180 or clock.share >= 1:
            workers.save(
                dict(
                    model=model.state_dict(),
                    ema=ema,
                    opt=opt.state_dict(),
                    spent=clock.spent,
                    seen=counts.sum().item(),
                    log=log,
                ),
                os.path.join(a.work, "ldm.ckpt"),
            )
            saved = time.time()
        if clock.spent - shown > a.sample_every:
            shown = clock.spent
            show(a, export(a, model, ema, used, ""), int(shown))


def show(a, pipe, minutes):
    sheet(
        list(generate(pipe, PROMPTS)),
        PROMPTS,
        os.path.join(a.work, f"samples_{minutes:03d}min.png"),
        fonts=[a.text_font],
    )


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--font", required=True)
    ap.add_argument("--cldr", required=True)
    ap.add_argument("--work", required=True)
    ap.add_argument("--tokenizer", required=True, help="folder with CLIP's vocab.json and merges.txt")
    ap.add_argument("--out", required=True)
    ap.add_argument("--minutes", type=float, default=50)
    ap.add_argument("--text-minutes", type=float, default=3)
    ap.add_argument("--batch", type=int, default=32)
    ap.add_argument("--lr", type=float, default=8e-4)
    ap.add_argument("--pool", type=int, default=32768)
    ap.add_argument("--captions", type=int, default=6)
    ap.add_argument("--hidden", type=int, default=96)
    ap.add_argument("--layers", type=int, default=4)
    ap.add_argument("--heads", type=int, default=4)
    ints = lambda s: tuple(int(v) for v in s.split(","))
    ap.add_argument("--ch", type=ints, default=(96, 128, 160))
    ap.add_argument("--attn", type=ints, default=(0, 1, 1))
    ap.add_argument("--object-weight", type=float, default=4)
    ap.add_argument("--aux", type=float, default=0.02)
    ap.add_argument("--ema", type=float, default=0.997)
    ap.add_argument("--warm-restart", action="store_true", help="begin a new learning-rate cosine at the checkpoint")
    ap.add_argument("--compile", action="store_true")
    ap.add_argument("--sample-every", type=float, default=10)
    ap.add_argument("--text-font", default="")
    ap.add_argument("--init", default="", help="a pipeline folder of the same shape to go on from")
    ap.add_argument("--workers", type=int, default=os.cpu_count())
    a = ap.parse_args()
    torch.manual_seed(0)
    pool = build_pool(a)
    a.latent_channels = pool["latents"].shape[1]
    used = torch.unique(pool["ids"].long())
    table = torch.zeros(49408, dtype=torch.long)
    table[used] = torch.arange(1, len(used) + 1)
    model = Model(a, len(used) + 1, int(pool["labels"][:, 0].max()) + 1)
    if a.init:
        warm_start(model, a.init, used)
    for name in ("text", "unet"):
        print(name, f"{sum(p.numel() for p in getattr(model, name).parameters()) / 1e6:.2f} M parameters", flush=True)
    print(
        "latents",
        tuple(pool["latents"].shape),
        f"std {pool['latents'].float().std():.3f}",
        "tokens used",
        len(used),
        flush=True,
    )
    model, resume = workers.share(model), workers.load(os.path.join(a.work, "ldm.ckpt"))
    pool = {k: v.share_memory_() for k, v in pool.items()}
    if resume:
        model.load_state_dict(resume["model"])
    elif a.text_minutes:
        workers.launch(train_text, a.workers, a, model, pool, table)
        workers.save(
            dict(
                model=model.state_dict(),
                ema=[p.detach() for p in model.parameters()],
                opt=None,
                spent=0.0,
                seen=0,
                log=[],
            ),
            os.path.join(a.work, "ldm.ckpt"),
        )
    ema = [e.detach().clone().to(workers.DEVICE) for e in (resume["ema"] if resume else model.parameters())]
    ema = [e.share_memory_() for e in ema] if workers.DEVICE == "cpu" else ema
    counts = torch.zeros(max(1, a.workers), dtype=torch.float64).share_memory_()
    counts[0] = resume["seen"] if resume else 0
    if not resume or resume["spent"] < a.minutes:
        workers.launch(train, a.workers, a, model, ema, counts, resume, pool, table, used)
    show(a, export(a, model, ema, used, a.out), 0)


if __name__ == "__main__":
    main()
