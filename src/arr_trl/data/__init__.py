from ..lazy import from_files
from .hub import check_source
from .images import (
    MASK_COLUMN,
    SOURCE_COLUMN,
    RowError,
    check_image,
    check_sources,
    decode_columns,
    decode_sources,
    load_image,
    read_rows,
    sources_digest,
    undecoded,
)
from .load import load_prompts
from .prompt_sets import PROMPT_SETS, find_prompt_set, load_prompt_set, read_prompt_set
from .prompts import check_prompts


# these need torch, and reading pairs, prompts or a rubric's data does not
__getattr__ = from_files(
    __name__,
    {"PartStream": ".stream", "RepeatSampler": ".repeat", "RepeatStream": ".stream", "StreamError": ".stream"},
)
__all__ = [
    "MASK_COLUMN",
    "PROMPT_SETS",
    "SOURCE_COLUMN",
    "PartStream",
    "RepeatSampler",
    "RepeatStream",
    "RowError",
    "StreamError",
    "check_image",
    "check_prompts",
    "check_source",
    "check_sources",
    "decode_columns",
    "decode_sources",
    "find_prompt_set",
    "load_image",
    "load_prompt_set",
    "load_prompts",
    "read_prompt_set",
    "read_rows",
    "sources_digest",
    "undecoded",
]
