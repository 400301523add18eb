"""With how many threads the networks of TinyScenes compute, and how long a run then takes."""

import os

import torch


# of the transformer, with all that goes with it, on a core of an AMD EPYC that has nothing else to do: see
# docs/source/benchmarks.md
_SECONDS_PER_PASS, _SECONDS_PER_PASS_OF_EDITS = 1e-3, 2e-3


def use_one_thread() -> None:
    """
    Compute with one thread, unless the environment says how many.

    Two are no faster on layers this small, and wait for each other at every one of them: where the cores have other
    work, a rollout takes ten to thirty times as long.
    """
    if not {"OMP_NUM_THREADS", "MKL_NUM_THREADS"} & os.environ.keys():
        torch.set_num_threads(1)


def how_long(passes: float, steps: int, edits: bool = False) -> str:
    """
    What to expect of a run on TinyScenes, in a sentence.

    Args:
        passes (`float`): forwards and backwards of the transformer for an optimizer step, one for each picture.
        steps (`int`): optimizer steps; 0 or fewer where they are not known yet.
        edits (`bool`, *optional*, defaults to `False`): whether the editor is trained.
    """
    seconds = passes * (_SECONDS_PER_PASS_OF_EDITS if edits else _SECONDS_PER_PASS)
    length = f"{steps * seconds:.0f} s" if steps * seconds < 60 else f"{steps * seconds / 60:.0f} min"
    in_all = f", about {length} for {steps} steps" if steps > 0 else ""
    threads = torch.get_num_threads()
    return (
        f"With {threads} thread{'s' * (threads > 1)} a step takes about {seconds:.1g} s on a free core{in_all}; several times "
        "that where others work on it."
    )
