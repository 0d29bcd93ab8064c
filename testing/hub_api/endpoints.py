"""The API endpoints of a Hub for tests."""

import base64
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode

import yaml

from testing.hub_api.messages import Call, Response, error_response, file_response, json_response
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

logger = logging.getLogger(__name__)


Handler = Callable[["Api", Call], Response]
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

    def respond(self, call: Call) -> Response:
        """Handle a request."""
        try:
            return self._dispatch(call)
        except HubError as error:
            return error_response(error)
        except Exception as error:
            logger.exception("%s %s", call.method, call.raw_path)
            return error_response(HubError(500, message=type(error).__name__))

    def _dispatch(self, call: Call) -> Response:
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
        """Find the repository of a request, if its user may see it."""
        repo = self.repos.get((call.args["kind"] or "model", call.args["repo"]))
        if repo is None or (repo.private and not repo.admits(call.user)):
            hidden = repo is not None and call.user is None
            raise HubError(401 if hidden else 404, "RepoNotFound", "Repository not found")
        return repo

    def find_readable(self, call: Call) -> Repo:
        """Find a repository whose files the user may read."""
        repo = self.find(call)
        if repo.gated and not repo.admits(call.user):
            raise HubError(401 if call.user is None else 403, "GatedRepo", "Access is restricted")
        return repo

    def find_writable(self, call: Call) -> Repo:
        """Find a repository that the user may write."""
        repo = self.find(call)
        check_owner(call, repo.owner)
        return repo

    def page_of(self, call: Call, items: Sequence[Item]) -> Response:
        """Return a page of a listing, with a link to the next."""
        start = int(call.query.get("cursor", 0))
        stop = start + min(self.page, int(call.query.get("limit", self.page)))
        if stop >= len(items):
            return json_response(items[start:])
        query = urlencode(call.query | {"cursor": stop})
        link = {"Link": f'<{call.base}{call.raw_path}?{query}>; rel="next"'}
        return json_response(items[start:stop], headers=link)


def check_owner(call: Call, owner: str) -> None:
    """Raise unless the user is the owner."""
    if call.user is None:
        raise HubError(401, message="Invalid username or password.")
    if call.user != owner:
        raise HubError(403, message="You don't have the rights to change this repository")


# Endpoints: accounts and repositories.


@route("GET", "/api/whoami-v2")
def whoami(api: Api, call: Call) -> Response:
    if call.user is None:
        raise HubError(401, message="Invalid username or password.")
    access = {"accessToken": {"displayName": "token", "role": "write"}}
    return json_response({"type": "user", "name": call.user, "orgs": [], "auth": access})


@route("POST", "/api/validate-yaml")
def validate_yaml(api: Api, call: Call) -> Response:
    try:
        parse_front_matter(call.json()["content"])
    except (yaml.YAMLError, ValueError) as error:
        return json_response({"errors": [{"message": str(error)}], "warnings": []}, 400)
    return json_response({"errors": [], "warnings": []})


def _name_repo(call: Call) -> tuple[str, str]:
    requested = call.json()
    owner = requested.get("organization") or call.user
    return requested.get("type") or "model", f"{owner}/{requested['name']}"


@route("POST", "/api/repos/create")
def create_repo(api: Api, call: Call) -> Response:
    requested, (kind, name) = call.json(), _name_repo(call)
    check_owner(call, name.split("/")[0])
    url = {"url": f"{call.base}/{WEB_PREFIXES[kind]}{name}", "name": name}
    if (kind, name) in api.repos:
        return json_response(url | {"error": f"You already created this {kind} repo"}, 409)
    private = requested.get("visibility") == "private" or bool(requested.get("private"))
    api.repos[kind, name] = repo = Repo(kind, name, private)
    repo.add("main", {}, "initial commit")
    return json_response(url)


@route("DELETE", "/api/repos/delete")
def delete_repo(api: Api, call: Call) -> Response:
    kind, call.args["repo"] = _name_repo(call)
    call.args["kind"] = kind
    repo = api.find_writable(call)
    del api.repos[kind, repo.name]
    return json_response({})


@route("PUT", REPO + "/settings")
def change_settings(api: Api, call: Call) -> Response:
    repo, requested = api.find_writable(call), call.json()
    repo.gated = requested.get("gated", repo.gated)
    if "visibility" in requested or "private" in requested:
        repo.private = requested.get("visibility") == "private" or bool(requested.get("private"))
    return json_response({"private": repo.private, "gated": repo.gated})


@route("GET", REPO + "/auth-check(?P<write>/write)?")
def check_access(api: Api, call: Call) -> Response:
    (api.find_writable if call.args["write"] else api.find_readable)(call)
    return json_response({})


# Endpoints: reading.


@route("GET", REPO + f"(?:/revision{REVISION})?")
def get_info(api: Api, call: Call) -> Response:
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
    return json_response(info)


def _describe_sibling(call: Call, path: str, blob: Blob) -> dict[str, Any]:
    sibling: dict[str, Any] = {"rfilename": path}
    if call.query.get("blobs", "").lower() in ("true", "1"):
        entry = describe(path, blob)
        sibling |= {"size": blob.size, "blobId": entry["oid"]}
        if "lfs" in entry:
            sibling["lfs"] = entry["lfs"] | {"sha256": blob.sha256}
    return sibling


@route("GET", REPO + f"/tree{REVISION}(?:/(?P<path>.*))?")
def get_tree(api: Api, call: Call) -> Response:
    commit = api.find(call).at(call.args["revision"])
    recursive = call.query.get("recursive", "").lower() in ("true", "1")
    entries = list_tree(commit.files, call.args["path"].strip("/"), recursive=recursive)
    return api.page_of(call, entries)


@route("POST", REPO + f"/paths-info{REVISION}")
def get_paths_info(api: Api, call: Call) -> Response:
    commit = api.find(call).at(call.args["revision"])
    paths = parse_qs(call.body.decode()).get("paths", [])
    entries = {entry["path"]: entry for entry in list_tree(commit.files, "", recursive=True)}
    return json_response([entries[path] for path in paths if path in entries])


@route("GET", REPO + "/refs")
def get_refs(api: Api, call: Call) -> Response:
    def listing(names: dict[str, Commit], prefix: str) -> list[dict[str, str]]:
        return [
            {"name": name, "ref": f"{prefix}/{name}", "targetCommit": commit.oid}
            for name, commit in names.items()
        ]

    repo = api.find(call)
    branches, tags = listing(repo.branches, "refs/heads"), listing(repo.tags, "refs/tags")
    return json_response({"branches": branches, "tags": tags, "converts": [], "pullRequests": []})


@route("GET", REPO + f"/commits{REVISION}")
def get_commits(api: Api, call: Call) -> Response:
    commit: Commit | None = api.find(call).at(call.args["revision"])
    listing: list[dict[str, Any]] = []
    while commit is not None:
        entry = {"id": commit.oid, "title": commit.title, "message": commit.message}
        listing.append(entry | {"date": commit.date, "authors": [{"user": commit.author}]})
        commit = commit.parent
    return api.page_of(call, listing)


@route("GET|HEAD", WEB_REPO + f"/resolve{REVISION}/(?P<path>.+)")
def get_file(api: Api, call: Call) -> Response:
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
    return file_response(blob, headers, call.headers.get("range"))


# Endpoints: writing.


@route("POST", REPO + f"/branch{REVISION}")
def create_branch(api: Api, call: Call) -> Response:
    repo, branch = api.find_writable(call), call.args["revision"]
    if branch in repo.branches:
        raise HubError(409, message="Reference already exists")
    repo.branches[branch] = repo.at(call.json().get("startingPoint") or "main")
    return json_response({})


@route("POST", REPO + f"/tag{REVISION}")
def create_tag(api: Api, call: Call) -> Response:
    repo, tag = api.find_writable(call), call.json()["tag"]
    if tag in repo.tags:
        raise HubError(409, message="Tag reference exists already")
    repo.tags[tag] = repo.at(call.args["revision"])
    return json_response({})


@route("DELETE", REPO + f"/(?P<what>branch|tag){REVISION}")
def delete_reference(api: Api, call: Call) -> Response:
    repo = api.find_writable(call)
    names = repo.branches if call.args["what"] == "branch" else repo.tags
    if names.pop(call.args["revision"], None) is None:
        raise HubError(404, "RevisionNotFound", "Reference does not exist")
    return json_response({})


@route("POST", REPO + f"/preupload{REVISION}")
def preupload(api: Api, call: Call) -> Response:
    commit = api.find_writable(call).at(call.args["revision"])
    files = []
    for requested in call.json()["files"]:
        path, lfs = requested["path"], is_lfs(requested["path"], requested["size"])
        blob = commit.files.get(path)
        oid = blob and (blob.sha256 if lfs else blob.sha1)
        mode = "lfs" if lfs else "regular"
        files.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    return json_response({"files": files})


@route("POST", WEB_REPO + r"\.git/info/lfs/objects/batch")
def lfs_batch(api: Api, call: Call) -> Response:
    repo = api.find_writable(call)
    objects = []
    for requested in call.json()["objects"]:
        entry = {"oid": requested["oid"], "size": requested["size"]}
        if requested["oid"] not in repo.objects:
            href = f"{call.base}/_lfs/{repo.kind}s/{repo.name}/{requested['oid']}"
            entry["actions"] = {"upload": {"href": href}, "verify": {"href": f"{href}/verify"}}
        objects.append(entry)
    return json_response({"transfer": "basic", "objects": objects})


# A signed URL on the real Hub: clients send no token.
@route("PUT", "/_lfs" + REPO.removeprefix("/api") + "/(?P<oid>[0-9a-f]{64})")
def lfs_upload(api: Api, call: Call) -> Response:
    blob = Blob.of(call.body)
    if blob.sha256 != call.args["oid"]:
        raise HubError(400, message="The content does not match its digest")
    api.repos[call.args["kind"], call.args["repo"]].objects[blob.sha256] = blob
    return json_response({})


@route("POST", "/_lfs" + REPO.removeprefix("/api") + "/(?P<oid>[0-9a-f]{64})/verify")
def lfs_verify(api: Api, call: Call) -> Response:
    blob = api.find_writable(call).objects.get(call.args["oid"])
    if blob is None or blob.size != call.json()["size"]:
        raise HubError(400, message="The object is incomplete")
    return json_response({})


@route("POST", REPO + f"/commit{REVISION}")
def commit_files(api: Api, call: Call) -> Response:
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
    return json_response({"success": True, "commitOid": commit.oid, "commitUrl": url})


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
