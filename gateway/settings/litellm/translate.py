"""A whole LiteLLM configuration as ours; what is not understood is told, never dropped in silence.

A file may hold both layouts: what it says in ours wins, and LiteLLM's models are added to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.settings.document import Document
from gateway.settings.faults import Fault, FaultyConfigError, Place
from gateway.settings.limits import LimitSettings
from gateway.settings.litellm.deployments import Deployment, read_deployment
from gateway.settings.litellm.elsewhere import LEFT, NO_KEYS, left

_SECTIONS = ("model_list", "litellm_settings", "router_settings", "general_settings")
_OTHERS = (
    *("environment_variables", "include", "guardrails", "mcp_servers", "credential_list"),
    *("callback_settings", "files_settings", "finetune_settings", "vector_store_registry"),
    *("search_tools", "assistant_settings", "prompts"),
)


def from_litellm(document: Document) -> tuple[Document, list[Fault]]:
    """The document in our layout, and what of it has no effect.

    Raises:
        FaultyConfigError: LiteLLM's sections are not of the form that it knows.
    """
    if not any(name in document.data for name in _SECTIONS):
        return document, []
    work = _Translation(document)
    work.models()
    work.general()
    work.library()
    work.router()
    work.falls_back()
    work.deadline()
    work.rest()
    if work.faults:
        raise FaultyConfigError(work.faults)
    return document.translated(work.data, work.origins), sorted(work.warnings)


class _Translation:
    def __init__(self, document: Document) -> None:
        self.faults: list[Fault] = []
        self.warnings: list[Fault] = []
        self.origins: dict[Place, Place] = {}
        self.data = {
            name: value
            for name, value in document.data.items()
            if name not in (*_SECTIONS, *_OTHERS)
        }
        self._document = document
        self._names: list[str] = []

    # sections

    def models(self) -> None:
        entries = self._document.data.get("model_list", [])
        if not isinstance(entries, list):
            self._fault(("model_list",), "must be a list")
            return
        if "model_list" in self._document.data and "experts" not in self.data:
            # Who names models does not want ours when none of them can be served.
            self.data["experts"] = []
            self.origins[("experts",)] = ("model_list",)
        before = len(self.warnings)
        groups: dict[str, list[Deployment]] = {}
        for index, entry in enumerate(entries):
            found = self._deployment(entry, ("model_list", index))
            if found is not None:
                groups.setdefault(found.name, []).append(found)
        if entries and not groups and not self.data.get("experts"):
            # All that keeps it from being served: as warnings nobody would get to see it.
            self._fault(("model_list",), "needs at least one expert")
            self.faults += self.warnings[before:]
        for name, deployments in groups.items():
            self._group(name, deployments)

    def deadline(self) -> None:
        """As long as the longest wait for an answer; LiteLLM has none but that."""
        entries = self.data.get("experts")
        experts = entries if isinstance(entries, list) else []
        own = [_mapping(_mapping(each).get("limits")) for each in experts]
        waits: list[float] = [each["whole_s"] for each in own if _number(each.get("whole_s"))]
        longest = max(waits, default=0)
        limits = _mapping(self.data.get("limits"))
        if longest > LimitSettings().total_s and "total_s" not in limits:
            self._set(("limits", "total_s"), longest, ("model_list",))

    def general(self) -> None:
        place, settings = self._section("general_settings")
        keys = self.data.get("keys") or []
        # What is no list is told when our own layout is checked.
        if (key := settings.pop("master_key", None)) is not None and isinstance(keys, list):
            origin = (*place, "master_key")
            self.origins[("keys", len(keys))] = origin
            self.origins[("keys", len(keys), "key")] = origin
            self.data["keys"] = [*keys, {"name": "master", "key": key, "role": "admin"}]
        if (url := settings.pop("database_url", None)) is not None:
            where = (*place, "database_url")
            self._set(("ledger", "url"), url, where)
            if self.origins.get(("ledger", "url")) == where:
                self._warn(where, NO_KEYS)
        self._leave(place, settings)

    def library(self) -> None:
        place, settings = self._section("litellm_settings")
        settings.pop("drop_params", None)
        self._number(settings, place, "num_retries", ("execution", "max_retries"))
        self._number(settings, place, "request_timeout", ("limits", "total_s"))
        self._cache(settings, place)
        self._fallbacks(settings, place)
        if settings.pop("json_logs", None) is True:
            self._set(("logging", "format"), "json", (*place, "json_logs"))
        for name in ("callbacks", "success_callback", "failure_callback"):
            given = settings.get(name)
            # Figures for Prometheus are there in any case.
            if given in ("prometheus", ["prometheus"]):
                del settings[name]
        settings.pop("set_verbose", None)
        self._leave(place, settings)

    def router(self) -> None:
        place, settings = self._section("router_settings")
        self._number(settings, place, "num_retries", ("execution", "max_retries"))
        self._number(settings, place, "timeout", ("limits", "total_s"))
        self._number(settings, place, "stream_timeout", ("limits", "first_token_s"))
        self._number(settings, place, "cooldown_time", ("breaker", "open_s"))
        if isinstance(fails := settings.get("allowed_fails"), int):
            del settings["allowed_fails"]
            # LiteLLM counts those that are forgiven, we the one that is not.
            self._set(("breaker", "failures"), fails + 1, (*place, "allowed_fails"))
        self._fallbacks(settings, place)
        aliases = settings.pop("model_group_alias", None)
        for alias, target in self._keys(aliases, (*place, "model_group_alias")).items():
            named = target.get("model") if isinstance(target, Mapping) else target
            where = (*place, "model_group_alias", alias)
            if isinstance(named, str) and named in self._known():
                self._set(("aliases", alias), named, where)
            else:
                self._warn(where, f"has no effect: {named!r} is not served")
        # Who can't serve a request is always left out before it is asked.
        settings.pop("enable_pre_call_checks", None)
        if settings.pop("routing_strategy", None) is not None:
            where = (*place, "routing_strategy")
            self._warn(where, "calls go to the least busy replica, near to what it has cached")
        self._leave(place, settings)

    def rest(self) -> None:
        for name in _OTHERS:
            if self._document.data.get(name):
                self._warn((name,), left(name))

    # parts of sections

    def _deployment(self, entry: Any, place: Place) -> Deployment | None:
        """What can be served of an entry; the rest of it is told."""
        if not self._well_formed(entry, place):
            return None
        found = read_deployment(entry, place)
        for key in entry.keys() - {"model_name", "litellm_params", "model_info"}:
            self._warn((*place, key), LEFT)
        for without_effect in found.left:
            self._warn(*without_effect)
        for fault in found.faults:
            self._fault(*fault)
        return found if found.expert is not None else None

    def _well_formed(self, entry: Any, place: Place) -> bool:
        if not isinstance(entry, dict):
            self._fault(place, "must hold keys and values")
            return False
        if not isinstance(entry.get("model_name"), str) or not entry["model_name"]:
            self._fault((*place, "model_name"), "must be text")
            return False
        params = entry.get("litellm_params")
        if not isinstance(params, dict) or not isinstance(params.get("model"), str):
            self._fault((*place, "litellm_params", "model"), "must be text")
            return False
        if not isinstance(entry.get("model_info") or {}, dict):
            self._fault((*place, "model_info"), "must hold keys and values")
            return False
        return True

    def _group(self, name: str, deployments: list[Deployment]) -> None:
        """Deployments of one name: endpoints of one expert if they differ in nothing else."""
        first, *others = deployments
        if others and all(_alike(first, other) for other in others):
            urls = [_expert(each).pop("base_url") for each in deployments]
            _expert(first)["base_urls"] = urls
            for index, each in enumerate(deployments):
                first.origins[("base_urls", index)] = each.origins[("base_url",)]
            self._add(name, first, _limits(deployments))
            return
        self._add(name, first, _limits([first]))
        stand_ins = []
        for number, other in enumerate(others, start=2):
            stand_ins.append(f"{name}-{number}")
            self._add(stand_ins[-1], other, _limits([other]))
        if stand_ins:
            self._stand_in(name, stand_ins, deployments[1].place)
            said = f"differs from the first {name!r}: it stands in for it as {stand_ins[0]!r}"
            self._warn((*deployments[1].place, "model_name"), f"{said}, and shares no load")

    def _add(self, name: str, found: Deployment, limits: dict[str, Any]) -> None:
        experts = self.data.setdefault("experts", [])
        if not isinstance(experts, list):
            # Told when our own layout is checked.
            return
        experts = self.data["experts"] = list(experts)
        here: Place = ("experts", len(experts))
        expert = {"id": name, **_expert(found)}
        if limits:
            expert["limits"] = limits
            self.origins[(*here, "limits")] = (*found.place, "litellm_params")
        if _mapping(self._document.data.get("litellm_settings")).get("drop_params") is True:
            expert["params"] = "drop"
        experts.append(expert)
        self._names.append(name)
        self.origins[here] = found.place
        self.origins[(*here, "id")] = (*found.place, "model_name")
        for place, origin in found.origins.items():
            self.origins[(*here, *place)] = origin

    def _fallbacks(self, settings: dict[str, Any], place: Place) -> None:
        for section in ("fallbacks", "context_window_fallbacks", "content_policy_fallbacks"):
            for index, each in enumerate(self._list(settings, place, section)):
                where = (*place, section, index)
                for name, stand_ins in self._keys(each, where).items():
                    for asked in self._names if name == "*" else [name]:
                        self._stand_in(asked, stand_ins, where)
                if section == "content_policy_fallbacks":
                    self._set(("execution", "fallback_on"), ["content_filter"], where)
        for stand_in in self._list(settings, place, "default_fallbacks"):
            for name in self._names:
                if name != stand_in:
                    self._stand_in(name, [stand_in], (*place, "default_fallbacks"))

    def falls_back(self) -> None:
        """Models stand in for those whose key is refused too, as in LiteLLM."""
        execution = _mapping(self.data.get("execution"))
        own = _mapping(self._document.data.get("execution"))
        if execution.get("fallbacks") and "fallback_on" not in own:
            refusals = [*execution.get("fallback_on", ()), "auth"]
            self.data["execution"] = {**execution, "fallback_on": refusals}

    def _stand_in(self, name: str, stand_ins: Any, origin: Place) -> None:
        section = self._ours("execution")
        if section is None or not isinstance(section.setdefault("fallbacks", {}), dict):
            return
        before = section["fallbacks"].get(name, [])
        added = [str(each) for each in (stand_ins if isinstance(stand_ins, list) else [stand_ins])]
        for unknown in {name, *added} - self._known():
            self._warn(origin, f"has no effect on {unknown!r}, which is not served")
        served = [each for each in added if each in self._known()]
        if isinstance(before, list) and served and name in self._known():
            more = [each for each in dict.fromkeys(served) if each not in before]
            section["fallbacks"][name] = [*before, *more]
            self.origins.setdefault(("execution", "fallbacks", name), origin)

    def _known(self) -> set[str]:
        given = self._document.data.get("experts")
        entries = given if isinstance(given, list) else []
        own = {str(entry.get("id")) for entry in entries if isinstance(entry, dict)}
        return own | set(self._names)

    def _cache(self, settings: dict[str, Any], place: Place) -> None:
        params = self._keys(settings.pop("cache_params", None), (*place, "cache_params"))
        if settings.pop("cache", False) is not True:
            return
        if params.pop("type", "local") != "local":
            where = (*place, "cache_params", "type")
            self._warn(where, "answers are kept in each process's own memory")
        self._set(("cache", "exact"), True, (*place, "cache"))
        self._number(params, (*place, "cache_params"), "ttl", ("cache", "ttl_s"))
        self._leave((*place, "cache_params"), params)

    # small tools

    def _section(self, name: str) -> tuple[Place, dict[str, Any]]:
        return (name,), self._keys(self._document.data.get(name), (name,))

    def _keys(self, value: Any, place: Place) -> dict[str, Any]:
        if value is not None and not isinstance(value, dict):
            self._fault(place, "must hold keys and values")
        return _mapping(value)

    def _list(self, values: dict[str, Any], place: Place, name: str) -> list[Any]:
        value = values.pop(name, None)
        if value is not None and not isinstance(value, list):
            self._fault((*place, name), "must be a list")
        return value if isinstance(value, list) else []

    def _number(self, values: dict[str, Any], place: Place, name: str, ours: Place) -> None:
        if values.get(name) is not None:
            self._set(ours, values[name], (*place, name))
        values.pop(name, None)

    def _set(self, place: Place, value: Any, origin: Place) -> None:
        """What the file says in our own layout wins."""
        section = self._ours(str(place[0]))
        if section is None:
            return
        if place[-1] in section:
            self._warn(origin, f"has no effect: `{place[0]}.{place[-1]}` is given as well")
            return
        section[str(place[-1])] = value
        self.origins[place] = origin

    def _ours(self, name: str) -> dict[str, Any] | None:
        section = self.data.setdefault(name, {})
        if not isinstance(section, dict):
            # Told when our own layout is checked.
            return None
        own = self.data[name] = dict(section)
        return own

    def _leave(self, place: Place, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            if value not in (None, False, [], {}):
                self._warn((*place, name), left(name))

    def _warn(self, place: Place, message: str) -> None:
        self.warnings.append(self._document.fault(place, message))

    def _fault(self, place: Place, message: str) -> None:
        self.faults.append(self._document.fault(place, message))


def _limits(deployments: list[Deployment]) -> dict[str, Any]:
    """The longest of all; for streams it bounds each silence, as in LiteLLM."""
    found: dict[str, Any] = {}
    if whole := [d.timeout_s for d in deployments if _number(d.timeout_s)]:
        found["whole_s"] = max(whole)
    streams = [d.stream_timeout_s for d in deployments if _number(d.stream_timeout_s)]
    for name in ("header_s", "first_token_s", "idle_s"):
        # A longer one than ours is meant for whole answers: silence needs no such patience.
        if streams and max(streams) < getattr(LimitSettings(), name):
            found[name] = max(streams)
    return found


def _alike(first: Deployment, other: Deployment) -> bool:
    def rest(found: Deployment) -> dict[str, Any]:
        return {name: value for name, value in _expert(found).items() if name != "base_url"}

    return rest(first) == rest(other) and _expert(first)["base_url"] != _expert(other)["base_url"]


def _expert(found: Deployment) -> dict[str, Any]:
    assert found.expert is not None  # noqa: S101 - groups hold those that are served
    return found.expert


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
