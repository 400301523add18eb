"""Which settings, alone or together, no run could go well with."""

import math
import re
from importlib.util import find_spec

from ..adapter_names import ROOT


class FlowConfigChecks:
    """A part of [`FlowConfig`], which has the fields; each check raises a `ValueError` that says what to change."""

    def _check_at_least_one(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name}={value} has to be at least 1.")

    def _check_one_of(self, name: str, *allowed: str) -> None:
        value = getattr(self, name)
        if value not in allowed:
            words = [repr(word) for word in allowed]
            raise ValueError(f"{name}={value!r} is not one of {', '.join(words[:-1])} and {words[-1]}.")

    def _check_training(self) -> None:
        if self.max_steps == 0 or (self.max_steps < 0 and self.num_train_epochs <= 0):
            raise ValueError(
                f"max_steps={self.max_steps} with num_train_epochs={self.num_train_epochs} is a training without a step, "
                "and would release the adapter untrained; give max_steps, or max_steps=-1 and num_train_epochs."
            )
        if self.auto_find_batch_size:
            raise ValueError(
                "auto_find_batch_size=True would begin again with rollouts as large as before. Leave it out, and lower "
                "rollout_batch_size, or per_device_train_batch_size with as many more gradient_accumulation_steps."
            )
        if self.neftune_noise_alpha is not None:
            raise ValueError(
                f"neftune_noise_alpha={self.neftune_noise_alpha} is for models with token embeddings; leave it out."
            )
        if not 0 <= self.learning_rate < math.inf:
            raise ValueError(f"learning_rate={self.learning_rate} has to be a finite number, 0 or greater.")
        if self.early_stopping is not None and (self.early_stopping < 1 or self.eval_strategy == "no"):
            raise ValueError(
                f"early_stopping={self.early_stopping} counts evaluations: it has to be at least 1, and needs "
                "`eval_strategy='steps'` with `eval_steps`."
            )

    def _check_adapter(self) -> None:
        name = self.adapter_subfolder
        reserved = (
            "README.md",
            "samples",
            "samples.png",
            "completions",
            "profile",
            "results.json",
            "gallery",
            "space",
        )
        if name not in (None, ROOT) and (
            not re.fullmatch(r"[\w-][\w.-]*", name) or name in reserved or name.startswith("checkpoint-")
        ):
            raise ValueError(
                f"adapter_subfolder={name!r} has to be a plain folder name without slashes, such as 'ARR-FLUX.1-dev', or "
                "'.' for the root of its repository, where it is alone."
            )
        self._check_one_of("reference", "base", "adapter")
        if self.reference == "adapter" and self.adapter_path is None:
            raise ValueError("reference='adapter' needs `adapter_path`, the adapter to hold on to.")

        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise ValueError(
                f"ema_decay={self.ema_decay} is a share, greater than 0 and less than 1; leave it out for none."
            )

    def _check_full_weights(self) -> None:
        """What is of adapters, or of a base that stays as it is, where all weights are trained."""
        if self.use_peft:
            return
        if self.adapter_path is not None:
            raise ValueError(
                f"adapter_path={self.adapter_path!r} is an adapter to go on from, and use_peft=False trains the transformer's own "
                "weights. Leave one of them out; an adapter can be fused into the base before, with `fuse_lora` of diffusers."
            )
        if self.base_precision is not None:
            raise ValueError(
                f"base_precision={self.base_precision!r} keeps a frozen base in 8 bits, in which no optimizer's step fits, and "
                "use_peft=False freezes none of it. Leave one of them out."
            )
        if self.offload_blocks:
            raise ValueError(
                "offload_blocks=True loads frozen weights block by block, and use_peft=False freezes none: their gradients and "
                "the optimizer's state would have to travel too. Leave one of them out, or shard with `--accelerate_config fsdp2`."
            )
        if self.compile_blocks:
            raise ValueError(
                "compile_blocks=True is tried with adapters on frozen weights alone. Leave it out, or use_peft=False."
            )

    def _check_memory(self) -> None:
        if self.base_precision is not None:
            self._check_one_of("base_precision", "fp8", "int8")
        if self.base_precision == "int8" and find_spec("torchao") is None:
            raise ValueError(
                "base_precision='int8' needs torchao; install it with `pip install torchao`, or use 'fp8'."
            )
        if self.offload_blocks and not self.gradient_checkpointing:
            raise ValueError(
                "offload_blocks=True needs gradient_checkpointing=True: without it the backward would need all blocks at "
                "once."
            )
        if self.offload_blocks and self.compile_blocks:
            raise ValueError(
                "compile_blocks=True compiles blocks whose weights stay where they are. Leave it out, or offload_blocks."
            )
        if self.base_precision is not None and self.compile_blocks:
            raise ValueError(
                "compile_blocks=True compiles blocks whose weights are kept in the type that they compute in. Leave it "
                "out, or base_precision."
            )
