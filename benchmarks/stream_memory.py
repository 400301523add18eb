"""
Does a stream of preference data cost constant memory? Reads rows as a training run reads them, shuffled in blocks and
decoded to the size that is trained on, and says what the process has in memory after so many.

python benchmarks/stream_memory.py --output /tmp/stream                    # 100,000 rows of two pictures of 32 x 32 pixels
python benchmarks/stream_memory.py --output /tmp/stream --rows 2000

The data are written once, in files of 10,000 rows. Prints a Markdown table.
"""

import argparse
import io
import time
from pathlib import Path

import psutil
from datasets import Dataset, Features, Image, Value
from PIL import Image as PILImage

from arr_trl.data import PartStream
from arr_trl.data.given_pictures import decode_pairs
from arr_trl.data.preference_rows import preference_rows


SIZE = 32
ROWS_OF_A_FILE = 10_000
BATCH = 32
BLOCK = 256  # the default of `shuffle_buffer_size`
FEATURES = Features({"prompt": Value("string"), "chosen": Image(), "rejected": Image()})


def picture(number: int) -> dict:
    """No two alike among 16 million."""
    content = io.BytesIO()
    PILImage.new("RGB", (SIZE, SIZE), (number % 256, number // 256 % 256, number // 65536)).save(content, "PNG")
    return {"bytes": content.getvalue(), "path": None}


def write(folder: Path, rows: int) -> None:
    """Pairs of pictures, `ROWS_OF_A_FILE` in a file."""
    folder.mkdir(parents=True)
    for start in range(0, rows, ROWS_OF_A_FILE):
        part = [
            {"prompt": f"prompt {i}", "chosen": picture(2 * i), "rejected": picture(2 * i + 1)}
            for i in range(start, min(start + ROWS_OF_A_FILE, rows))
        ]
        Dataset.from_list(part, features=FEATURES).to_parquet(folder / f"train-{start // ROWS_OF_A_FILE:05}.parquet")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=100_000)
    args = parser.parse_args()
    folder = args.output / f"pairs-{args.rows}" / "data"
    if not folder.is_dir():
        write(folder, args.rows)
    process, started = psutil.Process(), time.process_time()
    stream = PartStream(preference_rows(str(folder.parent), streaming=True), BATCH, 1, True, 0, BLOCK)
    rows, seen = [], bytearray(args.rows)  # not a set, which would grow with what it counts
    marks = sorted(
        {count for count in (1000, 2000, 10_000, 25_000, 50_000, 75_000) if count < args.rows} | {args.rows}
    )
    print("| rows | in memory | beside the first 1,000 rows | CPU s |\n|---|---|---|---|")
    base = None
    for count, row in enumerate(stream, start=1):
        rows.append(row)
        seen[row["row"]] = 1
        if len(rows) == BATCH:
            decode_pairs(rows, [row["row"] for row in rows], SIZE, SIZE)
            rows = []
            stream.state_dict(count // BATCH)  # which forgets where earlier steps began
        if count == marks[0]:
            held = process.memory_info().rss / 2**20
            base = held if base is None else base
            print(
                f"| {count:,} | {held:.1f} MB | {held - base:+.1f} MB | {time.process_time() - started:.0f} |",
                flush=True,
            )
            marks.pop(0)
        if not marks:
            break
    print(f"\n{sum(seen):,} different rows.")


if __name__ == "__main__":
    main()
