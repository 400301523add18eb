"""
A Hub on loopback, for the real clients: repositories, LFS uploads, commits and downloads, kept in memory.

It can be made to fail (`fail`), and remembers every request with headers and body (`requests`). The clients read
`HF_ENDPOINT` when they are imported, so they run in their own process with `environment(home)`.
"""

import base64
import hashlib
import json
import re
import socket
import struct
import threading
import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

import yaml


TOKEN = "hf_tokenForTheHubOnLoopback0123456789"
LFS_SUFFIXES = (".safetensors", ".png", ".jpg", ".parquet", ".bin", ".pt", ".zip")


@dataclass
class Repo:
    """`commits` maps a commit to its files, `branches` a branch to its commit."""

    kind: str
    repo_id: str
    private: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, bytes], message: str) -> str:
        content = [branch, message, len(self.commits), *((name, _sha256(data)) for name, data in files.items())]
        sha = hashlib.sha1(json.dumps(content).encode()).hexdigest()
        self.commits[sha] = files
        self.branches[branch] = sha
        self.messages.append(message)
        return sha

    def resolve(self, revision: str) -> str | None:
        return self.branches.get(revision) or (revision if revision in self.commits else None)

    @property
    def files(self) -> dict[str, bytes]:
        """Files at the head of `main`."""
        return self.commits[self.branches["main"]]


@dataclass
class Fault:
    """
    What goes wrong with the next `times` requests that match: a `status`, `action="reset"` (the connection breaks
    before anything happens), `action="lost"` (the request is carried out but its answer is lost), or a `delay` in
    seconds before all goes well. A callable as `before` runs first.
    """

    method: str
    path: str
    status: int | None = None
    action: str | None = None
    delay: float = 0.0
    times: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    before: object = None


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes


class HubServer:
    """Use as a context manager; `with HubServer() as hub:` serves until the block ends."""

    def __init__(self):
        self.repos: dict[tuple[str, str], Repo] = {}
        self.lfs: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.users = {TOKEN: "user"}
        self.lock = threading.RLock()
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "HubServer":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *exc_info) -> None:
        self._server.shutdown()
        self._server.server_close()

    def environment(self, home: Path) -> dict[str, str]:
        """What a client's process needs in its environment to talk to this Hub and to no other."""
        return {
            "HF_ENDPOINT": self.endpoint,
            "HF_TOKEN": TOKEN,
            "HF_HOME": str(home),
            "HF_HUB_OFFLINE": "0",  # `make test` runs with 1
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_DISABLE_PROGRESS_BARS": "1",
            "OMP_NUM_THREADS": "1",
            "NO_PROXY": "127.0.0.1",
        }

    def create(self, repo_id: str, kind: str = "model", private: bool = False) -> Repo:
        repo = Repo(kind, repo_id, private)
        repo.commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")
        self.repos[kind, repo_id] = repo
        return repo

    def add(self, repo_id: str, files: dict[str, bytes], kind: str = "model") -> Repo:
        """Put files into a repository at once, creating it when missing."""
        with self.lock:
            repo = self.repos.get((kind, repo_id)) or self.create(repo_id, kind)
            repo.commit("main", {**repo.files, **files}, "added by the server")
            return repo

    def model(self, repo_id: str) -> Repo:
        return self.repos["model", repo_id]

    def fail(self, method: str, path: str, **fault) -> None:
        """Make the next requests whose path matches the regular expression fail; see [`Fault`]."""
        self.faults.append(Fault(method, path, **fault))

    def clear_faults(self) -> None:
        self.faults.clear()


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass

    def do_GET(self):
        self._handle()

    do_HEAD = do_POST = do_PUT = do_DELETE = do_GET

    def _handle(self):
        self.body = self._read_body()
        self.path_only = unquote(urlsplit(self.path).path)
        hub = self.hub
        with hub.lock:
            headers = {name.lower(): value for name, value in self.headers.items()}
            hub.requests.append(Request(self.command, self.path, headers, self.body))
            fault = next(
                (
                    f
                    for f in hub.faults
                    if f.times > 0 and f.method == self.command and re.search(f.path, self.path_only)
                ),
                None,
            )
            if fault is not None:
                fault.times -= 1
        self.answer_is_lost = False
        if fault is not None:
            if fault.before is not None:
                fault.before()
            time.sleep(fault.delay)
            if fault.action == "reset":
                self._reset()
                return
            if fault.status is not None:
                self._json({"error": f"made to fail with {fault.status}"}, fault.status, fault.headers)
                return
            self.answer_is_lost = fault.action == "lost"
        for method, pattern, answer in _ROUTES:
            match = re.fullmatch(pattern, self.path_only)
            if match and self.command in method.split("|"):
                answer(self, **match.groupdict())
                return
        self._json({"error": f"no such endpoint: {self.command} {self.path}"}, 404)

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            chunks = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _reset(self):
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _send(self, data: bytes, status: int = 200, headers: dict[str, str] | None = None, length: int | None = None):
        if self.answer_is_lost:
            self._reset()
            return
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _json(self, data, status: int = 200, headers: dict[str, str] | None = None):
        self._send(json.dumps(data).encode(), status, {"Content-Type": "application/json", **(headers or {})})

    def _user(self) -> str | None:
        return self.hub.users.get(self.headers.get("Authorization", "").removeprefix("Bearer "))

    def _repo(self, kind: str, repo_id: str, write: bool = False) -> Repo | None:
        """The repository, or an answer that says why not."""
        repo = self.hub.repos.get((kind, repo_id))
        user = self._user()
        if repo is None or (repo.private and user is None):
            status = 401 if user is None else 404
            self._json({"error": "Repository not found"}, status, {"X-Error-Code": "RepoNotFound"})
            return None
        if write and user is None:
            message = "Invalid credentials in Authorization header"
            self._json({"error": message}, 401, {"X-Error-Message": message})
            return None
        if write and user != repo_id.split("/")[0]:
            message = "You don't have the required permissions"
            self._json({"error": message}, 403, {"X-Error-Message": message})
            return None
        return repo

    def _commit_of(self, repo: Repo, revision: str) -> str | None:
        sha = repo.resolve(revision)
        if sha is None:
            self._json({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
        return sha

    def whoami(self):
        user = self._user()
        if user is None:
            self._json({"error": "Invalid user token."}, 401)
        else:
            self._json({"type": "user", "name": user, "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def create_repo(self):
        request = json.loads(self.body)
        user = self._user()
        if user is None:
            message = "Invalid credentials in Authorization header"
            self._json({"error": message}, 401, {"X-Error-Message": message})
            return
        namespace, kind = request.get("organization") or user, request.get("type", "model")
        if kind == "space" and request.get("sdk") not in ("gradio", "docker", "static"):
            self._json({"error": '"sdk" is required'}, 400)
            return
        if namespace != user:
            message = f"You don't have the rights to create a model under the namespace {namespace!r}"
            self._json({"error": message}, 403, {"X-Error-Message": message})
            return
        repo_id = f"{namespace}/{request['name']}"
        with self.hub.lock:
            exists = (kind, repo_id) in self.hub.repos
            if not exists:
                self.hub.create(repo_id, kind, request.get("visibility") == "private")
        prefix = "" if kind == "model" else f"{kind}s/"
        answer = {"url": f"{self.hub.endpoint}/{prefix}{repo_id}", "name": repo_id}
        if exists:
            answer["error"] = "You already created this model repo"
        self._json(answer, 409 if exists else 200)

    def validate_yaml(self):
        errors = _metadata_errors(json.loads(self.body)["content"])
        self._json({"errors": [{"message": e} for e in errors], "warnings": []}, 400 if errors else 200)

    def preupload(self, kind: str, repo: str, rev: str):
        found = self._repo(kind, repo, write=True)
        sha = found and self._commit_of(found, rev)
        if not sha:
            return
        files = []
        for file in json.loads(self.body)["files"]:
            lfs = file["path"].endswith(LFS_SUFFIXES)
            data = found.commits[sha].get(file["path"])
            oid = None if data is None else _sha256(data) if lfs else _git_oid(data)
            mode = "lfs" if lfs else "regular"
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._json({"files": files})

    def lfs_batch(self, repo: str, prefix: str | None = None):
        if self._repo(_kind(prefix), repo, write=True) is None:
            return
        objects = []
        for item in json.loads(self.body)["objects"]:
            answer = {"oid": item["oid"], "size": item["size"]}
            if item["oid"] not in self.hub.lfs:
                answer["actions"] = {
                    "upload": {"href": f"{self.hub.endpoint}/lfs/{item['oid']}"},
                    "verify": {"href": f"{self.hub.endpoint}/lfs-verify"},
                }
            objects.append(answer)
        self._json({"transfer": "basic", "objects": objects})

    def lfs_put(self, oid: str):
        if _sha256(self.body) != oid:
            self._json({"error": "checksum mismatch"}, 400)
            return
        self.hub.lfs[oid] = self.body
        self._send(b"")

    def lfs_verify(self):
        known = json.loads(self.body)["oid"] in self.hub.lfs
        self._json({}, 200 if known else 404)

    def commit(self, kind: str, repo: str, rev: str):
        found = self._repo(kind, repo, write=True)
        if found is None:
            return
        lines = [json.loads(line) for line in self.body.splitlines()]
        with self.hub.lock:
            sha = self._commit_of(found, rev)
            if sha is None:
                return
            header = lines[0]["value"]
            if header.get("parentCommit") not in (None, sha):
                message = "A commit has happened since. Please refresh and try again."
                self._json({"error": message}, 412, {"X-Error-Message": message})
                return
            files = dict(found.commits[sha])
            for line in lines[1:]:
                value = line["value"]
                if line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    files[value["path"]] = self.hub.lfs[value["oid"]]
                elif line["key"] == "deletedFile":
                    del files[value["path"]]
                elif line["key"] == "deletedFolder":
                    files = {name: d for name, d in files.items() if not name.startswith(value["path"])}
            sha = found.commit(rev, files, header["summary"])
        self._json({"success": True, "commitOid": sha, "commitUrl": f"{self.hub.endpoint}/{repo}/commit/{sha}"})

    def branch(self, kind: str, repo: str, branch: str):
        found = self._repo(kind, repo, write=True)
        if found is None:
            return
        exists = branch in found.branches
        if not exists:
            found.branches[branch] = found.branches["main"]
        self._json({}, 409 if exists else 200)

    def repo_info(self, kind: str, repo: str, rev: str = "main"):
        found = self._repo(kind, repo)
        sha = found and self._commit_of(found, rev)
        if sha:
            files = [{"rfilename": name} for name in sorted(found.commits[sha])]
            info = {"id": repo, "sha": sha, "private": found.private, "gated": False, "disabled": False, "tags": []}
            self._json({**info, "siblings": files, "downloads": 0, "likes": 0})

    def refs(self, kind: str, repo: str):
        found = self._repo(kind, repo)
        if found is not None:
            branches = [{"name": n, "ref": f"refs/heads/{n}", "targetCommit": c} for n, c in found.branches.items()]
            self._json({"branches": branches, "converts": [], "tags": []})

    def tree(self, kind: str, repo: str, rev: str, folder: str | None = None):
        found = self._repo(kind, repo)
        sha = found and self._commit_of(found, rev)
        if not sha:
            return
        files, prefix = found.commits[sha], f"{folder}/" if folder else ""
        inside = [name for name in sorted(files) if name.startswith(prefix)]
        if folder and not inside:
            self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
            return
        recursive = parse_qs(urlsplit(self.path).query).get("recursive", ["false"])[0].lower() in ("true", "1")
        parents = {name[:i] for name in inside for i, c in enumerate(name) if c == "/" and i >= len(prefix)}
        if not recursive:
            inside = [name for name in inside if "/" not in name[len(prefix) :]]
            parents = {name for name in parents if "/" not in name[len(prefix) :]}
        entries = [{"type": "directory", "path": name, "oid": _git_oid(name.encode()), "size": 0} for name in parents]
        self._json(entries + [_file_info(name, files[name]) for name in inside])

    def paths_info(self, kind: str, repo: str, rev: str):
        found = self._repo(kind, repo)
        sha = found and self._commit_of(found, rev)
        if not sha:
            return
        if self.headers.get("Content-Type", "").startswith("application/json"):
            paths = json.loads(self.body)["paths"]
        else:
            paths = parse_qs(self.body.decode())["paths"]
        files, entries = found.commits[sha], []
        for path in paths:
            if path in files:
                entries.append(_file_info(path, files[path]))
            elif any(name.startswith(f"{path}/") for name in files):
                entries.append({"type": "directory", "path": path, "oid": _git_oid(path.encode()), "size": 0})
        self._json(entries)

    def resolve(self, repo: str, rev: str, path: str, prefix: str | None = None):
        found = self._repo(_kind(prefix), repo)
        sha = found and self._commit_of(found, rev)
        if not sha:
            return
        data = found.commits[sha].get(path)
        if data is None:
            self._json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": sha})
            return
        lfs = path.endswith(LFS_SUFFIXES)
        etag = f'"{_sha256(data) if lfs else _git_oid(data)}"'
        headers = {"X-Repo-Commit": sha, "ETag": etag, "Accept-Ranges": "bytes", "Content-Type": "text/plain"}
        if lfs:
            headers |= {"X-Linked-Etag": etag, "X-Linked-Size": str(len(data))}
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if asked is None:
            self._send(data, 200, headers)
            return
        first, last = asked.groups()
        start = int(first) if first else max(0, len(data) - int(last))
        end = min(int(last) if first and last else len(data) - 1, len(data) - 1)
        if start >= len(data):
            self._send(b"", 416, {"Content-Range": f"bytes */{len(data)}"})
            return
        part = data[start : end + 1]
        self._send(part, 206, {**headers, "Content-Range": f"bytes {start}-{end}/{len(data)}"})


_REPO = r"(?P<repo>[\w.-]+/[\w.-]+)"
_API = rf"/api/(?P<kind>model|dataset|space)s/{_REPO}"
_REV = r"(?P<rev>[^/]+)"
_ROUTES = [
    ("GET", r"/api/whoami-v2", _Handler.whoami),
    ("POST", r"/api/repos/create", _Handler.create_repo),
    ("POST", r"/api/validate-yaml", _Handler.validate_yaml),
    ("POST", rf"{_API}/preupload/{_REV}", _Handler.preupload),
    ("POST", rf"{_API}/commit/{_REV}", _Handler.commit),
    ("POST", rf"{_API}/branch/(?P<branch>[^/]+)", _Handler.branch),
    ("POST", rf"{_API}/paths-info/{_REV}", _Handler.paths_info),
    ("GET", rf"{_API}/refs", _Handler.refs),
    ("GET", rf"{_API}/tree/{_REV}(?:/(?P<folder>.+?))?/?", _Handler.tree),
    ("GET", _API, _Handler.repo_info),
    ("GET", rf"{_API}/revision/{_REV}", _Handler.repo_info),
    ("POST", rf"/(?P<prefix>datasets/|spaces/)?{_REPO}\.git/info/lfs/objects/batch", _Handler.lfs_batch),
    ("PUT", r"/lfs/(?P<oid>[0-9a-f]{64})", _Handler.lfs_put),
    ("POST", r"/lfs-verify", _Handler.lfs_verify),
    ("GET|HEAD", rf"/(?P<prefix>datasets/|spaces/)?{_REPO}/resolve/{_REV}/(?P<path>.+)", _Handler.resolve),
]


def _kind(prefix: str | None) -> str:
    return prefix.removesuffix("s/") if prefix else "model"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _file_info(name: str, data: bytes) -> dict:
    info = {"type": "file", "path": name, "size": len(data), "oid": _git_oid(data)}
    if name.endswith(LFS_SUFFIXES):
        info["lfs"] = {"oid": _sha256(data), "size": len(data), "pointerSize": 134}
    return info


def _metadata_errors(readme: str) -> list[str]:
    """What the Hub's published specification of card metadata does not allow."""
    match = re.match(r"---\n(.*?)\n---", readme, re.DOTALL)
    data = yaml.safe_load(match[1]) if match else {}
    errors = []
    for name in ("license", "license_name", "library_name", "pipeline_tag"):
        if name in data and not (isinstance(data[name], str) and re.fullmatch(r"[a-z0-9.-]+", data[name])):
            errors.append(f'"{name}" must be an identifier')
    if "license_link" in data and not re.match(r"https?://|LICENSE(\.md)?$", data["license_link"]):
        errors.append('"license_link" must be a URL, LICENSE or LICENSE.md')
    for name in ("base_model", "datasets"):
        values = data.get(name, [])
        for value in [values] if isinstance(values, str) else values:
            if not (isinstance(value, str) and re.fullmatch(r"[\w.-]+(/[\w.-]+)?", value)):
                errors.append(f'"{name}" with value {value!r} is not a repository')
    for model in data.get("model-index", []):
        if not model.get("name"):
            errors.append('"model-index[].name" is required')
        for result in model.get("results", []):
            for part, keys in (("task", ["type"]), ("dataset", ["type", "name"])):
                errors += [f'"{part}.{key}" is required' for key in keys if not result.get(part, {}).get(key)]
            for metric in result.get("metrics", []):
                errors += [f'"metrics[].{key}" is required' for key in ("type", "value") if metric.get(key) is None]
    return errors
