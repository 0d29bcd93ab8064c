"""The API of a Hub for tests, endpoint by endpoint."""

import base64
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode

import yaml

from testing.hub_api.storage import (
    WEB_PREFIXES,
    Blob,
    Commit,
    HubError,
    Item,
    Repo,
    describe,
    is_lfs,
    list_tree,
    parse_front_matter,
    read_card,
)
from testing.hub_api.wire import Answer, Call, answer_error, answer_file, answer_json

logger = logging.getLogger(__name__)


Handler = Callable[["Api", Call], Answer]
ROUTES: list[tuple[str, re.Pattern[str], Handler]] = []
REPO = r"/api/(?P<kind>model|dataset|space)s/(?P<repo>[^/]+/[^/]+)"
WEB_REPO = r"/(?:(?P<kind>dataset|space)s/)?(?P<repo>[^/]+/[^/]+?)"
REVISION = r"/(?P<revision>[^/]+)"


def route(method: str, path: str) -> Callable[[Handler], Handler]:
    """Register a handler by regular expressions for the method and for the raw path."""

    def register(handler: Handler) -> Handler:
        ROUTES.append((method, re.compile(path), handler))
        return handler

    return register


class Api:
    """The repositories, and the endpoints that read and change them."""

    def __init__(self, tokens: Mapping[str, str], page: int) -> None:
        self.tokens = dict(tokens)
        self.page = page
        self.repos: dict[tuple[str, str], Repo] = {}

    def answer(self, call: Call) -> Answer:
        """Answer a request."""
        try:
            return self._dispatch(call)
        except HubError as error:
            return answer_error(error)
        except Exception as error:
            logger.exception("%s %s", call.method, call.raw_path)
            return answer_error(HubError(500, message=type(error).__name__))

    def _dispatch(self, call: Call) -> Answer:
        if call.token is not None:
            if call.token not in self.tokens:
                raise HubError(401, message="Invalid credentials in Authorization header")
            call.user = self.tokens[call.token]
        for method, path, handler in ROUTES:
            match = path.fullmatch(call.raw_path)
            if match and re.fullmatch(method, call.method):
                call.args = {
                    name: unquote(value or "") for name, value in match.groupdict().items()
                }
                return handler(self, call)
        raise HubError(404, message="No such endpoint")

    def find(self, call: Call) -> Repo:
        """Find the repository that a request names, if its user may know of it."""
        repo = self.repos.get((call.args["kind"] or "model", call.args["repo"]))
        if repo is None or (repo.private and not repo.admits(call.user)):
            hidden = repo is not None and call.user is None
            raise HubError(401 if hidden else 404, "RepoNotFound", "Repository not found")
        return repo

    def find_readable(self, call: Call) -> Repo:
        """Find a repository of which the user may read the files."""
        repo = self.find(call)
        if repo.gated and not repo.admits(call.user):
            raise HubError(401 if call.user is None else 403, "GatedRepo", "Access is restricted")
        return repo

    def find_writable(self, call: Call) -> Repo:
        """Find a repository that the user may change."""
        repo = self.find(call)
        check_owner(call, repo.owner)
        return repo

    def page_of(self, call: Call, items: Sequence[Item]) -> Answer:
        """Answer with a page of a listing, linking to the next."""
        start = int(call.query.get("cursor", 0))
        stop = start + min(self.page, int(call.query.get("limit", self.page)))
        if stop >= len(items):
            return answer_json(items[start:])
        query = urlencode(call.query | {"cursor": stop})
        link = {"Link": f'<{call.base}{call.raw_path}?{query}>; rel="next"'}
        return answer_json(items[start:stop], headers=link)


def check_owner(call: Call, owner: str) -> None:
    """Raise unless it is the owner who asks."""
    if call.user is None:
        raise HubError(401, message="Invalid username or password.")
    if call.user != owner:
        raise HubError(403, message="You don't have the rights to change this repository")


# Endpoints: accounts and repositories.


@route("GET", "/api/whoami-v2")
def whoami(api: Api, call: Call) -> Answer:
    if call.user is None:
        raise HubError(401, message="Invalid username or password.")
    access = {"accessToken": {"displayName": "token", "role": "write"}}
    return answer_json({"type": "user", "name": call.user, "orgs": [], "auth": access})


@route("POST", "/api/validate-yaml")
def validate_yaml(api: Api, call: Call) -> Answer:
    try:
        parse_front_matter(call.json()["content"])
    except (yaml.YAMLError, ValueError) as error:
        return answer_json({"errors": [{"message": str(error)}], "warnings": []}, 400)
    return answer_json({"errors": [], "warnings": []})


def _name_repo(call: Call) -> tuple[str, str]:
    asked = call.json()
    owner = asked.get("organization") or call.user
    return asked.get("type") or "model", f"{owner}/{asked['name']}"


@route("POST", "/api/repos/create")
def create_repo(api: Api, call: Call) -> Answer:
    asked, (kind, name) = call.json(), _name_repo(call)
    check_owner(call, name.split("/")[0])
    url = {"url": f"{call.base}/{WEB_PREFIXES[kind]}{name}", "name": name}
    if (kind, name) in api.repos:
        return answer_json(url | {"error": f"You already created this {kind} repo"}, 409)
    private = asked.get("visibility") == "private" or bool(asked.get("private"))
    api.repos[kind, name] = repo = Repo(kind, name, private)
    repo.add("main", {}, "initial commit")
    return answer_json(url)


@route("DELETE", "/api/repos/delete")
def delete_repo(api: Api, call: Call) -> Answer:
    kind, call.args["repo"] = _name_repo(call)
    call.args["kind"] = kind
    repo = api.find_writable(call)
    del api.repos[kind, repo.name]
    return answer_json({})


@route("PUT", REPO + "/settings")
def change_settings(api: Api, call: Call) -> Answer:
    repo, asked = api.find_writable(call), call.json()
    repo.gated = asked.get("gated", repo.gated)
    if "visibility" in asked or "private" in asked:
        repo.private = asked.get("visibility") == "private" or bool(asked.get("private"))
    return answer_json({"private": repo.private, "gated": repo.gated})


@route("GET", REPO + "/auth-check(?P<write>/write)?")
def check_access(api: Api, call: Call) -> Answer:
    (api.find_writable if call.args["write"] else api.find_readable)(call)
    return answer_json({})


# Endpoints: reading.


@route("GET", REPO + f"(?:/revision{REVISION})?")
def get_info(api: Api, call: Call) -> Answer:
    repo = api.find(call)
    commit = repo.at(call.args["revision"] or "main")
    card = read_card(commit)
    keys = ("license", "language", "task_categories", "size_categories")
    values = [(key, card[key]) for key in keys if card.get(key)]
    tags = [f"{key}:{v}" for key, vs in values for v in (vs if isinstance(vs, list) else [vs])]
    siblings = [_describe_sibling(call, *item) for item in sorted(commit.files.items())]
    info: dict[str, Any] = {"id": repo.name, "author": repo.owner, "sha": commit.oid}
    info |= {"private": repo.private, "gated": repo.gated, "disabled": False, "downloads": 0}
    info |= {"likes": 0, "lastModified": commit.date, "siblings": siblings}
    info["tags"] = list(card.get("tags") or []) + tags
    if card:
        info["cardData"] = card
    if repo.kind == "model":
        info |= {key: card[key] for key in ("pipeline_tag", "library_name") if key in card}
    return answer_json(info)


def _describe_sibling(call: Call, path: str, blob: Blob) -> dict[str, Any]:
    sibling: dict[str, Any] = {"rfilename": path}
    if call.query.get("blobs", "").lower() in ("true", "1"):
        entry = describe(path, blob)
        sibling |= {"size": blob.size, "blobId": entry["oid"]}
        if "lfs" in entry:
            sibling["lfs"] = entry["lfs"] | {"sha256": blob.sha256}
    return sibling


@route("GET", REPO + f"/tree{REVISION}(?:/(?P<path>.*))?")
def get_tree(api: Api, call: Call) -> Answer:
    commit = api.find(call).at(call.args["revision"])
    recursive = call.query.get("recursive", "").lower() in ("true", "1")
    entries = list_tree(commit.files, call.args["path"].strip("/"), recursive=recursive)
    return api.page_of(call, entries)


@route("POST", REPO + f"/paths-info{REVISION}")
def get_paths_info(api: Api, call: Call) -> Answer:
    commit = api.find(call).at(call.args["revision"])
    paths = parse_qs(call.body.decode()).get("paths", [])
    entries = {entry["path"]: entry for entry in list_tree(commit.files, "", recursive=True)}
    return answer_json([entries[path] for path in paths if path in entries])


@route("GET", REPO + "/refs")
def get_refs(api: Api, call: Call) -> Answer:
    def listing(names: dict[str, Commit], prefix: str) -> list[dict[str, str]]:
        return [
            {"name": name, "ref": f"{prefix}/{name}", "targetCommit": commit.oid}
            for name, commit in names.items()
        ]

    repo = api.find(call)
    branches, tags = listing(repo.branches, "refs/heads"), listing(repo.tags, "refs/tags")
    return answer_json({"branches": branches, "tags": tags, "converts": [], "pullRequests": []})


@route("GET", REPO + f"/commits{REVISION}")
def get_commits(api: Api, call: Call) -> Answer:
    commit: Commit | None = api.find(call).at(call.args["revision"])
    listing: list[dict[str, Any]] = []
    while commit is not None:
        entry = {"id": commit.oid, "title": commit.title, "message": commit.message}
        listing.append(entry | {"date": commit.date, "authors": [{"user": commit.author}]})
        commit = commit.parent
    return api.page_of(call, listing)


@route("GET|HEAD", WEB_REPO + f"/resolve{REVISION}/(?P<path>.+)")
def get_file(api: Api, call: Call) -> Answer:
    commit = api.find_readable(call).at(call.args["revision"])
    headers = {"X-Repo-Commit": commit.oid, "Accept-Ranges": "bytes"}
    path = call.args["path"]
    blob = commit.files.get(path)
    if blob is None:
        error = HubError(404, "EntryNotFound", "Entry not found")
        error.headers |= headers
        raise error
    headers |= {"Content-Type": "application/octet-stream", "ETag": f'"{blob.sha1}"'}
    if is_lfs(path, blob.size):
        headers["ETag"] = headers["X-Linked-Etag"] = f'"{blob.sha256}"'
        headers["X-Linked-Size"] = str(blob.size)
    return answer_file(blob, headers, call.headers.get("range"))


# Endpoints: writing.


@route("POST", REPO + f"/branch{REVISION}")
def create_branch(api: Api, call: Call) -> Answer:
    repo, branch = api.find_writable(call), call.args["revision"]
    if branch in repo.branches:
        raise HubError(409, message="Reference already exists")
    repo.branches[branch] = repo.at(call.json().get("startingPoint") or "main")
    return answer_json({})


@route("POST", REPO + f"/tag{REVISION}")
def create_tag(api: Api, call: Call) -> Answer:
    repo, tag = api.find_writable(call), call.json()["tag"]
    if tag in repo.tags:
        raise HubError(409, message="Tag reference exists already")
    repo.tags[tag] = repo.at(call.args["revision"])
    return answer_json({})


@route("DELETE", REPO + f"/(?P<what>branch|tag){REVISION}")
def delete_reference(api: Api, call: Call) -> Answer:
    repo = api.find_writable(call)
    names = repo.branches if call.args["what"] == "branch" else repo.tags
    if names.pop(call.args["revision"], None) is None:
        raise HubError(404, "RevisionNotFound", "Reference does not exist")
    return answer_json({})


@route("POST", REPO + f"/preupload{REVISION}")
def preupload(api: Api, call: Call) -> Answer:
    commit = api.find_writable(call).at(call.args["revision"])
    files = []
    for asked in call.json()["files"]:
        path, lfs = asked["path"], is_lfs(asked["path"], asked["size"])
        blob = commit.files.get(path)
        oid = blob and (blob.sha256 if lfs else blob.sha1)
        mode = "lfs" if lfs else "regular"
        files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    return answer_json({"files": files})


@route("POST", WEB_REPO + r"\.git/info/lfs/objects/batch")
def lfs_batch(api: Api, call: Call) -> Answer:
    repo = api.find_writable(call)
    objects = []
    for asked in call.json()["objects"]:
        entry = {"oid": asked["oid"], "size": asked["size"]}
        if asked["oid"] not in repo.objects:
            href = f"{call.base}/_lfs/{repo.kind}s/{repo.name}/{asked['oid']}"
            entry["actions"] = {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}
        objects.append(entry)
    return answer_json({"transfer": "basic", "objects": objects})


# The address stands for a signed one: clients send no token to it.
@route("PUT", "/_lfs" + REPO.removeprefix("/api") + "/(?P<oid>[0-9a-f]{64})")
def lfs_upload(api: Api, call: Call) -> Answer:
    blob = Blob.of(call.body)
    if blob.sha256 != call.args["oid"]:
        raise HubError(400, message="The content is not what its name says")
    api.repos[call.args["kind"], call.args["repo"]].objects[blob.sha256] = blob
    return answer_json({})


@route("POST", "/_lfs" + REPO.removeprefix("/api") + "/(?P<oid>[0-9a-f]{64})/verify")
def lfs_verify(api: Api, call: Call) -> Answer:
    blob = api.find_writable(call).objects.get(call.args["oid"])
    if blob is None or blob.size != call.json()["size"]:
        raise HubError(400, message="The object was not uploaded whole")
    return answer_json({})


@route("POST", REPO + f"/commit{REVISION}")
def commit_files(api: Api, call: Call) -> Answer:
    repo, branch = api.find_writable(call), call.args["revision"]
    if branch not in repo.branches:
        raise HubError(404, "RevisionNotFound", "Invalid rev id")
    head = repo.branches[branch]
    lines = [json.loads(line) for line in call.body.splitlines() if line]
    header = next(line["value"] for line in lines if line["key"] == "header")
    if header.get("parentCommit", head.oid) != head.oid:
        raise HubError(412, message="A commit has happened since. Please refresh and try again.")
    changes: dict[str, Blob | None] = {}
    for line in lines:
        changes |= _read_operation(repo, head, line["key"], line["value"])
    commit = repo.add(branch, changes, header["summary"], header.get("description", ""))
    url = f"{call.base}/{WEB_PREFIXES[repo.kind]}{repo.name}/commit/{commit.oid}"
    return answer_json({"success": True, "commitOid": commit.oid, "commitUrl": url})


def _read_operation(
    repo: Repo, head: Commit, key: str, value: dict[str, Any]
) -> dict[str, Blob | None]:
    if key == "header":
        return {}
    path: str = value["path"].strip("/")
    if key == "file":
        return {path: Blob.of(base64.b64decode(value["content"]))}
    if key == "lfsFile":
        if value["oid"] not in repo.objects:
            raise HubError(400, message="An LFS object was not uploaded")
        return {path: repo.objects[value["oid"]]}
    deep = key == "deletedFolder"
    gone = [name for name in head.files if (name.startswith(f"{path}/") if deep else name == path)]
    if not gone:
        raise HubError(404, "EntryNotFound", "A file with this name doesn't exist")
    return dict.fromkeys(gone)
