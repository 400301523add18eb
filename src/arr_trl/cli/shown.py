"""What dry runs show of what would be asked."""

import json
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from ..chat import ChatRequest


def print_request(request: "ChatRequest") -> None:
    """A request in full, with the size in place of each picture."""
    for part in (part for message in request.messages for part in message["content"]):
        image = part.get("image")
        print(part["text"] if image is None else f"<image of {image.width}x{image.height} pixels>")
    print(f"--- JSON schema of the reply ---\n{json.dumps(request.json_schema, indent=2)}")
