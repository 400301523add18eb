"""A chat model in process: a frozen vision-language model of transformers."""

import hashlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from accelerate import PartialState
from transformers import PreTrainedModel, ProcessorMixin
from transformers.integrations import deepspeed as hf_deepspeed

from ..rgb import as_rgb
from .at_exit import call_at_exit
from .base import ChatFailure, ChatReply, ChatRequest, ChatUsage
from .current_device import on_device
from .vlm import load_processor, load_vlm
from .wire import beginning


class LocalChatModel:
    """
    A transformers image-text-to-text model (Qwen2.5-VL, Qwen3-VL, ...) that answers in process, batch by batch. It is
    frozen, stays out of the trainer's model, and is loaded whole even under DeepSpeed ZeRO-3.

    A server with [`HTTPChatModel`] is faster and takes no memory from training; this needs nothing but the weights.
    JSON schemas are not enforced here: the prompt describes the format, and a judge repairs what does not follow it.

    Args:
        model (`str` or [`~transformers.PreTrainedModel`]):
            Model id or folder, that of an adapter included, such as a trained judge; or a loaded model.
        processor ([`~transformers.ProcessorMixin`], *optional*):
            Its processor, with a chat template; needed when `model` is a loaded model.
        dtype (`str` or `torch.dtype`, *optional*, defaults to `"auto"`):
            Precision of the weights.
        device (`str` or `torch.device`, *optional*):
            Where to put the model; by default where the training process computes.
        batch_size (`int`, *optional*, defaults to `8`):
            Requests that are answered at once. Batched requests are padded to the longest.
        max_image_size (`int`, *optional*, defaults to `1024`):
            Longest side of an image, in pixels; larger ones are scaled down.

    Raises:
        `ValueError`: when the processor has no chat template, or the model was loaded under ZeRO-3.
    """

    def __init__(
        self,
        model: str | PreTrainedModel,
        processor: ProcessorMixin | None = None,
        *,
        dtype: str | torch.dtype = "auto",
        device: str | torch.device | None = None,
        batch_size: int = 8,
        max_image_size: int = 1024,
    ):
        if isinstance(model, str):
            with whole_weights():
                loaded = load_vlm(model, dtype)
            processor = processor or load_processor(model)
        else:
            loaded = model
            if processor is None:
                raise ValueError("A loaded model needs its `processor`.")
        self.model = model if isinstance(model, str) else model.config._name_or_path or type(model).__name__
        if not all(parameter.numel() for parameter in loaded.parameters()):
            raise ValueError(
                f"The model {self.model} is partitioned by DeepSpeed ZeRO-3, since it was loaded after the training "
                "arguments were made; give its id or folder instead of the model, and it is loaded whole."
            )
        if processor.chat_template is None:
            raise ValueError(f"The processor of {self.model} has no chat template; use an instruction-tuned model.")
        self.device = torch.device(device) if device is not None else PartialState().device
        self.vlm = loaded.to(self.device).eval().requires_grad_(False)
        self.device = self.vlm.device  # with its number, which "cuda" has not
        self.processor = processor
        self.processor.tokenizer.padding_side = "left"  # so that all replies of a batch start at the same place
        self.batch_size = batch_size
        self.max_image_size = max_image_size
        self.settings = {
            "max_image_size": max_image_size,
            "dtype": str(loaded.dtype),
            "weights": _fingerprint(loaded),  # a folder is trained on, and an adapter merged, under the same name
        }
        self._lock = threading.Lock()  # chunks of a rollout may be judged from several threads
        self._ending = False
        call_at_exit(self._end)

    def check(self) -> None:
        """Always there once it is loaded."""

    def complete(
        self, requests: list[ChatRequest], on_reply: Callable[[int, ChatReply], None] | None = None
    ) -> list[ChatReply]:
        """Answer every request, in order, `batch_size` at a time."""
        replies: list[ChatReply | None] = [None] * len(requests)
        with self._lock, on_device(self.device), torch.inference_mode():
            for batch in self._batches(requests):
                if self._ending:
                    raise CancelledError
                start = time.perf_counter()
                answered = self._answer([requests[i] for i in batch])
                seconds = (time.perf_counter() - start) / len(batch)
                for i, reply in zip(batch, answered, strict=True):
                    replies[i] = replace(reply, latency_s=seconds)
                    if on_reply is not None:
                        on_reply(i, replies[i])
        return replies

    def _answer(self, requests: list[ChatRequest]) -> list[ChatReply]:
        choices = requests[0].choices
        spellings = None if choices is None else {choice: self.tokens_of(choice) for choice in choices}
        try:
            return self._generate(requests) if spellings is None else self._choose(requests, spellings)
        except Exception as error:  # a picture that cannot be read, no memory left: a failure is a reply
            said = f"The model {self.model} could not answer: {beginning(str(error))} ({type(error).__name__})."
            return [ChatReply(failure=ChatFailure("server", said))] * len(requests)

    def _end(self) -> None:
        """Answer no batch after the one under way."""
        self._ending = True

    @property
    def _pad_token_id(self) -> int:
        tokenizer = self.processor.tokenizer
        return tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id

    def _batches(self, requests: list[ChatRequest]) -> Iterator[list[int]]:
        """Indices of requests that can be answered together: what is asked for and how has to be the same."""
        alike: dict[Any, list[int]] = {}
        for i, request in enumerate(requests):
            drawn = tuple(sorted(request.sampling.items()))
            alike.setdefault((request.choices, request.max_tokens, request.temperature, drawn), []).append(i)
        for indices in alike.values():
            for start in range(0, len(indices), self.batch_size):
                yield indices[start : start + self.batch_size]

    def inputs_of(self, requests: list[ChatRequest]) -> Any:
        """What the network takes of some requests, padded to the longest."""
        conversations = [
            [{"role": m["role"], "content": [self._part(part) for part in m["content"]]} for m in request.messages]
            for request in requests
        ]
        return self.processor.apply_chat_template(
            conversations,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
            processor_kwargs={"padding": True},
        ).to(self.device, dtype=self.vlm.dtype)

    def _part(self, part: dict[str, Any]) -> dict[str, Any]:
        if part["type"] != "image":
            return part
        image = as_rgb(part["image"])
        if max(image.size) > self.max_image_size:
            image.thumbnail((self.max_image_size, self.max_image_size))
        return {"type": "image", "image": image}

    def _generate(self, requests: list[ChatRequest]) -> list[ChatReply]:
        inputs = self.inputs_of(requests)
        temperature, longest = requests[0].temperature, requests[0].max_tokens
        sampling = {"do_sample": True, "temperature": temperature} if temperature > 0 else {"do_sample": False}
        drawn = dict(requests[0].sampling)
        seed = drawn.pop("seed", None)
        # what training draws next has nothing to do with what a judge draws
        with torch.random.fork_rng(enabled=seed is not None):
            if seed is not None:
                torch.manual_seed(seed)
            output = self.vlm.generate(
                **inputs,
                **sampling,
                **drawn,
                max_new_tokens=longest,
                pad_token_id=self._pad_token_id,
                synced_gpus=False,  # ranks judge different numbers of images; waiting for each other would never end
            )
        ends = self.vlm.generation_config.eos_token_id
        ends = set(ends if isinstance(ends, list) else [ends])
        replies = []
        for row, mask in zip(
            output[:, inputs["input_ids"].shape[1] :].tolist(), inputs["attention_mask"], strict=True
        ):
            end = next((i for i, token in enumerate(row) if token in ends), None)
            tokens = row if end is None else row[:end]
            # where the end of thoughts is a special token, the answer could not be told from them without it
            text = self.processor.tokenizer.decode(tokens, skip_special_tokens=False)
            failure = None
            if end is None and len(row) >= longest:
                failure = ChatFailure("truncated", f"The reply was cut at {longest} tokens.")
            elif not text.strip():
                failure = ChatFailure("empty", "The reply is empty.")
            replies.append(ChatReply(text=text, failure=failure, usage=ChatUsage(int(mask.sum()), len(tokens))))
        return replies

    def _choose(self, requests: list[ChatRequest], spellings: dict[str, list[int]]) -> list[ChatReply]:
        """Log-probabilities of the choices as first token, from one forward."""
        inputs = self.inputs_of(requests)
        # `generate`, not a plain forward: it derives positions from the padding
        output = self.vlm.generate(
            **inputs,
            max_new_tokens=1,
            do_sample=False,
            output_logits=True,
            return_dict_in_generate=True,
            pad_token_id=self._pad_token_id,
            synced_gpus=False,
        )
        logprobs_BV = output.logits[0].float().log_softmax(-1).cpu()
        return [
            ChatReply(
                choice_logprobs={
                    choice: math.log(mass)
                    for choice, tokens in spellings.items()
                    if (mass := logprobs_V[tokens].exp().sum().item()) > 0
                },
                usage=ChatUsage(int(mask.sum()), 1),
            )
            for logprobs_V, mask in zip(logprobs_BV, inputs["attention_mask"], strict=True)
        ]

    def tokens_of(self, choice: str) -> list[int]:
        """Tokens that stand for a choice: with and without a space before it."""
        encoded = [self.processor.tokenizer.encode(text, add_special_tokens=False) for text in (choice, f" {choice}")]
        tokens = sorted({ids[0] for ids in encoded if len(ids) == 1})
        if not tokens:
            raise ValueError(f"{choice!r} is more than one token of {self.model}; use mode='ranks' or 'pointwise'.")
        return tokens


def _fingerprint(model: PreTrainedModel) -> str:
    """Another one for other weights: sixteen values of every tensor, which a training of it would not leave alone."""
    digest = hashlib.blake2b(digest_size=8)
    for name, tensor in model.named_parameters():
        values = tensor.detach().flatten()[:: max(1, tensor.numel() // 16)][:16]
        digest.update(f"{name} {tuple(tensor.shape)}".encode() + values.float().cpu().numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def whole_weights() -> Iterator[None]:
    """
    Load weights whole. Under ZeRO-3 transformers partitions everything that is loaded after `TrainingArguments`, and a
    model that no DeepSpeed engine gathers again is left with parameters of shape (0,).
    """
    reference = hf_deepspeed._hf_deepspeed_config_weak_ref
    config = None if reference is None else reference()
    if config is None:
        yield
        return
    hf_deepspeed.unset_hf_deepspeed_config()
    try:
        yield
    finally:
        hf_deepspeed.set_hf_deepspeed_config(config)
