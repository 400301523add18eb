from .load import load_prompts
from .prompt_sets import PROMPT_SETS, find_prompt_set, load_prompt_set, read_prompt_set
from .prompts import check_prompts
from .repeat import RepeatSampler
from .stream import RepeatStream, StreamError


__all__ = [
    "PROMPT_SETS",
    "RepeatSampler",
    "RepeatStream",
    "StreamError",
    "check_prompts",
    "find_prompt_set",
    "load_prompt_set",
    "load_prompts",
    "read_prompt_set",
]
