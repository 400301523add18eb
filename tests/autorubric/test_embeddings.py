import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest

from arr_trl.autorubric.embeddings import ServerEmbedder
from arr_trl.judges import VerdictStore


@pytest.fixture
def server():
    """An `/embeddings` endpoint: the length of a text and 1, in reversed order; `texts` has what was asked."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            httpd.texts += body["input"]
            httpd.authorization = self.headers.get("authorization")
            data = [{"index": i, "embedding": [float(len(t)), 1.0]} for i, t in enumerate(body["input"])]
            payload = json.dumps({"data": data[::-1]}).encode()
            self.send_response(404 if body["model"] == "unknown" else 200)
            self.send_header("content-length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.texts = []
    httpd.url = f"http://127.0.0.1:{httpd.server_port}/v1"
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    yield httpd
    httpd.shutdown()
    httpd.server_close()


def test_embeddings_come_in_order_and_are_paid_for_once(server, tmp_path):
    store = VerdictStore(tmp_path / "rubric.sqlite")
    embed = ServerEmbedder("e", server.url, store, api_key="secret")
    assert np.array_equal(embed(["ab", "abc", "ab"]), [[2, 1], [3, 1], [2, 1]])
    assert server.texts == ["ab", "abc"]
    assert server.authorization == "Bearer secret"
    ServerEmbedder("e", server.url, VerdictStore(tmp_path / "rubric.sqlite"))(["abc", "abcd"])
    assert server.texts == ["ab", "abc", "abcd"]


def test_a_server_without_embeddings_is_told_in_a_sentence(server):
    with pytest.raises(ConnectionError, match=r"no embeddings of unknown at .*404.*embedding_base_url"):
        ServerEmbedder("unknown", server.url, VerdictStore())(["a"])
    with pytest.raises(ConnectionError, match="no embeddings of e at"):
        ServerEmbedder("e", "http://127.0.0.1:9/v1", VerdictStore())(["a"])


def test_password_in_the_address_is_refused_and_not_shown():
    with pytest.raises(ValueError, match=r"embedding_base_url='http://host/v1' was given with .*`api_key`") as caught:
        ServerEmbedder("e", "http://user:hunter2@host/v1", VerdictStore())
    assert "hunter2" not in str(caught.value)
