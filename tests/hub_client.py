"""A process with the real clients in it, imported against the Hub of a test, that runs pieces of code one after another."""

import json
import os
import subprocess
import sys


_LOOP = """
import json, sys
answers = sys.stdout
sys.stdout = sys.stderr
for line in sys.stdin:
    names = json.loads(line)
    try:
        exec(names.pop("code"), names)
        answer = {"result": names.get("result")}
    except Exception as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    print(json.dumps(answer), file=answers, flush=True)
"""


class ClientError(Exception):
    """The code raised; `kind` is the class of its exception."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.kind = kind


class HubClient:
    """`client.run(code, **values)` runs `code` with `values` as names and returns what it assigned to `result`."""

    def __init__(self, hub, home):
        self._process = subprocess.Popen(
            [sys.executable, "-c", _LOOP],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            cwd=home,
            env={**os.environ, **hub.environment(home)},
        )

    def run(self, code: str, **values):
        print(json.dumps({"code": code, **values}, default=str), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise ClientError(answer["error"], answer["message"])
        return answer["result"]

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=600)
