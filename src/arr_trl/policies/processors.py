"""Processors of vision-language encoders, which transformers cannot load whole without torchvision."""

from typing import Any

from transformers import ProcessorMixin, Qwen3VLProcessor
from transformers.utils import is_torchvision_available

from .files import file_kwargs


class ImageOnlyQwen3VLProcessor(Qwen3VLProcessor):
    """`Qwen3VLProcessor` without its video processor, the only part that needs torchvision: pipelines hand it pictures."""

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kwargs):
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template)


def with_processor(
    processor_class: type[ProcessorMixin], model: str, init_kwargs: dict[str, Any], name: str = "processor"
) -> dict[str, Any]:
    """Arguments of a pipeline's `from_pretrained`, its processor, the component `name`, among them where torchvision is missing."""
    if is_torchvision_available() or name in init_kwargs:
        return init_kwargs
    processor = processor_class.from_pretrained(model, subfolder=name, **file_kwargs(init_kwargs))
    return init_kwargs | {name: processor}
