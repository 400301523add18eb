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
    load_mask,
    read_rows,
    sources_digest,
    stored_first_row,
    undecoded,
)
from .load import load_prompts
from .prompt_sets import PROMPT_SETS, find_prompt_set, load_prompt_set, read_prompt_set
from .prompts import check_prompts
from .sizes import SAME_RATIO, SIZE_COLUMNS, Size, batches_of_one_size, places_by_size, size_of_row, sizes_of_rows


# these need torch, and reading pairs, prompts or a rubric's data does not
__getattr__ = from_files(
    __name__,
    {"PartStream": ".stream", "RepeatSampler": ".repeat", "RepeatStream": ".stream", "StreamError": ".stream"},
)
__all__ = [
    "MASK_COLUMN",
    "PROMPT_SETS",
    "SAME_RATIO",
    "SIZE_COLUMNS",
    "SOURCE_COLUMN",
    "PartStream",
    "RepeatSampler",
    "RepeatStream",
    "RowError",
    "Size",
    "StreamError",
    "batches_of_one_size",
    "check_image",
    "check_prompts",
    "check_source",
    "check_sources",
    "decode_columns",
    "decode_sources",
    "find_prompt_set",
    "load_image",
    "load_mask",
    "load_prompt_set",
    "load_prompts",
    "places_by_size",
    "read_prompt_set",
    "read_rows",
    "size_of_row",
    "sizes_of_rows",
    "sources_digest",
    "stored_first_row",
    "undecoded",
]
