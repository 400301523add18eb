"""
`arr-trl` for judges of random weights, which write letters and no scores: a number read off the letters is the score, and
of some there is none. With fsdp2.yaml as in fsdp2_on_cpu.py.
"""

import os
import runpy
import sys
from pathlib import Path

from arr_trl.cli.main import main
from arr_trl.judge_training import gcpo_trainer


def score_of_letters(preset, text: str) -> float | None:
    total = sum(map(ord, text))
    return None if total % 7 == 0 else total % 5


if __name__ == "__main__":
    gcpo_trainer.score_of = score_of_letters
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        runpy.run_path(str(Path(__file__).with_name("fsdp2_on_cpu.py")), run_name="__main__")
    else:
        sys.exit(main())
