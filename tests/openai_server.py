"""An OpenAI-compatible server on loopback that answers with any chat model, and misbehaves on demand."""

import base64
import io
import json
import socket
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image

from arr_trl.chat import ChatRequest


@dataclass
class Answer:
    """What the server sends: a chat completion with `text`, unless a raw `body`, a hang or a reset is asked for."""

    text: str | None = None
    status: int = 200
    headers: dict = field(default_factory=dict)
    body: bytes | None = None
    finish_reason: str = "stop"
    top_logprobs: list[tuple[str, float]] | None = None
    hang_s: float = 0.0
    reset: bool = False


def checks_pass(number: int, body: dict) -> Answer | None:
    """As `respond`: the question whether the judge is there is answered, and any other left to the chat model."""
    return Answer("OK") if body["messages"][0]["content"][0]["text"] == "Say OK." else None


def is_rehearsal(body: dict) -> bool:
    """Whether this is the real question about flat pictures that a run asks before it loads anything."""
    content = [part for message in body["messages"] for part in message["content"] if isinstance(part, dict)]
    urls = [part["image_url"]["url"] for part in content if part["type"] == "image_url"]
    images = [Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB") for url in urls]
    return (
        bool(images)
        and body.get("max_tokens") != 1
        and all(len(image.getcolors(9) or "many") == 1 for image in images)
    )


class OpenAIServer:
    """
    Use as a context manager. `respond(number, body)` gets the number of the request, from 0, and its JSON, and returns
    an [`Answer`], or `None` to let `chat_model` answer.
    """

    def __init__(self, chat_model=None, respond: Callable | None = None, latency_s: float = 0.0):
        self.chat_model = chat_model
        self.respond = respond or (lambda number, body: None)
        self.latency_s = latency_s
        self.requests: list[dict] = []
        self.headers: list[dict] = []
        self.paths: list[str] = []
        self.in_flight = self.most_in_flight = 0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, *args):
                pass

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with server._lock:
                    number = len(server.requests)
                    server.requests.append(body)
                    server.paths.append(self.path)
                    server.headers.append({k.lower(): v for k, v in self.headers.items()})
                    server.in_flight += 1
                    server.most_in_flight = max(server.most_in_flight, server.in_flight)
                try:
                    time.sleep(server.latency_s)
                    self.send(server.respond(number, body) or server._answer(body))
                finally:
                    with server._lock:
                        server.in_flight -= 1

            def send(self, answer: Answer):
                if answer.hang_s:
                    time.sleep(answer.hang_s)
                if answer.reset:
                    # closing with unread time of 0 sends RST instead of FIN
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                    self.close_connection = True
                    return
                payload = answer.body if answer.body is not None else _completion(answer)
                try:
                    self.send_response(answer.status)
                    for name, value in {"content-type": "application/json", **answer.headers}.items():
                        self.send_header(name, value)
                    self.send_header("content-length", str(len(payload)))
                    self.end_headers()
                    self.wfile.write(payload)
                except OSError:  # the client has gone, as it should after a hang
                    self.close_connection = True

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request, client_address):
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self):
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *exc):
        self._server.shutdown()
        self._server.server_close()

    def _answer(self, body: dict) -> Answer:
        (reply,) = self.chat_model.complete([chat_request(body)])
        return Answer(text=reply.text)


def chat_request(body: dict) -> ChatRequest:
    """The request that an OpenAI body stands for, images decoded."""
    messages = []
    for message in body["messages"]:
        content = []
        for part in message["content"]:
            if part["type"] == "image_url":
                data = base64.b64decode(part["image_url"]["url"].partition("base64,")[2])
                part = {"type": "image", "image": Image.open(io.BytesIO(data)).convert("RGB")}
            content.append(part)
        messages.append({"role": message["role"], "content": content})
    return ChatRequest(messages, json_schema=(body.get("response_format") or {}).get("json_schema", {}).get("schema"))


def _completion(answer: Answer) -> bytes:
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": answer.text},
        "finish_reason": answer.finish_reason,
    }
    if answer.top_logprobs is not None:
        top = [{"token": token, "logprob": logprob} for token, logprob in answer.top_logprobs]
        choice["logprobs"] = {"content": [{**top[0], "top_logprobs": top}]}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    return json.dumps({"id": "1", "model": "judge", "created": 0, "choices": [choice], "usage": usage}).encode()
