"""
`arr-trl` with FSDP2 on CPUs, in every process that `accelerate launch` starts with fsdp2.yaml:

accelerate launch --config_file fsdp2.yaml --num_processes 2 fsdp2_on_cpu.py rpo --use_cpu true ...

accelerate shards on GPUs and the like alone; where it finds processes on CPUs it ignores the FSDP settings and takes
DDP, although torch shards there as well. The one trick here is to call them GPUs. It is the name by which accelerate
chooses, not a device: everything stays on the CPU, and gloo carries it.
"""

import json
import sys
from pathlib import Path

from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor
from transformers import TrainerCallback
from transformers.trainer import DEFAULT_CALLBACKS

from arr_trl.cli.main import main


initialize = PartialState.__init__


def initialize_as_gpus(state, *args, **kwargs):
    initialize(state, *args, **kwargs)
    if state.distributed_type == DistributedType.MULTI_CPU:
        state.distributed_type = DistributedType.MULTI_GPU


class WriteShares(TrainerCallback):
    """`share_<rank>.json`: which part of base and adapter this process holds; `forwards_<rank>.txt`: how many it ran."""

    def on_train_begin(self, args, state, control, model, **kwargs):
        self.forwards = 0
        model.register_forward_pre_hook(self.count)

    def count(self, *_):
        self.forwards += 1

    def on_train_end(self, args, state, control, model, **kwargs):
        held, all_of_it = {"base": 0, "adapter": 0}, {"base": 0, "adapter": 0}
        for name, parameter in model.named_parameters():
            kind = "adapter" if "lora_" in name else "base"
            all_of_it[kind] += parameter.numel()
            held[kind] += (parameter.to_local() if isinstance(parameter, DTensor) else parameter).numel()
        # without an adapter, of the base alone
        shares = {kind: held[kind] / count for kind, count in all_of_it.items() if count}
        Path(args.output_dir, f"forwards_{args.process_index}.txt").write_text(str(self.forwards))
        Path(args.output_dir, f"share_{args.process_index}.json").write_text(json.dumps(shares))


if __name__ == "__main__":
    PartialState.__init__ = initialize_as_gpus
    DEFAULT_CALLBACKS.append(WriteShares)
    sys.exit(main())
