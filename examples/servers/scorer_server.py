# /// script
# dependencies = ["pillow"]
# ///
"""A server for any scorer, in an environment of its own, which `arr_trl.rewards.HTTPScorer` asks.
It needs Pillow alone: `python scorer_server.py my_scorer.score --port 8100`. `my_scorer.py` has a function `score(images, prompts, sources, metadata)` that returns a number per picture, or `None` where
there is none. All four are lists with an entry per picture: PIL images; captions; lists of the pictures that were edited;
dictionaries of the dataset's other columns.
"""

import argparse
import base64
import io
import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import import_module

from PIL import Image


def picture(data):
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


def make_server(score, port=0):
    one_at_a_time = threading.Lock()  # most scorers stand no two threads

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            try:
                asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
                images = [picture(data) for data in asked["images"]]
                sources = [[picture(data) for data in of_one] for of_one in asked["sources"]]
                with one_at_a_time:
                    # no pictures: somebody asks whether anybody is there
                    scores = score(images, asked["prompts"], sources, asked["metadata"]) if images else []
                status, answer = 200, {"scores": [None if s is None else float(s) for s in scores]}
            except Exception as error:
                status, answer = 500, {"error": f"{type(error).__name__}: {error}"}
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-length", len(body))
            self.end_headers()
            self.wfile.write(body)

    return ThreadingHTTPServer(("127.0.0.1", port), Handler)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("score", help="dotted path of the function, such as my_scorer.score")
    parser.add_argument("--port", type=int, default=8100)
    args = parser.parse_args()
    sys.path.insert(0, os.getcwd())
    module, _, name = args.score.rpartition(".")
    server = make_server(getattr(import_module(module), name), port=args.port)
    print(f"http://127.0.0.1:{server.server_port}/score")
    server.serve_forever()
