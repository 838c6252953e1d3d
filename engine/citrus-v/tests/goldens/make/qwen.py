"""Qwen2.5-VL: a tokenizer, a small model, and its outputs for prompts."""

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers import pre_tokenizers, trainers
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

from common import SECTIONS, SEED, TEXT, VISION, as_bf16, randomize, read, save, write
from pictures import patches, read_picture, resized_for_qwen

SPECIAL = [
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>",
    "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>", "<|vision_start|>",
    "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>",
]
ADDED = ["[SEG]", "<bbox>", "</bbox>"]
WORDS = [
    "Outline the kidney in this picture, please.", "The liver is enlarged; the heart is not.",
    "There is no fracture of the left femur.", "请分割图像中的肝脏。", "心脏大小正常。",
    "What can be seen? Think step by step.", "Compare both pictures of the chest.",
]
SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
NEW_TOKENS = 10

PROMPTS = [
    {"images": [0], "system": None, "turns": ["Outline the kidney in this picture."]},
    {"images": [1, 2], "system": "You compare.", "turns": ["Which 12 of both? 左肾"]},
    {"images": [], "system": None, "turns": ["And the heart?", "It is fine.", "Why?"]},
]


def tokenizer():
    it = Tokenizer(models.BPE())
    it.normalizer = normalizers.NFC()
    it.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(SPLIT), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    it.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    it.train_from_iterator(WORDS, trainers.BpeTrainer(
        vocab_size=300, initial_alphabet=alphabet, show_progress=False))
    it.add_special_tokens([AddedToken(text, special=True) for text in SPECIAL])
    return it


def config(tokens, is_tied):
    of = tokens.token_to_id
    text = {**TEXT, "vocab_size": 336, "tie_word_embeddings": is_tied,
            "rope_scaling": {"type": "mrope", "mrope_section": SECTIONS}}
    return Qwen2_5_VLConfig(
        text_config=text, vision_config=VISION, tie_word_embeddings=is_tied,
        image_token_id=of("<|image_pad|>"), video_token_id=of("<|video_pad|>"),
        vision_start_token_id=of("<|vision_start|>"), vision_end_token_id=of("<|vision_end|>"),
        attn_implementation="eager")


def random_network(tokens, is_tied, seed):
    it = Qwen2_5_VLForConditionalGeneration(config(tokens, is_tied)).float().eval()
    randomize(it, seed)
    it.tie_weights()
    it.generation_config.eos_token_id = None
    it.generation_config.pad_token_id = tokens.token_to_id("<|endoftext|>")
    return it


def chat_template(messages):
    """The messages in ChatML, with the pictures of a message before its text."""
    if messages[0]["role"] != "system":
        messages = [{"role": "system", "content": "You are a helpful assistant."}, *messages]
    text = ""
    for message in messages:
        content = message["content"]
        if not isinstance(content, str):
            places = sum(it["type"] == "image" for it in content)
            words = "".join(it.get("text", "") for it in content)
            content = "<|vision_start|><|image_pad|><|vision_end|>" * places + words
        text += f"<|im_start|>{message['role']}\n{content}<|im_end|>\n"
    return text + "<|im_start|>assistant\n"


def encode_prompt(tokens, text, grids):
    """Token ids of a text, with one image token for each merged patch of a picture."""
    pad, pieces, ids = tokens.token_to_id("<|image_pad|>"), iter(grids), []
    for it in tokens.encode(text).ids:
        ids += [it] * (int(next(pieces).prod()) // 4) if it == pad else [it]
    return torch.tensor([ids])


def patches_of(folder, indices):
    """Patches and grids of these pictures of the set."""
    files = [it["file"] for it in read(folder / "qwen/preprocess.json")["images"]]
    parts = [patches(resized_for_qwen(read_picture(folder / files[index]))) for index in indices]
    if not parts:
        return None, None
    return torch.cat([it[0] for it in parts]), torch.cat([it[1] for it in parts])


def generate(model, inputs, count, **more):
    """Greedy tokens and their logits. Fails if two tokens are almost equally likely."""
    out = model.generate(**inputs, max_new_tokens=count, do_sample=False, use_cache=True,
                         return_dict_in_generate=True, output_logits=True, output_scores=True,
                         **more)
    scores = torch.cat(out.scores).topk(2).values
    assert (scores[:, 0] - scores[:, 1]).min() > 0.004, "two words are as likely: another seed"
    return out.sequences[0, inputs["input_ids"].shape[1]:], torch.cat(out.logits)


def messages_of(prompt):
    messages = []
    if prompt["system"]:
        messages.append({"role": "system", "content": prompt["system"]})
    for at, text in enumerate(prompt["turns"]):
        role = "assistant" if at % 2 else "user"
        places = [{"type": "image"} for _ in prompt["images"]] if at == 0 else []
        content = [*places, {"type": "text", "text": text}] if role == "user" else text
        messages.append({"role": role, "content": content})
    return messages


@torch.no_grad()
def prompts(folder, model, tokens):
    about = []
    for index, prompt in enumerate(PROMPTS):
        messages = messages_of(prompt)
        text = chat_template(messages)
        pixels, grids = patches_of(folder, prompt["images"])
        ids = encode_prompt(tokens, text, [] if grids is None else grids)
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if pixels is not None:
            inputs |= {"pixel_values": pixels, "image_grid_thw": grids}
        positions, deltas = model.model.get_rope_index(
            ids, image_grid_thw=grids, attention_mask=inputs["attention_mask"])
        out = model(**inputs, output_hidden_states=True)
        words, logits = generate(model, inputs, NEW_TOKENS)
        penalized, _ = generate(model, inputs, NEW_TOKENS, repetition_penalty=1.3)
        hidden = [it[0] for it in out.hidden_states]
        tensors = {
            "input_ids": ids, "position_ids": positions, "rope_deltas": deltas,
            "inputs_embeds": hidden[0], "logits": out.logits[0], "greedy_ids": words,
            "greedy_logits": logits, "greedy_rp130_ids": penalized,
            f"hidden_{len(hidden) - 1}_final_norm": hidden[-1],
        }
        tensors |= {f"hidden_{at}": it for at, it in enumerate(hidden[1:-1], 1)}
        save(folder / f"qwen/prompt{index}.safetensors", tensors)
        about.append({"prompt": index, "images": prompt["images"], "messages": messages,
                      "rendered": text,
                      "greedy_text": tokens.decode(words.tolist(), skip_special_tokens=False)})
    write(folder / "qwen/prompts.json", {"prompts": about})


@torch.no_grad()
def vision(folder, model):
    pixels, grids = patches_of(folder, [0, 1, 2])
    visual, tensors = model.model.visual, {}
    order, ends = visual.get_window_index(grids)
    tensors["window_index"] = order
    tensors["cu_window_seqlens"] = torch.unique_consecutive(torch.tensor(ends))
    tensors["rot_pos_emb"] = visual.rot_pos_emb(grids)
    watched = [(visual.patch_embed, "patch_embed")]
    watched += [(block, f"block_{at}") for at, block in enumerate(visual.blocks)]

    def recording(name):
        return lambda _module, _inputs, out: tensors.__setitem__(name, out)

    hooks = [module.register_forward_hook(recording(name)) for module, name in watched]
    tensors["merged"] = visual(pixels, grid_thw=grids)
    for hook in hooks:
        hook.remove()
    save(folder / "qwen/vision.safetensors", tensors)


@torch.no_grad()
def batch(folder, model, tokens):
    """Writes a batch of two prompts of different lengths, padded on either side."""
    tensors, pad = {}, tokens.token_to_id("<|endoftext|>")
    pixels, grids = patches_of(folder, [0, 1])
    texts = ["Short.", "One that is longer."]
    rows = []
    for text, grid in zip(texts, grids):
        content = [{"type": "image"}, {"type": "text", "text": text}]
        line = chat_template([{"role": "user", "content": content}])
        rows.append(encode_prompt(tokens, line, [grid])[0])
    longest = max(len(it) for it in rows)
    for side in ["right", "left"]:
        ids = torch.full((2, longest), pad)
        attention_mask = torch.zeros((2, longest), dtype=torch.long)
        for row, it in enumerate(rows):
            at = slice(0, len(it)) if side == "right" else slice(longest - len(it), longest)
            ids[row, at], attention_mask[row, at] = it, 1
        positions, deltas = model.model.get_rope_index(
            ids, image_grid_thw=grids, attention_mask=attention_mask)
        logits = model(input_ids=ids, attention_mask=attention_mask, position_ids=positions,
                       pixel_values=pixels, image_grid_thw=grids).logits
        found = {"input_ids": ids, "attention_mask": attention_mask, "position_ids": positions,
                 "rope_deltas": deltas, "logits": logits}
        tensors |= {f"{side}_{name}": it for name, it in found.items()}
    tensors["image_grid_thw"] = grids
    save(folder / "qwen/batch.safetensors", tensors)


@torch.no_grad()
def loss(folder, model, tokens):
    content = [{"type": "image"}, {"type": "text", "text": "What is it?"}]
    prompt = chat_template([{"role": "user", "content": content}])
    pixels, grids = patches_of(folder, [0])
    ids = encode_prompt(tokens, prompt + "The liver.<|im_end|>", grids)
    labels = ids.clone()
    labels[:, : encode_prompt(tokens, prompt, grids).shape[1]] = -100
    found = model(input_ids=ids, labels=labels, pixel_values=pixels, image_grid_thw=grids,
                  attention_mask=torch.ones_like(ids)).loss
    save(folder / "qwen/token_loss.safetensors",
         {"input_ids": ids, "labels": labels, "loss": found.reshape(1)})


def tokenizations(folder, tokens):
    texts = [*WORDS, "", " two  spaces\n\nand lines ", "3.14 cm", "e\u0301 is é", "𝔘nicode 🫀",
             "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>"]
    cases = []
    for text in texts:
        ids = tokens.encode(text).ids
        cases.append({"text": text, "ids": ids,
                      "decoded": tokens.decode(ids, skip_special_tokens=False)})
    special = {text: tokens.token_to_id(text) for text in SPECIAL}
    write(folder / "qwen/tokenizer.json", {"cases": cases, "special_ids": special})


def make(folder):
    tokens = tokenizer()
    model = random_network(tokens, True, SEED)
    place = folder / "ckpt/qwen_tiny"
    place.mkdir(parents=True)
    tokens.save(str(place / "tokenizer.json"))
    write(place / "config.json", model.config.to_dict())
    state = as_bf16(model.state_dict())
    state.pop("lm_head.weight")
    save(place / "model.safetensors", state)
    tokenizations(folder, tokens)
    vision(folder, model)
    prompts(folder, model, tokens)
    batch(folder, model, tokens)
    loss(folder, model, tokens)
