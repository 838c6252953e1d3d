"""Citrus-V in training: whole gradients, steps of the optimizer, packed samples, learning rates.

The model and the batch are those that `citrus` wrote to the set.
"""

import torch
from transformers import Trainer, get_cosine_schedule_with_warmup

from citrus import SAMPLES, SCALES, WEIGHTS, batch_of, losses_of, open_model, sample_of, total
from citrus import tokenizer_with_seg
from common import SEED, read, save, write

SAM = "grounding_encoder.sam2_model."
TRUNK = SAM + "image_encoder.trunk."
DECODER = SAM + "sam_mask_decoder."
TEXT = "mllm.model.language_model."
VISUAL = "mllm.model.visual."

# At least one parameter of every kind of operation, and small ones where there is a choice. None
# has a gradient that is zero but for rounding, as biases of keys have without rotary embedding.
SEG = [
    TRUNK + "patch_embed.proj.bias", TRUNK + "pos_embed", TRUNK + "pos_embed_window",
    TRUNK + "blocks.0.attn.qkv.weight", TRUNK + "blocks.1.attn.qkv.weight",
    TRUNK + "blocks.1.proj.weight", TRUNK + "blocks.4.norm2.weight",
    SAM + "image_encoder.neck.convs.3.conv.weight", SAM + "image_encoder.neck.convs.1.conv.bias",
    SAM + "no_mem_embed", SAM + "sam_prompt_encoder.no_mask_embed.weight",
    SAM + "sam_prompt_encoder.not_a_point_embed.weight", DECODER + "mask_tokens.weight",
    DECODER + "conv_s0.weight", DECODER + "conv_s1.weight", DECODER + "output_upscaling.0.weight",
    DECODER + "output_upscaling.1.weight", DECODER + "output_upscaling.3.weight",
    DECODER + "transformer.layers.1.cross_attn_image_to_token.v_proj.weight",
    DECODER + "transformer.norm_final_attn.weight", "seg_projector.linear1.bias",
    "seg_projector.linear2.weight", "seg_projector.residual_mapping.bias",
]
MLLM = [
    TEXT + "layers.0.self_attn.k_proj.bias", TEXT + "layers.0.self_attn.v_proj.weight",
    TEXT + "layers.1.mlp.down_proj.weight", TEXT + "layers.1.input_layernorm.weight",
    TEXT + "norm.weight", VISUAL + "blocks.0.attn.qkv.weight", VISUAL + "blocks.1.norm1.weight",
    VISUAL + "blocks.2.mlp.down_proj.weight", VISUAL + "merger.ln_q.weight",
    VISUAL + "merger.mlp.2.bias",
]
NAMED = {
    "whole": [*SEG, *MLLM, TRUNK + "patch_embed.proj.weight", VISUAL + "patch_embed.proj.weight"],
    "scaled": [*SEG[-3:], *MLLM[:5]],
    "stage3": [*SEG, *MLLM],
    "stage4": SEG,
}

# What is trained, with a learning rate for each group.
STAGES = {
    "stage3": {"lr": {"llm": 1e-4, "vit": 4e-5, "aligner": 2e-4, "seg": 3e-4}, "hook": True},
    "stage4": {"lr": {"seg": 8e-4}, "hook": False},
}
ADAM = {"weight_decay": 0.1, "betas": [0.9, 0.999], "eps": 1e-8}
CLIP = 1.0
STEPS = 2

# A sample without a picture, packed after the others.
WORDS = ("And the heart?", "It is fine.", None)

# Steps of warm-up, steps in total, and which steps are listed.
SCHEDULES = [(0, 8, 1), (4, 24, 1), (100, 1000, 50)]


def group_of(name):
    """The group of a parameter, which determines its learning rate."""
    if not name.startswith("mllm."):
        return "seg"
    if name.startswith(VISUAL + "merger."):
        return "aligner"
    return "vit" if name.startswith(VISUAL) else "llm"


def gradients(folder, model, batch, seg):
    """Writes the gradients of the named parameters, for both scales."""
    parameters = dict(model.named_parameters())
    for variant, scale in SCALES.items():
        model.zero_grad(set_to_none=True)
        total(losses_of(model, batch, seg, scale)[0]).backward()
        save(folder / f"citrus/grads_{variant}.safetensors",
             {name: parameters[name].grad for name in NAMED[variant]})


def steps(model, batch, seg, stage, decay):
    """Losses and norms of some steps of the optimizer, and how the parameters changed."""
    groups, trained, before = [], [], {}
    for name, it in model.named_parameters():
        before[name] = it.detach().clone()
        rate = stage["lr"].get(group_of(name))
        if rate is None:
            continue
        trained.append(it)
        groups.append({"params": [it], "lr": rate,
                       "weight_decay": ADAM["weight_decay"] if name in decay else 0.0})
    optimizer = torch.optim.AdamW(groups, betas=ADAM["betas"], eps=ADAM["eps"], foreach=False)
    history = []
    for step in range(STEPS + 1):
        model.zero_grad(set_to_none=True)
        losses = losses_of(model, batch, seg, SCALES["scaled" if stage["hook"] else "whole"])[0]
        loss = total(losses)
        history.append({"loss": loss.item(), **{it: each.item() for it, each in losses.items()}})
        if step < STEPS:
            loss.backward()
            norm = torch.nn.utils.clip_grad_norm_(trained, CLIP, foreach=False)
            history[-1]["grad_norm_before_clip"] = norm.item()
            optimizer.step()
    changed = {name: it.detach() - before[name] for name, it in model.named_parameters()}
    return history, changed


@torch.no_grad()
def slightly_different(model):
    """The same model, as rounding could have left its parameters."""
    generator = torch.Generator().manual_seed(SEED + 400)
    for it in model.parameters():
        it.mul_(1 + 2e-6 * torch.randn(it.shape, generator=generator))
    return model


def assert_determined(name, found, other):
    """The first steps depend on the signs of gradients: rounding must not change them much. The
    tests tolerate twice as much."""
    distance = ((found - other).norm() / found.norm()).item()
    assert distance < 1e-2, f"{name} depends on rounding ({distance}): name another parameter"


def optimizer_steps(folder, tokens, batch, seg):
    model = open_model(folder, tokens)
    decay = set(Trainer.get_decay_parameter_names(None, model))
    names = [name for name, _ in model.named_parameters()]
    about = read(folder / "citrus/train.json") | {
        "adamw": {}, "decay": {name: name in decay for name in names},
        "group": {name: group_of(name) for name in names}}
    for stage, settings in STAGES.items():
        history, changed = steps(open_model(folder, tokens), batch, seg, settings, decay)
        model = slightly_different(open_model(folder, tokens))
        _, others = steps(model, batch, seg, settings, decay)
        kept = {name: changed[name] for name in NAMED[stage]}
        for name, it in kept.items():
            assert_determined(f"{stage} {name}", it, others[name])
        about["adamw"][stage] = {**settings, **ADAM, "loss_weights": WEIGHTS, "clip_norm": CLIP,
                                 "steps": STEPS, "history": history}
        save(folder / f"citrus/adamw_{stage}_delta.safetensors", kept)
    write(folder / "citrus/train.json", about)


@torch.no_grad()
def packed(folder, model, tokens, batch, seg):
    """Writes three samples in one row. None attends to another, and each has its own positions."""
    samples = [sample_of(folder, tokens, *it) for it in [*SAMPLES, WORDS]]
    rows, targets, _, grids = zip(*samples)
    positions = [
        model.mllm.model.get_rope_index(row[None], image_grid_thw=grid if len(grid) else None)[0]
        for row, grid in zip(rows, grids)]
    words = torch.cat([torch.arange(len(it)) for it in rows])
    line = {**batch, "input_ids": torch.cat(rows)[None], "labels": torch.cat(targets)[None],
            "position_ids": torch.cat([words[None, None], torch.cat(positions, -1)])}
    line.pop("attention_mask")
    losses, best, _, logits = losses_of(model, line, seg, 1.0)
    alone = []
    for row, _, pixels, grid in samples:
        picture = {} if pixels is None else {"pixel_values": pixels, "image_grid_thw": grid}
        alone.append(model.mllm(input_ids=row[None], attention_mask=torch.ones(1, len(row)).long(),
                                **picture).logits[0])
    assert (torch.cat(alone) - logits[0]).abs().max() < 1e-4, "a sample sees another"
    ends = torch.tensor([len(it) for it in rows]).cumsum(0)
    save(folder / "citrus/packed.safetensors", {
        "input_ids": line["input_ids"], "labels": line["labels"],
        "position_ids": line["position_ids"][1:], "text_position_ids": words,
        "cu_seqlens": torch.cat([torch.zeros(1, dtype=ends.dtype), ends]),
        "logits_every4th_column": logits[0, :, ::4], "pred_best_low_res": best})
    write(folder / "citrus/packed.json", {it: loss.item() for it, loss in losses.items()})


def learning_rates(folder):
    """Writes the factors of the learning rate at every step, or at every n-th of long schedules."""
    factors = {}
    for warmup, count, interval in SCHEDULES:
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
        schedule = get_cosine_schedule_with_warmup(optimizer, warmup, count)
        all_factors = []
        for _ in range(count + 1):
            all_factors.append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
        factors[f"warmup{warmup}_total{count}"] = all_factors[::interval]
    write(folder / "citrus/cosine.json", {"multiplier": factors})


def make(folder):
    tokens, seg = tokenizer_with_seg()
    model = open_model(folder, tokens)
    batch = batch_of(folder, tokens)
    gradients(folder, model, batch, seg)
    optimizer_steps(folder, tokens, batch, seg)
    packed(folder, model, tokens, batch, seg)
    learning_rates(folder)
