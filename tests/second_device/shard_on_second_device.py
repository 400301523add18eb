"""
Trains FLUX.1's 57 blocks, narrow, under FSDP2 on the second device, in every process that `accelerate launch` starts with
fsdp2.yaml. Writes to `figures_<rank>.json` what the base takes, and what this process had in use on the device.

accelerate launch --config_file fsdp2.yaml --num_processes 2 shard_on_second_device.py FOLDER
"""

import json
import os
import sys
from pathlib import Path

import run_on_second_device  # first: it registers the device, for which libraries ask when they are imported
import torch
from accelerate import PartialState
from test_rpo_trainer import trainer_for
from transformers import TrainerCallback


sys.path.append(str(Path(__file__).parents[1] / "distributed"))

from fsdp2_on_cpu import initialize_as_gpus


os.environ["ACCELERATE_TORCH_DEVICE"] = "hpu"
device = run_on_second_device.device
# FSDP2 asks the device's module for streams. It gets those of the CPU, which do nothing: all is done in one, and what gloo
# does in threads of its own is waited for.
device.Stream, device.stream, device.current_stream = torch.cpu.Stream, torch.cpu.stream, torch.cpu.current_stream
device.Event = torch.cpu.Event


class MemoryWhenSharded(TrainerCallback):
    """The base has been sharded, and nothing computed yet."""

    def on_train_begin(self, args, state, control, **kwargs):
        self.peak, self.held = device.max_memory_allocated(), device.memory_allocated()
        device.reset_peak_memory_stats()


def main(folder: Path) -> None:
    PartialState.__init__ = initialize_as_gpus
    torch.manual_seed(0)
    trainer = trainer_for(
        run_on_second_device.build_deep_flux(), folder, per_device_train_batch_size=4, max_steps=1, max_sequence_length=12,
        gradient_checkpointing=True, use_cpu=True, dataloader_pin_memory=False, offload_encoders=True,
    )  # fmt: skip
    try:
        trainer.evaluate(trainer.train_dataset)
    except RuntimeError as error:
        too_early = str(error)
    size = sum(p.nbytes for name, p in trainer.model.named_parameters() if "lora_" not in name)
    sharded = MemoryWhenSharded()
    trainer.add_callback(sharded)
    trainer.train()
    figures = {
        "base": size,
        "peak_of_sharding": sharded.peak,
        "held": sharded.held,
        "peak_of_training": device.max_memory_allocated(),
        "devices": sorted({p.device.type for p in trainer.model.parameters()}),
        "evaluated_before_training": too_early,
    }
    (folder / f"figures_{trainer.args.process_index}.json").write_text(json.dumps(figures))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
