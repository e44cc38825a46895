"""What is said to a Ray cluster about Serve applications, at its dashboard's REST API."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import httpx2

from experts.errors import EngineStartError
from experts.http.connecting import bearer, tls

MARK = "POINTSMAN_EXPERT"
"""The environment variable of an application that says whose it is."""

_log = logging.getLogger(__name__)
_QUICK_S = 5.0
_DECLARE_S = 60.0
_PATH = "/api/serve/applications/"
_MAX_ERROR_CHARS = 1000
# One declaration names all applications: two that are merged at once would lose one of ours.
_MERGING = threading.Lock()


@dataclass(frozen=True, slots=True)
class Application:
    """One application at one moment, as Ray tells of it.

    Attributes:
        status: `DEPLOYING`, `RUNNING`, `UNHEALTHY`, `DEPLOY_FAILED` or `DELETING`.
        message: Why it is that.
        declared: As what it was declared; empty if it is being deleted or came by `serve.run`.
        bare: Whether one of its deployments has no replica that runs.
    """

    status: str
    message: str
    declared: Mapping[str, Any]
    bare: bool

    @property
    def owner(self) -> str | None:
        """The expert that it was declared for, if it was for one."""
        env = (self.declared.get("runtime_env") or {}).get("env_vars") or {}
        owner: str | None = env.get(MARK)
        return owner

    @property
    def said(self) -> str:
        """Its status with the reason."""
        return f"{self.status}: {self.message}" if self.message else self.status

    @property
    def deleting(self) -> bool:
        """Whether it goes away."""
        return self.status == "DELETING"

    @property
    def failed(self) -> bool:
        """Whether Ray has given up."""
        return self.status == "DEPLOY_FAILED"

    @property
    def down(self) -> bool:
        """Whether it serves nobody before Ray has started a replica in place of one that fell."""
        return self.status == "UNHEALTHY" and self.bare


class RayServeApi:
    """The Serve applications of one Ray cluster.

    Args:
        dashboard: Its dashboard's URL.
        token: What it wants as a bearer token, if anything.
    """

    def __init__(self, dashboard: str, token: str | None) -> None:
        self._dashboard = dashboard
        # A proxy from the environment has no business between us.
        self._client = httpx2.Client(
            base_url=dashboard,
            headers=bearer(token),
            timeout=_QUICK_S,
            trust_env=False,
            verify=tls(),
        )

    def close(self) -> None:
        """Give its connections back."""
        self._client.close()

    def application(self, name: str) -> Application | None:
        """How it is; None if there is none.

        Raises:
            EngineStartError: The cluster does not say.
        """
        told = self._details()["applications"].get(name)
        if told is None:
            return None
        deployments = told["deployments"].values()
        replicas = [
            {replica["state"] for replica in deployment.get("replicas", ())}
            for deployment in deployments
        ]
        # The application's own only names the deployments whose fault it is.
        messages = [told["message"], *(deployment["message"] for deployment in deployments)]
        return Application(
            told["status"],
            " ".join(filter(None, messages)),
            told.get("deployed_app_config") or {},
            any("RUNNING" not in states for states in replicas),
        )

    def declare(self, application: Mapping[str, Any], listen: Mapping[str, Any]) -> None:
        """Deploy it, or change one of that name to it; what is so already goes on as it is.

        Args:
            application: As Ray has it.
            listen: Where Serve is to listen if it does not run yet, as Ray has it.

        Raises:
            EngineStartError: The cluster refused, or gave no answer.
        """
        self._put(application["name"], [application], listen)

    def remove(self, name: str) -> None:
        """Delete it; one that is not there is fine.

        Raises:
            EngineStartError: The cluster refused, or gave no answer.
        """
        self._put(name, [], {})

    def _put(self, name: str, instead: list[Mapping[str, Any]], listen: Mapping[str, Any]) -> None:
        """Declare what is declared, with these in place of the application of that name."""
        with _MERGING:
            now = self._details()
            kept = ("proxy_location", "http_options", "grpc_options", "target_capacity")
            body = {field: now[field] for field in kept if now.get(field) is not None}
            if "http_options" not in body:
                # Serve does not run. Left to itself, it would listen on every address.
                if not listen:
                    raise EngineStartError(
                        f"Serve does not run on the Ray cluster {self._dashboard}: start it there "
                        "(`serve start --http-host HOST`), or say with `http_options` where it is "
                        "to listen"
                    )
                body["http_options"] = listen
            # Ray deletes what was declared before and is not again. What `serve.run` started has
            # no configuration to declare, and is left alone.
            others = [
                each["deployed_app_config"]
                for each_name, each in now["applications"].items()
                if each_name != name and each.get("deployed_app_config")
            ]
            self._ask("PUT", {**body, "applications": [*others, *instead]}, _DECLARE_S)
            # It is declared, whether or not the cluster says more.
            with suppress(EngineStartError):
                self._warn_of_lost(name, now["applications"])

    def _warn_of_lost(self, name: str, before: Mapping[str, Any]) -> None:
        """Ray has no way to change one application: somebody else may have declared meanwhile."""
        for each, told in self._details()["applications"].items():
            if each not in {name, *before} and told["status"] == "DELETING":
                _log.error(
                    "application %s on Ray was declared while %s was, and is lost: declare it anew",
                    each,
                    name,
                )

    def _details(self) -> dict[str, Any]:
        answer = self._ask("GET", None, _QUICK_S)
        try:
            details = answer.json()
        except ValueError as error:
            raise EngineStartError(f"{self._dashboard} is no Ray dashboard: {error}") from error
        if not isinstance(details, dict) or not isinstance(details.get("applications"), dict):
            raise EngineStartError(f"{self._dashboard} is no Ray dashboard: it has no applications")
        return details

    def _ask(
        self, method: str, body: Mapping[str, Any] | None, timeout_s: float
    ) -> httpx2.Response:
        try:
            answer = self._client.request(method, _PATH, json=body, timeout=timeout_s)
        except httpx2.TransportError as error:
            raise EngineStartError(
                f"the Ray dashboard {self._dashboard} gave no answer: {error!r}"
            ) from error
        if not answer.is_success:
            raise EngineStartError(
                f"the Ray dashboard {self._dashboard} answered {method} with "
                f"{answer.status_code}: {answer.text[:_MAX_ERROR_CHARS]}"
            )
        return answer
