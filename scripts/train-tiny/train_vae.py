#!/usr/bin/env python3
"""Trains the AutoencoderKL (f=8, 8 latent channels) on composed scenes, for a given number of minutes.

Most of the time is spent on 64x64 crops around the objects (many cheap steps), the last part on whole 128x128 scenes,
so that the normalisation layers and the attention see whole pictures.  Without --init a fading auxiliary term asks the
first three latent channels for the thumbnail of the picture: the first minutes are spent on a plateau otherwise.
Loss: L1 + MSE + multi-scale gradient L1 (a stand-in for a perceptual loss) + a small KL term.
Resumable: the checkpoint in --work holds weights, EMA, optimiser and the minutes already spent.
"""

import argparse, json, math, os, random, time
import numpy as np, torch, torch.nn.functional as F
from diffusers import AutoencoderKL
import workers
from scenes import World, sheet


def make_vae(ch=(32, 64, 96, 96), latent=8):
    n = len(ch)
    vae = AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=latent,
        block_out_channels=ch,
        layers_per_block=1,
        down_block_types=("DownEncoderBlock2D",) * n,
        up_block_types=("UpDecoderBlock2D",) * n,
        norm_num_groups=2,
        sample_size=128,
    )
    with torch.no_grad():  # start with an almost deterministic posterior
        vae.quant_conv.bias[latent:] = -6.0
        vae.quant_conv.weight[latent:] *= 0.1
    return vae


def gradient_loss(a, b, scales=3):
    """L1 between image gradients at several scales: punishes blur and misplaced edges."""
    loss = 0
    for k in range(scales):
        loss = (
            loss
            + F.l1_loss(a[..., 1:] - a[..., :-1], b[..., 1:] - b[..., :-1])
            + F.l1_loss(a[..., 1:, :] - a[..., :-1, :], b[..., 1:, :] - b[..., :-1, :])
        )
        if k < scales - 1:
            a, b = F.avg_pool2d(a, 2), F.avg_pool2d(b, 2)
    return loss


def pictures(a, n, seed):
    """Scenes, uint8 [n, 128, 128, 3], and one object's corner each; three in four lie on the U-Net's grid."""
    r, worlds = random.Random(seed), [World(a.font, a.cldr, step=s, seed=1) for s in (8, 8, 8, 1)]
    out, corner = np.empty((n, 128, 128, 3), np.uint8), np.zeros((n, 2), np.int64)
    for i in range(n):
        spec = worlds[i % 4].sample(r)
        out[i] = worlds[i % 4].render(spec)
        corner[i] = r.choice(spec["objs"])[2:] if spec["objs"] else (r.randint(0, 64), r.randint(0, 64))
    return torch.from_numpy(out), torch.from_numpy(corner)


def tensor(images):
    return (
        images.permute(0, 3, 1, 2)
        .float()
        .div_(127.5)
        .sub_(1)
        .to(workers.DEVICE)
        .contiguous(memory_format=torch.channels_last)
    )


def crops(pool, corner, n):
    """64x64 pieces near an object, shifted by up to three latent cells."""
    out = []
    for i in torch.randint(0, len(pool), (n,)).tolist():
        x, y = (int(min(64, max(0, c + 8 * int(torch.randint(-3, 4, ()))))) for c in corner[i])
        out.append(pool[i, y : y + 64, x : x + 64])
    return torch.stack(out)


def train(rank, a, vae, ema, counts, resume, pool, corner):
    opt = torch.optim.AdamW(vae.parameters(), lr=a.lr, betas=(0.9, 0.99), weight_decay=0.0)
    if resume:
        opt.load_state_dict(resume["opt"])
    clock, log = workers.Clock(resume["spent"] if resume else 0.0, a.minutes), resume["log"] if resume else []
    step, acc, mark, saved = 0, [], time.time(), time.time()
    before = counts.sum().item()
    while clock.share < 1:
        for g in opt.param_groups:
            g["lr"] = clock.cosine(a.lr, 50, step)
        whole = clock.share >= a.crops
        x = tensor(pool[torch.randint(0, len(pool), (a.batch // 4,))] if whole else crops(pool, corner, a.batch))
        with torch.autocast(workers.DEVICE, torch.bfloat16):
            post = vae.encode(x).latent_dist
            mu, lv = post.mean.float(), post.logvar.float()
            y = vae.decode(mu + torch.exp(0.5 * lv) * torch.randn_like(mu)).sample.float()
        l1, mse = F.l1_loss(y, x), F.mse_loss(y, x)
        kl = 0.5 * (mu.pow(2) + lv.exp() - 1 - lv).mean()
        loss = l1 + mse + 0.5 * gradient_loss(y, x) + a.kl * kl
        if not a.init:
            loss = loss + F.mse_loss(mu[:, :3], 1.5 * F.avg_pool2d(x, 8)) * max(0.0, 1 - clock.share / 0.35)
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        opt.step()
        step += 1
        counts[rank] += len(x)
        if rank:
            continue
        with torch.no_grad():
            d = min(0.997, (1 + step) / (10 + step))
            for e, p in zip(ema, vae.parameters()):
                e.lerp_(p, 1 - d)
        acc.append([l1.item(), mse.item()])
        if step % 100 == 0:
            (m1, m2), acc, now = np.mean(acc, 0), [], time.time()
            log.append([round(clock.spent, 2), float(m1), float(m2), kl.item()])
            print(
                f"vae {clock.spent:.1f}/{a.minutes:g} min {'whole' if whole else 'crops'} L1 {m1:.4f}",
                f"PSNR {-10 * math.log10(m2 / 4):.2f} KL {kl.item():.2f} std {mu.std().item():.2f}",
                f"{(counts.sum().item() - before) / (now - mark):.1f} img/s",
                flush=True,
            )
            mark, before = now, counts.sum().item()
        if time.time() - saved > 120 or clock.share >= 1:
            workers.save(
                dict(model=vae.state_dict(), ema=ema, opt=opt.state_dict(), spent=clock.spent, log=log),
                os.path.join(a.work, "vae.ckpt"),
            )
            saved = time.time()


def standardise(vae, z):
    """Folds zero mean and unit spread of every latent channel into the convolutions around the latent."""
    mean, std, n = z.mean((0, 2, 3)), z.std((0, 2, 3)), z.shape[1]
    q, p = vae.quant_conv, vae.post_quant_conv
    q.weight[:n] /= std.view(-1, 1, 1, 1)
    q.bias[:n] = (q.bias[:n] - mean) / std
    q.bias[n:] -= 2 * std.log()
    p.bias += p.weight[:, :, 0, 0] @ mean
    p.weight *= std.view(1, -1, 1, 1)
    return (z - mean.view(-1, 1, 1)) / std.view(-1, 1, 1)


@torch.no_grad()
def finish(a, vae, ema):
    """Averaged weights, standard latents, PSNR on fresh scenes; saves --work/vae."""
    for p, e in zip(vae.parameters(), ema):
        p.copy_(e)
    vae.eval()
    r, w = random.Random(77), World(a.font, a.cldr, seed=2)
    specs = [w.sample(r, holdout=True) for _ in range(256)]
    images = torch.from_numpy(np.stack([w.render(s) for s in specs]))
    x = tensor(images)
    with torch.autocast(workers.DEVICE, torch.bfloat16):
        z = torch.cat([vae.encode(b).latent_dist.mean.float() for b in x.split(32)])
    z = standardise(vae, z)
    with torch.autocast(workers.DEVICE, torch.bfloat16):
        y = torch.cat([vae.decode(b).sample.float() for b in z.split(32)]).clamp(-1, 1)
    psnr = -10 * torch.log10((y - x).pow(2).mean((1, 2, 3)) / 4)
    vae.register_to_config(scaling_factor=1.0)
    vae.to("cpu").save_pretrained(os.path.join(a.work, "vae"))
    info = dict(
        psnr=psnr.mean().item(),
        l1=(y - x).abs().mean().item(),
    )
    json.dump(info, open(os.path.join(a.work, "vae.json"), "w"), indent=1)
    print(info, flush=True)
    out = ((y + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    sheet(
        [v for p in zip(images.numpy()[:32], out[:32]) for v in p],
        ["real", "reconstructed"] * 32,
        os.path.join(a.work, "vae.png"),
        cols=8,
    )


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--font", required=True)
    ap.add_argument("--cldr", required=True)
    ap.add_argument("--work", required=True)
    ap.add_argument("--minutes", type=float, default=16)
    ap.add_argument("--batch", type=int, default=16, help="crops a step; a quarter as many whole scenes")
    ap.add_argument("--crops", type=float, default=0.6, help="share of the time spent on 64x64 crops")
    ap.add_argument("--lr", type=float, default=8e-4)
    ap.add_argument("--kl", type=float, default=1e-4)
    ap.add_argument("--pool", type=int, default=6000)
    ap.add_argument("--workers", type=int, default=os.cpu_count())
    ap.add_argument("--init", default="", help="an AutoencoderKL folder to go on from")
    a = ap.parse_args()
    torch.manual_seed(0)
    os.makedirs(a.work, exist_ok=True)
    vae = AutoencoderKL.from_pretrained(a.init, torch_dtype=torch.float32) if a.init else make_vae()
    vae, resume = workers.share(vae), workers.load(os.path.join(a.work, "vae.ckpt"))
    ema = [p.detach().clone() for p in vae.parameters()]
    if resume:
        vae.load_state_dict(resume["model"])
        ema = [e.to(workers.DEVICE) for e in resume["ema"]]
    ema = [e.share_memory_() if workers.DEVICE == "cpu" else e for e in ema]
    pool, corner = pictures(a, a.pool, 1)
    counts = torch.zeros(max(1, a.workers)).share_memory_()
    print(f"VAE {sum(p.numel() for p in vae.parameters()) / 1e6:.2f} M parameters, {len(pool)} scenes", flush=True)
    if not resume or resume["spent"] < a.minutes:
        workers.launch(train, a.workers, a, vae, ema, counts, resume, pool.share_memory_(), corner.share_memory_())
    finish(a, vae, ema)


if __name__ == "__main__":
    main()
