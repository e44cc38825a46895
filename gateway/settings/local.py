"""Entries of experts that a local engine serves: a packaged model, a vLLM server, its adapters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from gateway.settings.base import Frozen, Secret
from gateway.settings.cards import CalledSettings
from gateway.settings.expert_ids import ExpertId
from gateway.settings.explain import nearest, refusal
from gateway.settings.faults import Place
from gateway.settings.server import is_loopback
from gateway.settings.upstream import url_fault

_PLACING = frozenset(
    {
        *("--tensor-parallel-size", "-tp", "--data-parallel-size", "-dp"),
        "--gpu-memory-utilization",
    }
)


class PackagedExpert(Frozen):
    """A small model that comes as a Python package, served on this machine's CPU."""

    kind: Literal["packaged"]
    package: str
    id: ExpertId = ""
    usd_per_hour: float = Field(0.05, gt=0)
    threads: int = Field(1, ge=1)
    slots: int = Field(2, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _named_after_its_package(cls, data: Any) -> Any:
        if isinstance(data, dict) and not data.get("id"):
            return {**data, "id": data.get("package", "")}
        return data


class InEngineSettings(CalledSettings):
    """What the entry of any expert on vLLM or Ray may say."""

    local: bool = True
    structured_output: bool | None = True
    prefill: bool = True

    @property
    def served_as(self) -> str:
        """The model's name on the wire."""
        return self.id


class VllmExpert(InEngineSettings):
    """A model in a vLLM server: one that the gateway runs, or one that runs already."""

    kind: Literal["vllm"]
    model: str = ""
    """A folder, or a name that vLLM finds in its cache; the name there of a server that runs."""
    venv: str = ""
    """The virtual environment that vLLM is installed in; else `vllm` is looked for in `PATH`."""
    command: tuple[str, ...] = Field((), max_length=100)
    """What starts a server instead; the model and its options are put behind it."""
    args: tuple[str, ...] = ()
    """Options of `vllm serve`, as they are."""
    env: dict[str, Secret] = Field(default_factory=dict, repr=False)
    """Further environment variables of the server; values may be `env:NAME`."""
    adapters: dict[ExpertId, str] = Field(default_factory=dict)
    """Folders of LoRA adapters, each under the id of an expert of its own."""
    max_loras: int | None = Field(None, ge=1)
    """How many of them one batch may mix; all if not said."""
    sleep: bool = False
    """Whether it can be put to sleep with its process alive."""
    device: Literal["gpu", "cpu"] = "gpu"
    """What it computes on; a CPU build frees nothing in its sleep."""
    memory_gb: float | None = Field(None, gt=0)
    """What each of its replicas takes of the `devices`, over all that it computes on."""
    tensor_parallel: int = Field(1, ge=1)
    """Over how many devices its weights are divided."""
    replicas: int = Field(1, ge=1)
    """Copies of the model, each on devices of its own; vLLM shares out by their queues."""
    lazy: bool = False
    """Start it when it is first woken."""
    optional: bool = False
    """Serve the others though it does not start."""
    ready_s: float = Field(600, gt=0)
    """Longest wait from start to first token."""
    base_url: str = ""
    """A server that runs already."""
    allow_link_local: bool = False
    """Let that URL be a link-local address or a cloud's metadata service."""
    api_key: Secret | None = Field(None, repr=False)
    """What that server wants; those that the gateway starts get a key of their own."""

    @model_validator(mode="before")
    @classmethod
    def _on_this_machine_if_it_is_ours(cls, data: Any) -> Any:
        return {**_here(data), **data} if isinstance(data, dict) else data

    @property
    def served_as(self) -> str:
        """The model's name on the wire: our servers call it as we do."""
        return (self.base_url and self.model) or self.id

    @property
    def placeable(self) -> bool:
        """Whether the gateway says which accelerators its server computes on."""
        return not self.base_url and self.device == "gpu"

    @model_validator(mode="after")
    def _runs_or_is_run(self) -> Self:
        if not self.model and not self.base_url:
            raise refusal([(("model",), "needs a `model`, or the `base_url` of a server")])
        if self.venv and self.command:
            raise refusal([(("command",), "needs either `venv` or `command`")])
        if fault := self.base_url and url_fault(
            self.base_url, allow_link_local=self.allow_link_local
        ):
            raise refusal([(("base_url",), fault)])
        ours = [name for name in ("venv", "command", "args", "env") if getattr(self, name)]
        if self.base_url and ours:
            raise refusal([((ours[0],), "can't be given to a server that runs already")])
        if self.model.startswith("-"):
            raise refusal([(("model",), "may not begin with '-'")])
        return self

    @model_validator(mode="after")
    def _says_once_what_it_takes(self) -> Self:
        said = [name for name in ("tensor_parallel", "replicas") if getattr(self, name) > 1]
        said += ["memory_gb"] if self.memory_gb is not None else []
        if said and not self.placeable:
            raise refusal([((said[0],), "is for a server of ours on accelerators")])
        for option in self.args:
            name = option.partition("=")[0]
            if self.memory_gb is not None and name in _PLACING:
                raise refusal([(("args",), f"{name} follows from `memory_gb`, see `devices`")])
        return self


class RayExpert(InEngineSettings):
    """A model in a Serve application that the gateway deploys on a Ray cluster."""

    kind: Literal["ray"]
    dashboard: str
    """The cluster's dashboard, where Serve's REST API is."""
    base_url: str
    """Where the application answers; its path before `/v1` becomes the route prefix."""
    model: str = ""
    """The model's name there; the expert's id if not said."""
    import_path: str = "ray.serve.llm:build_openai_app"
    """What builds the application."""
    args: dict[str, Any] = Field(default_factory=dict)
    """What the builder is called with."""
    env: dict[str, Secret] = Field(default_factory=dict, repr=False)
    """Environment variables of the application; values may be `env:NAME`."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Further fields of the application as Ray has them, such as `runtime_env`, `deployments`."""
    http_options: dict[str, Any] = Field(default_factory=dict)
    """Where Serve is to listen if it does not run yet, as Ray has it: `host`, `port`."""
    token: Secret | None = Field(None, repr=False)
    """What the dashboard wants as a bearer token."""
    api_key: Secret | None = Field(None, repr=False)
    """What the application wants, or a proxy before it."""
    allow_link_local: bool = False
    """Let those URLs be link-local addresses or clouds' metadata services."""
    lazy: bool = False
    """Deploy it when it is first woken."""
    optional: bool = False
    """Serve the others though it does not start."""
    ready_s: float = Field(1800, gt=0)
    """Longest wait from its declaration to the first token."""

    @property
    def served_as(self) -> str:
        """The model's name on the wire."""
        return self.model or self.id

    @property
    def listen(self) -> Mapping[str, Any]:
        """Where Serve is to listen if it does not run yet; empty if only its owner can say."""
        url = urlsplit(self.base_url)
        host = url.hostname or ""
        if self.http_options or not is_loopback(host):
            return self.http_options
        return {"host": "127.0.0.1" if host == "localhost" else host, "port": url.port or 80}

    @model_validator(mode="after")
    def _calls_what_it_may(self) -> Self:
        for name in ("dashboard", "base_url"):
            url = getattr(self, name)
            if fault := url_fault(url, allow_link_local=self.allow_link_local):
                raise refusal([((name,), fault)])
        if not self.base_url.endswith("/v1"):
            raise refusal([(("base_url",), "must end with /v1")])
        if taken := {"name", "route_prefix", "import_path", "args"} & self.options.keys():
            raise refusal([(("options",), f"can't say {sorted(taken)[0]}: the entry does")])
        return self


class AdapterExpert(InEngineSettings):
    """A LoRA adapter in the server of a `vllm` expert; `adapters` of that one is short for it."""

    kind: Literal["adapter"]
    engine: ExpertId
    """The `vllm` expert whose server it is loaded into."""
    path: str = Field(min_length=1)
    """Its folder."""


EngineExpert = PackagedExpert | VllmExpert | RayExpert
"""Entries that an engine is started for."""
ServedHere = EngineExpert | AdapterExpert
"""Entries of all experts that engines of ours answer for."""


def with_adapters(experts: Sequence[Any]) -> list[Any]:
    """The entries, with one more for each adapter that a `vllm` entry names in `adapters`."""
    given = [entry for entry in experts if isinstance(entry, Mapping)]
    # No set: what stands there may be anything yet.
    known = [(entry.get("engine"), entry.get("id")) for entry in given]
    return [
        *experts,
        *(
            adapter
            for entry in given
            for adapter in _adapters_of(entry)
            if (adapter["engine"], adapter["id"]) not in known
        ),
    ]


def _adapters_of(entry: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    adapters = entry.get("adapters")
    if entry.get("kind") != "vllm" or not isinstance(adapters, Mapping):
        return
    # What the model can do its adapters can, too; what it is good at they say for themselves.
    inherited = set(CalledSettings.model_fields) - {"id", "description", "quality_prior"}
    card = {name: value for name, value in {**_here(entry), **entry}.items() if name in inherited}
    for name, path in adapters.items():
        yield {**card, "kind": "adapter", "id": name, "engine": entry.get("id"), "path": path}


def _here(entry: Mapping[str, Any]) -> dict[str, str]:
    """What holds of a server that the gateway runs, beside itself, unless the entry says else."""
    return {} if entry.get("base_url") else {"location": "device", "privacy": "private"}


def homeless_adapters(
    experts: Sequence[Mapping[str, Any]],
) -> Iterator[tuple[Place, str]]:
    """Adapters whose `engine` is no `vllm` expert."""
    engines = [str(entry.get("id")) for entry in experts if entry.get("kind") == "vllm"]
    for index, entry in enumerate(experts):
        name = entry.get("engine")
        if entry.get("kind") == "adapter" and name not in engines:
            hint = nearest(name, engines) if isinstance(name, str) else ""
            yield ("experts", index, "engine"), f"{name!r} is no vllm expert's id{hint}"
