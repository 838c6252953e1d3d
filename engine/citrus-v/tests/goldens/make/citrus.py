"""Citrus-V: answers with `[SEG]` and their masks, and the losses and gradients of a batch."""

import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional as F

from common import SAM, SECTIONS, SEED, TEXT, VISION, as_bf16, normalized, randomize, read
from common import save, write
from pictures import read_picture, resized_for_qwen, resized_for_sam, to_tensor
from qwen import ADDED, NEW_TOKENS, chat_template, encode_prompt, generate, patches_of
from qwen import random_network, tokenizer
from sam import random_model, run_lengths

QUERIES = [("\nOutline the kidney.", 0), ("The [SEG] and the liver [SEG], again?", 2)]
SAMPLES = [("\nOutline the kidney.", "Here it is: [SEG].", 0), ("肝脏在哪里?", "[SEG]", 1)]
WEIGHTS = {"token": 1.0, "dice": 1.0, "bce": 2.0}
# The gradient that the masks give to the projector: whole, and scaled as in stage 3.
SCALES = {"whole": 1.0, "scaled": 0.001}


class Projector(torch.nn.Module):
    """The projector of `[SEG]` states: two layers and a residual mapping."""

    def __init__(self):
        super().__init__()
        wide, narrow = TEXT["hidden_size"], SAM["d_model"]
        self.linear1 = torch.nn.Linear(wide, wide)
        self.linear2 = torch.nn.Linear(wide, narrow)
        self.residual_mapping = torch.nn.Linear(wide, narrow)

    def forward(self, x):
        return self.linear2(F.relu(self.linear1(x))) + self.residual_mapping(x)


class Citrus(torch.nn.Module):
    """The three networks, with the names of the release."""

    def __init__(self, tokens):
        super().__init__()
        self.mllm = random_network(tokens, False, SEED + 200)
        self.seg_projector = Projector()
        randomize(self.seg_projector, SEED + 201)
        self.grounding_encoder = torch.nn.Module()
        self.grounding_encoder.sam2_model = random_model(SEED + 202)

    @property
    def sam(self):
        return self.grounding_encoder.sam2_model


def prompt_of(tokens, text, grids):
    content = [*({"type": "image"} for _ in grids), {"type": "text", "text": text}]
    line = chat_template([{"role": "user", "content": content}])
    return line, encode_prompt(tokens, line, grids)


def squares(folder, index):
    files = [it["file"] for it in read(folder / "qwen/preprocess.json")["images"]]
    picture = resized_for_qwen(read_picture(folder / files[index]))
    return to_tensor(resized_for_sam(picture, SAM["image_size"]))


def inputs_of(folder, tokens, text, index):
    pixels, grids = patches_of(folder, [index])
    line, ids = prompt_of(tokens, text, grids)
    return line, {"input_ids": ids, "attention_mask": torch.ones_like(ids),
                  "pixel_values": pixels, "image_grid_thw": grids}


@torch.no_grad()
def make_model_generate_seg(folder, model, tokens, seg):
    """Makes the model generate `[SEG]` as its third token, by swapping two rows of the head."""
    _, inputs = inputs_of(folder, tokens, *QUERIES[0])
    words = model.mllm.generate(**inputs, max_new_tokens=3, do_sample=False)
    third = words[0, -1].item()
    assert third not in words[0, -3:-1], "the token was generated before: use another seed"
    head = model.mllm.lm_head.weight
    head[[third, seg]] = head[[seg, third]]


def mask_record(logits, size):
    """A mask at low resolution and at the size of the picture, and the number of pixels whose logit
    is close to zero."""
    mask = (logits > 0).to(torch.uint8)
    original = to_tensor(Image.fromarray(mask.numpy()).resize(size, Image.Resampling.NEAREST))
    return {"rle": run_lengths(mask), "rle_original": run_lengths(original),
            "near_zero_pixels": int((logits.abs() < 2e-3).sum())}


@torch.no_grad()
def answers(folder, model, tokens, seg):
    about = []
    for index, (text, picture) in enumerate(QUERIES):
        line, inputs = inputs_of(folder, tokens, text, picture)
        words, _ = generate(model.mllm, inputs, NEW_TOKENS)
        sequence = torch.cat([inputs["input_ids"][0], words])
        whole = {**inputs, "input_ids": sequence[None],
                 "attention_mask": torch.ones_like(sequence[None])}
        hidden = model.mllm(**whole, output_hidden_states=True).hidden_states[-1][0]
        # The last generated token is not an input of the model.
        places = (sequence[:-1] == seg).nonzero()[:, 0]
        vectors = model.seg_projector(hidden[places])
        square = squares(folder, picture)
        image = model.sam.encode_image(normalized(square))
        _, ious, _, which, best, _ = model.sam.decode_embeddings(image, vectors)
        save(folder / f"citrus/infer{index}.safetensors", {
            "input_ids": inputs["input_ids"], "sequence": sequence, "seg_positions": places,
            "seg_hidden": hidden[places], "seg_embedding": vectors, "best_idx": which,
            "low_res_best": best, "ious": ious})
        files = read(folder / "qwen/preprocess.json")["images"]
        masks = [mask_record(it[0], files[picture]["wh"]) for it in best]
        about.append({
            "query": text, "image": files[picture]["file"], "rendered": line,
            "generated_ids": words.tolist(), "masks": masks,
            "text": tokens.decode(words.tolist(), skip_special_tokens=False)})
    write(folder / "citrus/infer.json", {"queries": about})


def sample_of(folder, tokens, text, answer, picture):
    """Token ids and labels of a question with its answer, patches and grid of the picture."""
    patches, grid = (None, []) if picture is None else patches_of(folder, [picture])
    line, before = prompt_of(tokens, text, grid)
    row = encode_prompt(tokens, line + answer + "<|im_end|>", grid)[0]
    target = row.clone()
    target[: before.shape[1]] = -100
    return row, target, patches, grid


def batch_of(folder, tokens):
    """Both samples as a padded batch."""
    rows, targets, pixels, grids = zip(*(sample_of(folder, tokens, *it) for it in SAMPLES))
    pad = torch.nn.utils.rnn.pad_sequence
    attention_mask = pad([torch.ones_like(it) for it in rows], batch_first=True)
    end = tokens.token_to_id("<|endoftext|>")
    side = SAM["image_size"] // 4
    generator = torch.Generator().manual_seed(SEED + 300)
    truth = (torch.rand(2, side // 4, side // 4, generator=generator) < 0.4).to(torch.uint8)
    return {
        "input_ids": pad(rows, batch_first=True, padding_value=end),
        "attention_mask": attention_mask,
        "labels": pad(targets, batch_first=True, padding_value=-100),
        "g_u8": torch.stack([squares(folder, it[2]) for it in SAMPLES]),
        "gt_masks": truth.repeat_interleave(4, 1).repeat_interleave(4, 2),
        "pixel_values": torch.cat(pixels), "image_grid_thw": torch.cat(grids),
    }


def losses_of(model, batch, seg, scale):
    """Losses, masks and logits of a batch. The gradient at the output of the projector is
    multiplied by `scale`."""
    names = ["input_ids", "attention_mask", "position_ids", "pixel_values", "image_grid_thw"]
    out = model.mllm(**{it: batch[it] for it in names if it in batch}, use_cache=False,
                     output_hidden_states=True)
    logits, labels = out.logits[:, :-1].flatten(0, 1), batch["labels"][:, 1:].flatten()
    token = F.cross_entropy(logits, labels, ignore_index=-100)
    vectors = model.seg_projector(out.hidden_states[-1][batch["input_ids"] == seg])
    if vectors.requires_grad:
        vectors.register_hook(lambda gradient: gradient * scale)
    image = model.sam.encode_image(torch.cat([normalized(it) for it in batch["g_u8"]]))
    _, _, _, which, best, _ = model.sam.decode_embeddings(image, vectors)
    truth, drawn = batch["gt_masks"].float().flatten(1), best.flatten(1)
    bce = F.binary_cross_entropy_with_logits(drawn, truth)
    share = drawn.sigmoid()
    dice = 1 - (2 * (share * truth).sum(1) + 1) / (share.sum(1) + truth.sum(1) + 1)
    return {"token": token, "dice": dice.mean(), "bce": bce}, best, which, out.logits


def total(losses):
    return sum(WEIGHTS[it] * loss for it, loss in losses.items())


def gradients(folder, model, tokens, seg):
    batch = batch_of(folder, tokens)
    positions, _ = model.mllm.model.get_rope_index(
        batch["input_ids"], image_grid_thw=batch["image_grid_thw"],
        attention_mask=batch["attention_mask"])
    variants = {}
    for name, scale in SCALES.items():
        model.zero_grad(set_to_none=True)
        losses, best, which, _ = losses_of(model, batch, seg, scale)
        total(losses).backward()
        length = lambda it: 0.0 if it.grad is None else it.grad.double().norm().item()
        variants[name] = {
            "weights": WEIGHTS, "hook_0.001_on_projector_output": scale != 1.0,
            **{it: loss.item() for it, loss in losses.items()},
            "grad_l2": {it: length(tensor) for it, tensor in model.named_parameters()}}
    files = read(folder / "qwen/preprocess.json")["images"]
    samples = [{"user": text, "assistant": answer, "image": files[picture]["file"]}
               for text, answer, picture in SAMPLES]
    write(folder / "citrus/train.json", {"samples": samples, "variants": variants})
    kept = ["input_ids", "attention_mask", "labels", "g_u8", "gt_masks"]
    save(folder / "citrus/train_batch.safetensors", {
        **{it: batch[it] for it in kept}, "position_ids": positions, "pred_best_low_res": best,
        "best_idx": which})


def configuration(model, seg):
    """The configuration in the format of the release, with the sizes of the language model at the
    top level."""
    whole = model.mllm.config
    names = ["image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id"]
    return {
        "architectures": ["CitrusV"], "model_type": "citrus_v", **TEXT,
        "vocab_size": whole.text_config.vocab_size, "tie_word_embeddings": False,
        "rope_scaling": {"type": "default", "mrope_section": SECTIONS},
        **{it: getattr(whole, it) for it in names}, "vision_config": VISION, "seg_token_idx": seg,
        "use_res_seg_projector": True, "grounding_encoder_config": {"sam2": SAM},
    }


def tokenizer_with_seg():
    """The tokenizer with the added tokens, and the id of `[SEG]`."""
    tokens = tokenizer()
    tokens.add_special_tokens(ADDED)
    return tokens, tokens.token_to_id("[SEG]")


def open_model(folder, tokens):
    """The model of the set."""
    model = Citrus(tokens).eval()
    state = load_file(folder / "ckpt/citrus_tiny/model.safetensors")
    missing, unexpected = model.load_state_dict(
        {name: it.float() for name, it in state.items()}, strict=False)
    assert not unexpected and all("inv_freq" in it for it in missing)
    return model


def make(folder):
    plain = tokenizer()
    place = folder / "ckpt/citrus_tiny"
    place.mkdir(parents=True)
    # As in the release, the file has no added tokens; they are added when it is loaded.
    plain.save(str(place / "tokenizer.json"))
    tokens, seg = tokenizer_with_seg()
    model = Citrus(tokens).eval()
    make_model_generate_seg(folder, model, tokens, seg)
    write(place / "config.json", configuration(model, seg))
    save(place / "model.safetensors", as_bf16(model.state_dict()))
    answers(folder, model, tokens, seg)
    gradients(folder, model, tokens, seg)
