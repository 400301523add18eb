from .hub import check_source
from .load import load_prompts
from .prompts import check_prompts
from .repeat import RepeatSampler
from .stream import RepeatStream, StreamError


__all__ = ["RepeatSampler", "RepeatStream", "StreamError", "check_prompts", "check_source", "load_prompts"]
