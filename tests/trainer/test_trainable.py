"""Which layers of a base carry the adapter that is trained."""

import pytest
import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from tiny_pipelines import build_flux

from arr_trl import FluxPolicy, RPOConfig
from arr_trl.trainer.trainable import make_trainable


@pytest.mark.parametrize(("targets", "ending"), [("all-linear", ""), (r".*attn\.to_[qk]", (".to_q", ".to_k"))])
def test_all_layers_or_those_of_a_pattern_are_trained(tmp_path, targets, ending):
    policy = FluxPolicy(build_flux())
    linear = {name for name, m in policy.pipeline.transformer.named_modules() if isinstance(m, torch.nn.Linear)}
    args = RPOConfig(output_dir=str(tmp_path), bf16=False, use_cpu=True, report_to=[])
    model = make_trainable(policy, args, LoraConfig(r=2, target_modules=targets), None)
    trained = {name for name, m in model.get_base_model().named_modules() if isinstance(m, LoraLayer)}
    assert trained == {name for name in linear if name.endswith(ending)}
