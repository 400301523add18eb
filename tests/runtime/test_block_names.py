"""FSDP2 is told of the blocks that a model has, and of no others."""

from types import SimpleNamespace

import pytest
from torch import nn

from arr_trl.runtime.sharding import name_blocks


class Block(nn.Linear):
    pass


class Model(nn.Module):
    _no_split_modules = ("Block", "BlockOfAPartThatIsNotThere")

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([Block(1, 1)])


@pytest.mark.parametrize(("asked", "found"), [(None, ["Block"]), (["Linear"], ["Linear"])])
def test_a_model_that_names_blocks_of_other_parts_is_sharded_by_its_own(asked, found):
    plugin = SimpleNamespace(transformer_cls_names_to_wrap=asked)
    name_blocks(SimpleNamespace(state=SimpleNamespace(fsdp_plugin=plugin)), Model())
    assert plugin.transformer_cls_names_to_wrap == found
