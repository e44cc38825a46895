"""A Ray cluster without Ray: Serve's REST API as Ray 2.60 has it, and applications of three words.

Both at one port: `/NAME/v1` is where an application answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from experts.engines.ray_serve import RaySpec
from experts.fakes.server import Act, FakeServer, ReceivedRequest, Then, whole

_PATH = "/api/serve/applications/"
_KEPT = ("proxy_location", "http_options", "grpc_options")
RUNNING = [{"replica_id": "a", "state": "RUNNING", "pid": 7}]
STARTING = [{"replica_id": "b", "state": "STARTING"}]


class FakeRay(FakeServer):
    """One cluster; tests set what it does.

    Attributes:
        token: What its dashboard wants to be told; "" lets everybody in.
        serve: What Serve was started with; empty until it runs.
        applications: By name, as the dashboard shows them.
        fallen: Those without a replica: Serve holds their calls.
        declarations: Every body that was put.
        silent: Its dashboard takes no questions any more; applications go on.
        tires: It is silent after the next declaration.
        failure: Why it fails to deploy what is declared, if it does.
        before_put: Applications that somebody else declares just before the next declaration.
    """

    def __init__(self, token: str = "") -> None:
        super().__init__()
        self.token = token
        self.serve: dict[str, Any] = {}
        self.applications: dict[str, dict[str, Any]] = {}
        self.fallen: set[str] = set()
        self.declarations: list[Mapping[str, Any]] = []
        self.silent = False
        self.tires = False
        self.failure = ""
        self.before_put: list[dict[str, Any]] = []

    @property
    def dashboard(self) -> str:
        return self.url.removesuffix("/v1")

    def spec(self, expert_id: str, **options: Any) -> RaySpec:
        """An application of this cluster."""
        here: dict[str, Any] = {
            "dashboard": self.dashboard,
            "base_url": f"{self.dashboard}/{expert_id}/v1",
            "import_path": "words:build",
            "args": {"name": expert_id},
            "options": {},
            "model": "m",
            "listen": {"host": "127.0.0.1", "port": 8000},
            "token": self.token or None,
            "ready_s": 5.0,
        }
        return RaySpec(expert_id, **{**here, **options})

    def fall(self, name: str, *, told: bool = True) -> None:
        """The application's only replica is killed, and Ray's next health check tells it."""
        self.fallen.add(name)
        if told:
            self._is_now(name, "UNHEALTHY", f"The deployments ['{name}'] are UNHEALTHY.", STARTING)
            [deployment] = self.applications[name]["deployments"].values()
            deployment["message"] = "A replica's health check failed."

    def mend(self, name: str) -> None:
        """Another one is up in its place."""
        self.fallen.discard(name)
        self._is_now(name, "RUNNING", "", RUNNING)

    def declare(self, *applications: Mapping[str, Any]) -> None:
        """Somebody else declares what there is to be, and nothing beside it."""
        self._put({"applications": applications})

    def run(self, name: str) -> None:
        """`serve.run` starts an application, from somebody's program."""
        self._add({"name": name, "route_prefix": f"/{name}", "import_path": ""}, "imperative")

    def acts(self, asked: ReceivedRequest) -> Iterator[Act]:
        if asked.path == _PATH:
            yield from self._dashboard(asked)
            return
        there = self.applications.get(asked.path.split("/")[1])
        if there is None or there["status"] in ("DEPLOY_FAILED", "DELETING"):
            yield whole(404, {}, {})
        elif there["name"] in self.fallen:
            yield Then.STALL
        else:
            text = f"{there['name']} says hello"
            said = {"text": text} if "prompt" in asked.body else {"message": {"content": text}}
            choice = {"index": 0, "finish_reason": "stop", **said}
            yield whole(200, {"model": asked.body["model"], "choices": [choice]}, {})

    def _dashboard(self, asked: ReceivedRequest) -> Iterator[Act]:
        if self.silent:
            yield Then.RESET
        elif self.token and asked.headers.get("authorization") != f"Bearer {self.token}":
            yield whole(401, "Unauthorized: Missing authentication token", {})
        elif not asked.body:
            yield whole(200, self._shown(), {})
        else:
            self.declarations.append(asked.body)
            self._put(asked.body)
            self.silent, self.tires = self.tires, False
            yield whole(200, None, {})

    def _shown(self) -> dict[str, Any]:
        told = {"controller_info": {}, "proxies": {}, "target_capacity": None, **self.serve}
        shown = {**told, "applications": {k: dict(v) for k, v in self.applications.items()}}
        # What is deleted is seen once more.
        self.applications = {
            name: one for name, one in self.applications.items() if one["status"] != "DELETING"
        }
        return shown

    def _put(self, body: Mapping[str, Any]) -> None:
        for one in self.before_put:
            self._add(one, "declarative")
        self.before_put = []
        # Serve takes these at its start only.
        self.serve = self.serve or {name: body[name] for name in _KEPT if name in body}
        declared = {one["name"]: one for one in body["applications"]}
        for name, there in self.applications.items():
            if there["source"] == "declarative" and name not in declared:
                self._is_now(name, "DELETING", "", [])
                there["deployed_app_config"] = None
        for name, one in declared.items():
            before = self.applications.get(name, {})
            if before.get("deployed_app_config") != one or before["status"] == "DEPLOY_FAILED":
                self._add(one, "declarative")

    def _add(self, one: Mapping[str, Any], source: str) -> None:
        name = one["name"]
        self.applications[name] = {
            "name": name,
            "route_prefix": one["route_prefix"],
            "source": source,
            **({"deployed_app_config": one} if source == "declarative" else {}),
        }
        if self.failure:
            self._is_now(name, "DEPLOY_FAILED", self.failure, [])
        else:
            self._is_now(name, "RUNNING", "", RUNNING)

    def _is_now(self, name: str, status: str, message: str, replicas: list[Any]) -> None:
        deployment = {"name": name, "message": "", "replicas": replicas}
        self.applications[name] |= {
            "status": status,
            "message": message,
            "deployments": {name: deployment},
        }
