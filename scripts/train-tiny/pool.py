"""Training data of the U-Net: a pool of scenes as latents with captions, and noisy batches drawn from it."""

import os, random, time
import numpy as np, torch
from diffusers import AutoencoderKL, DDIMScheduler
from transformers import CLIPTokenizer
import workers
from pipeline import SCHEDULE
from scenes import BACKGROUNDS, World

KINDS = ["single", "two", "stack", "ride", "land"]


def encode_scenes(rank, a, seed, parts):
    """One part of the pool: scaled latents (fp16), token ids of several captions, labels, the objects' boxes."""
    vae = (
        AutoencoderKL.from_pretrained(os.path.join(a.work, "vae"))
        .eval()
        .to(workers.DEVICE, memory_format=torch.channels_last)
    )
    tok = CLIPTokenizer.from_pretrained(a.tokenizer, model_max_length=77)
    w, r = World(a.font, a.cldr), random.Random(seed + rank)
    index, n, t0 = {e: i + 1 for i, e in enumerate(w.concepts)}, a.pool // parts // 64, time.time()
    lat, ids, labels, mask = [], [], [], torch.zeros(n * 64, 16, 16, dtype=torch.bool)
    for k in range(n):
        specs = [w.sample(r) for _ in range(64)]
        x = (
            torch.from_numpy(np.stack([w.render(s) for s in specs]))
            .permute(0, 3, 1, 2)
            .float()
            .div_(127.5)
            .sub_(1)
            .to(workers.DEVICE)
        )
        with torch.no_grad(), torch.autocast(workers.DEVICE, torch.bfloat16):
            lat.append(
                (
                    vae.encode(x.contiguous(memory_format=torch.channels_last)).latent_dist.mean.float()
                    * vae.config.scaling_factor
                )
                .half()
                .cpu()
                .contiguous()
            )
        caps = [w.caption(s, r, korean=i % 2 == 1) for s in specs for i in range(a.captions)]
        ids.append(
            torch.tensor(
                tok(caps, padding="max_length", max_length=77, truncation=True).input_ids, dtype=torch.int32
            ).view(64, a.captions, 77)
        )
        for s in specs:
            for _, z, u, v in s["objs"]:
                mask[len(labels), v // 8 : (v + z) // 8, u // 8 : (u + z) // 8] = True
            o = [index[e] for e, *_ in s["objs"]] + [0, 0]
            labels.append([o[0], o[1], BACKGROUNDS.index(s["bg"]), KINDS.index(s["type"])])
        if k % 20 == 19 and rank == 0:
            print(f"pool {k + 1}/{n} {(k + 1) * 64 * parts / (time.time() - t0):.0f} scenes/s", flush=True)
    workers.save(
        dict(latents=torch.cat(lat), ids=torch.cat(ids), labels=torch.tensor(labels), mask=mask),
        os.path.join(a.work, f"pool{rank}.part"),
    )


def build_pool(a):
    path = os.path.join(a.work, "pool.pt")
    if not os.path.exists(path):
        n = a.workers if workers.DEVICE == "cpu" else 1
        workers.launch(encode_scenes, n, a, 5, n)
        parts = [torch.load(os.path.join(a.work, f"pool{k}.part")) for k in range(n)]
        workers.save({k: torch.cat([p[k] for p in parts]) for k in parts[0]}, path)
        for k in range(n):
            os.remove(os.path.join(a.work, f"pool{k}.part"))
    return workers.load(path)


class Batches:
    def __init__(self, pool, table):
        self.latents, self.ids, self.labels, self.mask = (pool[k] for k in ("latents", "ids", "labels", "mask"))
        self.table, self.bos, self.eos = table, table[49406].item(), table[49407].item()
        self.empty = torch.full((77,), self.eos)
        self.empty[0] = self.bos
        self.alpha = torch.from_numpy(DDIMScheduler(**SCHEDULE).alphas_cumprod.numpy())

    def captions(self, n):
        i = torch.randint(0, len(self.ids), (n,))
        tokens = self.table[self.ids[i, torch.randint(0, self.ids.shape[1], (n,))].long()]
        word = (
            (tokens != self.bos) & (tokens != self.eos) & (torch.rand(tokens.shape) < 0.02) & (torch.rand(n, 1) < 0.6)
        )
        tokens[word] = 0  # the unknown word
        return i, tokens

    def __call__(self, n):
        i, tokens = self.captions(n)
        tokens[torch.rand(n) < 0.1] = self.empty  # classifier-free guidance
        x = self.latents[i].float()
        noise = torch.randn(x.shape) + 0.08 * torch.randn(n, x.shape[1], 1, 1)  # offset noise: plain bright and dark backgrounds
        t = torch.randint(0, 1000, (n,))
        ab = self.alpha[t].view(-1, 1, 1, 1)
        s, q = ab.sqrt(), (1 - ab).sqrt()
        snr = self.alpha[t] / (1 - self.alpha[t])
        put = lambda v: v.to(workers.DEVICE)
        return (
            put((s * x + q * noise).contiguous(memory_format=torch.channels_last)),
            put(t),
            put(tokens),
            put(s * noise - q * x),
            put((snr + 1).clamp(max=5) / (snr + 1)),
            put(self.labels[i]),
            put(self.mask[i].float()),
        )
