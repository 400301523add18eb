"""Each rank of a ZeRO-3 training loads a model for itself and one for its judge, and asks that; see test_local_zero3.py."""

import json
import os
import sys
from pathlib import Path

import torch.distributed
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.integrations import is_deepspeed_zero3_enabled

from arr_trl import RPOConfig
from arr_trl.chat import ChatRequest
from arr_trl.chat.local import LocalChatModel


ZERO_3 = {"zero_optimization": {"stage": 3}, "train_micro_batch_size_per_gpu": 1}


def question(**settings) -> ChatRequest:
    content = [{"type": "text", "text": "Which?"}, {"type": "image", "image": Image.new("RGB", (40, 30), "red")}]
    return ChatRequest([{"role": "user", "content": content}], **settings)


def main(folder: str, output: str) -> None:
    args = RPOConfig(  # kept: ZeRO-3 ends with the arguments that asked for it
        output_dir=output, use_cpu=True, bf16=False, report_to=[], deepspeed=ZERO_3
    )
    rank = int(os.environ["RANK"])
    partitioned = AutoModelForImageTextToText.from_pretrained(folder)
    try:
        LocalChatModel(partitioned, AutoProcessor.from_pretrained(folder))
        refused = None
    except ValueError as error:
        refused = str(error)
    model = LocalChatModel(folder, batch_size=1)
    # ranks judge different numbers of images: one must not wait for the other
    texts = [reply.text for reply in model.complete([question(max_tokens=4)] * (1 + 2 * rank))]
    (choice,) = model.complete([question(choices=("1", "2"))])
    found = {
        "processes": args.world_size,
        "zero3": is_deepspeed_zero3_enabled(),
        "partitioned": [parameter.numel() for parameter in partitioned.parameters()],
        "refused": refused,
        "texts": texts,
        "choice": choice.choice_logprobs,
    }
    Path(output, f"rank{rank}.json").write_text(json.dumps(found))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
