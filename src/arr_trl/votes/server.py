"""The voting page on loopback: plain HTTP, the look of the report, nothing from outside."""

import hashlib
import json
import logging
import sys
import threading
from collections.abc import Iterable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from ..evaluation.page import KINDS_OF_FAULTS, asset, json_of_page, page_environment
from .agreement import agreement_of
from .book import Vote, VoteBook, VotingPair
from .printed import agreement_html
from .sources import IMAGES


_LONGEST_BODY = 20_000  # bytes
_LONGEST = {"rater": 60, "reason": 1000}  # characters, as the page has it
_POLICY = "default-src 'none'; img-src 'self' data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'"
logger = logging.getLogger(__name__)


class VotingServer:
    """
    Serves pairs to whoever votes on this machine. Pairs are read in the background, so that voting begins with the first.

    Args:
        pairs (`Iterable[VotingPair]`): what is voted on, in this order.
        book ([`VoteBook`]): keeps the votes; pictures lie beside it.
        title (`str`): what the pairs are.
        port (`int`, *optional*, defaults to `0`): port on loopback; 0 takes one that is free.

    Raises:
        `OSError`: when the port is taken.
    """

    def __init__(self, pairs: Iterable[VotingPair], book: VoteBook, title: str, port: int = 0):
        self.book = book
        self.title = title
        self.pairs: dict[str, VotingPair] = {}
        self.reading = True
        self.problem: str | None = None
        try:
            self._server = _Server(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise OSError(f"port={port} cannot be used ({error.strerror}); choose another, or 0 for any.") from error
        self._server.voting = self
        self.port = self._server.server_port
        self.url = f"http://127.0.0.1:{self.port}/"
        self._threads = [
            threading.Thread(target=self._read, args=(pairs,), daemon=True),
            threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True),
        ]

    def __enter__(self) -> "VotingServer":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: Any) -> None:
        self._server.shutdown()
        self._server.server_close()

    def wait_until_read(self) -> None:
        """Until all pairs are there."""
        self._threads[0].join()

    def page(self) -> str:
        """The page in HTML."""
        template = page_environment("arr_trl.votes").get_template("vote.html.jinja2")
        return template.render(
            title=self.title,
            kinds=json_of_page(KINDS_OF_FAULTS),
            policy=_POLICY,
            style=asset("templates/report.css") + asset("templates/vote.css"),
            script=asset("templates/vote.js") + asset("templates/ballot.js", "arr_trl.votes"),
        )

    def agreement_page(self) -> str:
        """How raters agree, in HTML."""
        return agreement_html(self.title, agreement_of(self.book.rows()), _POLICY)

    def state(self, rater: str, former: Vote | None = None) -> dict[str, Any]:
        """What a rater is shown next; `former` is a vote that was taken back, whose words are shown again."""
        done = self.book.done(rater)
        known = list(self.pairs.values())  # at one moment: the reading thread adds to it
        waiting = [pair for pair in known if pair.key not in done]
        return {
            "pair": self._shown(waiting[0], rater, former) if waiting else None,
            "next": [f"/{path}" for path in waiting[1].images] if len(waiting) > 1 else [],
            "done": len(known) - len(waiting),
            "total": len(known),
            "reading": self.reading,
            "undo": bool(done),
            "problem": self.problem,
        }

    def vote(self, said: dict[str, Any]) -> dict[str, Any]:
        """
        Keep a vote as the page sends it, and say what is shown next.

        Raises:
            `ValueError`: when it is none.
        """
        rater, reason = (_text(said, name) for name in ("rater", "reason"))
        pair = self.pairs.get(_text(said, "pair"))
        if pair is None:
            raise ValueError("There is no such pair; load the page again.")
        order = sides_of(pair.key, rater)
        choice = said.get("choice")
        if choice not in ("left", "right", "tie", "skip"):
            raise ValueError(f"A vote is left, right, tie or skip, not {choice!r}.")
        faults = said.get("faults")
        if not isinstance(faults, dict) or any(
            not isinstance(faults.get(side), list) or not set(faults[side]) <= set(KINDS_OF_FAULTS) for side in order
        ):
            raise ValueError(f"Faults are lists of {', '.join(KINDS_OF_FAULTS)} for each side.")
        of_images = tuple(tuple(sorted(set(faults[side]))) for side in order)
        named = str(order.index(choice)) if choice in order else choice
        self.book.cast(pair, Vote(rater, pair.key, named, reason, of_images))
        return self.state(rater)

    def undo(self, rater: str) -> dict[str, Any]:
        """Take back a rater's latest vote, and show its pair again."""
        return self.state(rater, self.book.undo(rater))

    def _shown(self, pair: VotingPair, rater: str, former: Vote | None) -> dict[str, Any]:
        order = sides_of(pair.key, rater)
        shown = {"key": pair.key, "prompt": pair.prompt, "source": [f"/{path}" for path in pair.source]}
        shown["mask"] = None if pair.mask is None else f"/{pair.mask}"
        for side, path in zip(order, pair.images, strict=True):
            shown |= {side: f"/{path}", f"{side}Link": f"/{path}"}
        if former is not None and former.pair == pair.key:
            shown |= {"reason": former.reason, "faults": dict(zip(order, former.faults, strict=True))}
        return shown

    def _read(self, pairs: Iterable[VotingPair]) -> None:
        try:
            for pair in pairs:
                self.pairs.setdefault(pair.key, pair)
        except Exception as error:  # the thread's end would say nothing to those who vote
            logger.exception("The pairs cannot be read further.")
            self.problem = f"The pairs cannot be read further: {error}"
        self.reading = False


def sides_of(key: str, rater: str) -> tuple[str, str]:
    """Where the two pictures of a pair stand for a rater: drawn from both names, so that they stay there."""
    digest = hashlib.blake2b(f"{key}\0{rater}".encode(), digest_size=1).digest()
    return ("right", "left") if digest[0] & 1 else ("left", "right")


def _text(said: dict[str, Any], name: str) -> str:
    text = said.get(name)
    if not isinstance(text, str) or len(text) > _LONGEST.get(name, 100):
        raise ValueError(f"`{name}` has to be text of at most {_LONGEST.get(name, 100)} characters.")
    return " ".join(text.encode("utf-8", "replace").decode().split())


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    voting: VotingServer

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that leaves in the middle of a picture is no news; anything else is a line in the log."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            logger.exception("A request to the voting page failed.")


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        if not self._is_for_us():
            return
        voting, url = self.server.voting, urlsplit(self.path)
        if url.path == "/":
            self._send(voting.page().encode(), "text/html; charset=utf-8")
        elif url.path == "/agreement":
            self._send(voting.agreement_page().encode(), "text/html; charset=utf-8")
        elif url.path == "/state":
            self._answer(lambda: voting.state(_text({"rater": parse_qs(url.query).get("rater", [""])[0]}, "rater")))
        elif url.path.startswith(f"/{IMAGES}/") and (picture := self._picture(url.path)).is_file():
            self._send(picture.read_bytes(), "image/png", {"Cache-Control": "max-age=86400, immutable"})
        else:
            self._send(b"There is nothing here.", "text/plain", status=HTTPStatus.NOT_FOUND)

    def do_POST(self) -> None:
        if not self._is_for_us():
            return
        length = self.headers.get("content-length", "")
        short = length.isdecimal() and int(length) <= _LONGEST_BODY
        if not short or self.headers.get_content_type() != "application/json":
            self.close_connection = True  # what it sent stays unread
            self._send(b"A vote is a short JSON object.", "text/plain", status=HTTPStatus.BAD_REQUEST)
            return
        body = self.rfile.read(int(length))
        voting = self.server.voting

        def answer() -> dict[str, Any]:
            said = json.loads(body)
            if not isinstance(said, dict):
                raise ValueError("A vote is a JSON object.")
            return voting.undo(_text(said, "rater")) if self.path == "/undo" else voting.vote(said)

        if self.path in ("/vote", "/undo"):
            self._answer(answer)
        else:
            self._send(b"There is nothing here.", "text/plain", status=HTTPStatus.NOT_FOUND)

    def log_message(self, *args: Any) -> None:
        """Nothing: a line for every picture would bury what is told."""

    def _is_for_us(self) -> bool:
        """Refuse what a page from elsewhere has a browser on this machine send, whatever name it has given to loopback."""
        port = self.server.voting.port
        ours = {f"{host}:{port}" for host in ("127.0.0.1", "localhost")}
        origin = self.headers.get("origin")
        if self.headers.get("host") in ours and (origin is None or urlsplit(origin).netloc in ours):
            return True
        self.close_connection = True
        self._send(b"This page is for this machine alone.", "text/plain", status=HTTPStatus.FORBIDDEN)
        return False

    def _picture(self, path: str) -> Path:
        return self.server.voting.book.path.parent / IMAGES / Path(path).name  # no way out of the folder

    def _answer(self, answer) -> None:
        try:
            found, status = answer(), HTTPStatus.OK
        except ValueError as error:
            found, status = {"error": str(error)}, HTTPStatus.BAD_REQUEST
        except OSError as error:  # a disk that is full
            found, status = {"error": f"The vote could not be kept: {error}"}, HTTPStatus.INTERNAL_SERVER_ERROR
        self._send(json.dumps(found).encode(), "application/json", status=status)

    def _send(
        self, content: bytes, kind: str, headers: dict[str, str] | None = None, status: HTTPStatus = HTTPStatus.OK
    ) -> None:
        self.send_response(status)
        headers = {"Cache-Control": "no-store"} | (headers or {})
        headers |= {"Content-Type": kind, "Content-Length": str(len(content)), "X-Content-Type-Options": "nosniff"}
        for name, value in (headers | {"Content-Security-Policy": _POLICY, "Referrer-Policy": "no-referrer"}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)
