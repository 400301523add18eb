"""
What of transformers, TRL, accelerate and torch is not public and is overridden or called here. When one of them moves it,
this says which library and which name, before a run fails in the middle.
"""

import ast
import inspect
import threading
from importlib import import_module
from importlib.metadata import requires, version
from pathlib import Path

import pytest
import torch
from torch.nn.parallel import DistributedDataParallel
from trl import GRPOTrainer, SFTTrainer
from trl.trainer.base_trainer import _BaseTrainer

import arr_trl
from arr_trl.judge_training import FirstTokenSFTTrainer, GCPOTrainer
from arr_trl.runtime import ResumableTrainer
from arr_trl.trainer import RPOTrainer


# Methods of Trainer that are overridden or called, with the parameters that they are relied on to have.
HOOKS = {
    "_determine_best_metric": ("metrics", "trial"),
    "_finish_current_push": (),
    "_get_dataloader": ("dataset", "description", "batch_size", "sampler_fn", "is_training"),
    "_get_num_items_in_batch": ("batch_samples", "device"),
    "_get_grad_norm": ("model", "grad_norm"),
    "_get_output_dir": ("trial",),
    "_get_train_sampler": ("train_dataset",),
    "_load_best_model": (),
    "_load_from_checkpoint": ("resume_from_checkpoint", "model"),
    "_load_optimizer_and_scheduler": ("checkpoint",),
    "_load_rng_state": ("checkpoint",),
    "_prepare_for_training": ("max_steps", "train_dataloader", "resume_from_checkpoint"),
    "_prepare_inputs": ("inputs",),
    "_push_from_checkpoint": ("checkpoint_folder",),
    "_run_epoch": ("resume_from_checkpoint",),
    "_save": ("output_dir", "state_dict"),
    "_save_checkpoint": ("model", "trial"),
    "_save_optimizer_and_scheduler": ("output_dir",),
    "_save_rng_state": ("output_dir",),
    "_send_telemetry": (),
    "compute_loss": ("model", "inputs", "return_outputs", "num_items_in_batch"),
    "create_optimizer": (),
    "get_batch_samples": ("epoch_iterator", "num_batches", "device"),
    "init_hf_repo": ("token", "private"),
    "save_model": ("output_dir", "_internal_call"),
    "training_step": ("model", "inputs", "num_items_in_batch"),
}
# Where a name that is not in a library's documentation is imported from.
IMPORTS = {
    "accelerate.utils": ("AutocastKwargs", "DistributedType", "gather_object"),
    "peft.tuners.lora": ("Linear",),
    "peft.tuners.tuners_utils": ("BaseTunerLayer",),
    "peft.utils.other": ("AuxiliaryTrainingWrapper",),
    "torch._dynamo": ("config",),
    "torch.serialization": ("default_restore_location",),
    "torch.utils._python_dispatch": ("TorchDispatchMode",),
    "torch.utils._pytree": ("tree_leaves", "tree_map_only"),
    "transformers.image_utils": ("OPENAI_CLIP_MEAN", "OPENAI_CLIP_STD"),
    "transformers.models.qwen2_vl.image_processing_pil_qwen2_vl": ("smart_resize",),
    "transformers.trainer": ("OPTIMIZER_NAME", "SCHEDULER_NAME", "TRAINER_STATE_NAME"),
    "transformers.trainer_utils": ("HubStrategy", "rotate_checkpoints"),
    "transformers.utils": ("ADAPTER_SAFE_WEIGHTS_NAME", "find_adapter_config_file"),
    "trl.trainer.base_config": ("_BaseConfig",),
    "trl.trainer.base_trainer": ("_BaseTrainer",),
    "trl.trainer.utils": ("get_callable_name",),
}
# State of a Trainer in training that checkpoints keep: what its source calls it.
STATE = ("_tr_loss", "_globalstep_last_logged", "model_wrapped", "callback_handler", "is_fsdp_enabled")


def library_of(method) -> str:
    library = method.__module__.split(".")[0]
    return f"{library} {version(library)}"


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_of_trainer_is_there_with_its_parameters(name):
    library = library_of(_BaseTrainer)
    method = getattr(_BaseTrainer, name, None)
    assert method is not None, f"{library}: Trainer.{name} is gone; look for what took its place."
    parameters = inspect.signature(method).parameters
    missing = [parameter for parameter in HOOKS[name] if parameter not in parameters]
    assert not missing, f"{library_of(method)}: Trainer.{name} has no {', '.join(missing)} any more."


@pytest.mark.parametrize("module", IMPORTS)
def test_a_private_import_is_where_it_was(module):
    library = module.split(".")[0]
    found = import_module(module)
    for name in IMPORTS[module]:
        assert hasattr(found, name), f"{library} {version(library)}: {module}.{name} is gone."


@pytest.mark.parametrize("name", STATE)
def test_state_of_trainer_is_called_as_checkpoints_take_it(name):
    source = inspect.getsource(import_module("transformers.trainer"))
    assert f"self.{name}" in source, f"transformers {version('transformers')}: Trainer.{name} is gone."


def test_what_is_called_of_torch_python_and_accelerate():
    assert callable(DistributedDataParallel._set_params_and_buffers_to_ignore_for_model), (
        "torch: see runtime/memory.py"
    )
    assert callable(torch.ops.aten._scaled_dot_product_flash_attention), "torch: see runtime/counted.py"
    assert callable(threading._register_atexit), "Python: see chat/at_exit.py"
    source = inspect.getsource(import_module("accelerate.accelerator"))
    for name in ("autocast_handler", "is_fsdp2", "scaler"):
        assert f"self.{name}" in source or f"def {name}" in source, (
            f"accelerate {version('accelerate')}: {name} is gone."
        )


def test_what_trainers_of_judges_take_of_trls_is_there():
    head = import_module("trl.trainer.utils").FusedCausalLMOutput
    assert {"log_probs", "label_mask", "is_top1"} <= head.__dataclass_fields__.keys(), f"trl {version('trl')}"
    for trainer in (SFTTrainer, GRPOTrainer):
        source = inspect.getsource(trainer)
        assert "self._metrics[mode]" in source, f"trl {version('trl')}: {trainer.__name__}._metrics is gone."
    assert "fused_lm_head=True" in inspect.getsource(SFTTrainer.compute_loss), f"trl {version('trl')}"


def test_every_hook_that_is_overridden_stands_in_this_file():
    ours = {
        name
        for cls in {*RPOTrainer.__mro__, *FirstTokenSFTTrainer.__mro__, *GCPOTrainer.__mro__}
        if cls.__module__.startswith("arr_trl")
        for name in vars(cls)
        if name.startswith("_") and not name.startswith("__") and callable(getattr(_BaseTrainer, name, None))
    }
    assert ours - HOOKS.keys() == set()
    assert not issubclass(ResumableTrainer, _BaseTrainer)  # a mixin: trainers of TRL have it too


def test_a_private_import_stands_in_one_file():
    found: dict[tuple[str, str], list[str]] = {}
    source = Path(arr_trl.__file__).parent
    for path in source.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("trl.trainer"):
                for alias in node.names:
                    found.setdefault((node.module, alias.name), []).append(str(path.relative_to(source)))
    assert {name: files for name, files in found.items() if len(files) > 1} == {}
    assert {module for module, _ in found} == {module for module in IMPORTS if module.startswith("trl.")}


@pytest.mark.parametrize("library", ["transformers", "trl", "accelerate"])
def test_the_next_major_version_is_not_installed_by_itself(library):
    (requirement,) = (r for r in requires("arr_trl") if r.startswith(library) and "extra" not in r)
    assert "<" in requirement, f"{requirement}: this file says what would have to be looked at first."
