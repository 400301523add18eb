"""
What tells pictures, and models on a disk, apart. Judges that need no torch file their answers by it, so that it imports
nothing heavy.
"""

import hashlib
import json
from pathlib import Path

from PIL import Image


_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_CONFIGURATIONS = ("model_index.json", "config.json", "scheduler_config.json")
_SAMPLES, _SAMPLE = 64, 4096  # of each weight file, in bytes


def image_digest(image: Image.Image) -> str:
    """
    Digest of a picture's pixels, wherever it came from. The keys of verdict stores are made of it: with another
    algorithm everything that was judged would be asked again.

    Args:
        image (`PIL.Image.Image`): the picture, of any mode.

    Returns:
        `str`: 32 hexadecimal digits.
    """
    digest = hashlib.blake2b(f"{image.mode} {image.size}".encode(), digest_size=16)
    digest.update(image.tobytes())
    return digest.hexdigest()


def model_digest(path: Path) -> str:
    """
    Digest of a model or an adapter on a disk, whatever its folder is called: its configuration files, and of each weight
    file the size and samples from all over it, so that a base of many gigabytes takes no time. Other files, and what
    diffusers notes under names with an underscore (a version, where it was loaded from), do not count.

    Args:
        path (`Path`): a folder, or one weight file.

    Returns:
        `str`: 16 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=8)
    for file in [path] if path.is_file() else sorted(path.rglob("*")):
        inside = file.relative_to(path).as_posix()
        if file.name in _CONFIGURATIONS:
            kept = {name: value for name, value in json.loads(file.read_bytes()).items() if not name.startswith("_")}
            digest.update(f"{inside} {json.dumps(kept, sort_keys=True)}".encode())
        elif file.suffix in _WEIGHTS and file.is_file():
            size = file.stat().st_size
            digest.update(f"{inside} {size}".encode())
            with file.open("rb") as stream:
                for sample in range(_SAMPLES):
                    stream.seek(sample * max(size - _SAMPLE, 0) // (_SAMPLES - 1))
                    digest.update(stream.read(_SAMPLE))
    return digest.hexdigest()
