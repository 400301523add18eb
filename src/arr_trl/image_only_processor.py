"""The processor of Qwen's vision-language models where torchvision is not installed."""

from transformers import Qwen2VLProcessor


class ImageOnlyProcessor(Qwen2VLProcessor):
    """
    `Qwen2VLProcessor` without its video processor, the only part that needs torchvision: pipelines and judges hand it
    pictures alone, which those of Qwen2.5-VL and Qwen3-VL make the same tokens of.
    """

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kwargs):
        super().__init__(image_processor, tokenizer, None, chat_template=chat_template)
