"""Who embeds: chosen by what the text is about, and then the same for all that is compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import pytest

from experts.cards import ExpertCard, Prices, Privacy
from experts.embedder import EmbedderExpert
from gateway.errors import ConfigError
from gateway.routing.router_store import RouterStore
from gateway.settings.load import read_configuration
from routers.fitting.fit import fit_router
from routers.records import OutcomeTable, Vectors

Serve = Callable[..., Any]
LAW, MEDICINE = "the court heard the appeal of case", "the doctor treated the fever of patient"
KEYS = [
    {"name": "a", "key": "key-of-team-a", "project": "a"},
    {"name": "b", "key": "key-of-team-b", "project": "b"},
]
TEAM_A, TEAM_B = ({"authorization": f"Bearer {one['key']}"} for one in KEYS)


def embedder(
    name: str, price: float, space: str = "", privacy: Privacy = "public"
) -> EmbedderExpert:
    def encode(texts: Sequence[str]) -> Vectors:
        return np.full((len(texts), 2), price, dtype=np.float32)

    card = ExpertCard(
        name, api="embeddings", prices=Prices(price, 0), space=space or name, privacy=privacy
    )
    return EmbedderExpert(card, encode)


def pool(**changed: EmbedderExpert) -> dict[str, EmbedderExpert]:
    made = {"general": embedder("general", 1), "law": embedder("law", 2), "med": embedder("med", 3)}
    return {**made, **changed}


def outcomes() -> OutcomeTable:
    """How well each embedder finds what texts of two domains ask for."""
    texts = [f"{text} {number}" for text in (LAW, MEDICINE) for number in range(30)]
    unknown_NA = np.full((60, 3), np.nan)
    score_NA = np.repeat([[0.4, 0.9, 0.1], [0.4, 0.1, 0.9]], 30, axis=0)
    ids = tuple(f"q{number:02}" for number in range(60))
    tasks = ("law",) * 30 + ("med",) * 30
    return OutcomeTable(
        ids, tuple(texts), tasks, ids, ("general", "law", "med"), score_NA,
        unknown_NA, unknown_NA, unknown_NA, unknown_NA, np.ones((60, 3)),
    )  # fmt: skip


@pytest.fixture
def routed(serve: Serve, tmp_path: Path) -> Callable[..., Any]:
    """A gateway over three embedders with a router that has learned what each is good at."""
    store = RouterStore(tmp_path / "routers")
    version = store.publish(fit_router("domains", "pilot+tfidf", outcomes(), seed=0))
    store.promote("domains", version)

    def start(experts: Any = None, **sections: Any) -> Any:
        routing = {"embeddings_router": "domains", **sections.pop("routing", {})}
        return serve(experts or pool(), routing=routing, **sections)

    return start


def embed(served: Any, text: Any, *, model: str = "auto", **more: Any) -> httpx2.Response:
    headers, fields = more.pop("headers", {}), more.pop("fields", {})
    body = {"model": model, "input": text, "pointsman": more, **fields}
    found: httpx2.Response = served.client.post("/v1/embeddings", json=body, headers=headers)
    return found


def who(answer: httpx2.Response) -> str:
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == answer.headers["x-pointsman-expert"]
    return answer.headers["x-pointsman-expert"]


def refusal(answer: httpx2.Response) -> dict[str, Any]:
    assert answer.status_code == 400, answer.text
    error: dict[str, Any] = answer.json()["error"]
    return error


def test_where_nothing_says_what_for_it_is_always_the_same(routed: Callable[..., Any]) -> None:
    served = routed()
    assert {who(embed(served, text)) for text in (LAW, MEDICINE)} == {"general"}
    named = embed(served, LAW, model="med")
    assert who(named) == "med"
    assert "x-pointsman-collections" not in named.headers


def test_a_collection_stays_with_whom_its_first_text_was_for(routed: Callable[..., Any]) -> None:
    served = routed(keys=KEYS)
    first = embed(served, [LAW, LAW], collection="files", headers=TEAM_A)
    assert who(first) == "law"
    assert first.headers["x-pointsman-router"] == "domains"
    assert first.headers["x-pointsman-collections"] == "files"
    assert who(embed(served, MEDICINE, collection="files", headers=TEAM_A)) == "law"
    # Whatever others call theirs, and after a start anew.
    assert who(embed(served, MEDICINE, collection="files", headers=TEAM_B)) == "med"
    again = routed(keys=KEYS)
    assert who(embed(again, MEDICINE, collection="files", headers=TEAM_A)) == "law"
    assert again.verified().faults == ()


def test_another_space_is_refused_with_the_reason(routed: Callable[..., Any]) -> None:
    served = routed()
    who(embed(served, LAW, collection="files"))
    error = refusal(embed(served, LAW, model="med", collection="files"))
    assert error["code"] == "other_vector_space"
    assert "files was not embedded by 'med'" in error["message"]
    error = refusal(embed(served, LAW, collection="files", fields={"dimensions": 2}))
    assert "of its embedder's own dimensions, not of 2 dimensions" in error["message"]
    moved = routed(pool(law=embedder("law", 2, space="law-2")))
    error = refusal(embed(moved, LAW, collection="files"))
    assert "embedded by 'law' as 'law', which is 'law-2' now" in error["message"]


def test_a_query_is_told_which_collection_to_search(routed: Callable[..., Any]) -> None:
    served = routed(routing={"epsilon": 0.0})
    for name, expert in (("cases", "law"), ("notes", "med"), ("more-cases", "law")):
        who(embed(served, "anything", model=expert, collection=name))
    every = ["cases", "notes", "more-cases"]
    answer = embed(served, f"{LAW} 99", collections=every)
    assert who(answer) == "law"
    assert answer.headers["x-pointsman-collections"] == "cases,more-cases"
    header = {"x-pointsman-collections": "cases, notes"}
    answer = embed(served, f"{MEDICINE} 99", headers=header)
    assert (who(answer), answer.headers["x-pointsman-collections"]) == ("med", "notes")
    # Whoever embedded none of them can't be asked, and says why.
    assert served.record(answer)["excluded"] == {"general": "not among the experts allowed"}
    error = refusal(embed(served, LAW, collections=["cases", "unheard-of"]))
    assert error["param"] == "pointsman.collections"
    assert "nothing was embedded for 'unheard-of' yet" in error["message"]


def test_a_session_keeps_its_embedder_too(routed: Callable[..., Any], serve: Serve) -> None:
    served = routed()
    assert who(embed(served, MEDICINE, session="s1")) == "med"
    assert who(embed(served, LAW, session="s1")) == "med"
    assert who(embed(served, LAW, session="s2")) == "law"
    # Where no router chooses, all sessions have the same anyway.
    plain = serve(pool())
    assert who(embed(plain, MEDICINE, session="s1")) == "general"
    assert who(embed(plain, MEDICINE, collection="files")) == "general"


def test_of_many_who_come_first_at_once_one_is(routed: Callable[..., Any]) -> None:
    served, other = routed(), routed()
    with ThreadPoolExecutor(4) as threads:
        answers = threads.map(
            lambda number: embed(
                (served, other)[number % 2], (LAW, MEDICINE)[number // 2 % 2], collection="new"
            ),
            range(12),
        )
        assert len({who(answer) for answer in answers}) == 1


def test_private_texts_stay_in_their_class_whoever_has_the_collection(
    routed: Callable[..., Any],
) -> None:
    served = routed(pool(med=embedder("med", 3, privacy="private")))
    assert who(embed(served, LAW, collection="mine", privacy="private")) == "med"
    who(embed(served, LAW, collection="files"))
    error = refusal(embed(served, LAW, collection="files", privacy="private"))
    assert error["code"] == "no_eligible_expert"
    assert "law: may be sent public data at most" in error["message"]


def test_kept_vectors_are_of_the_same_session(routed: Callable[..., Any]) -> None:
    served = routed(cache={"exact": True})
    who(embed(served, MEDICINE, session="s1"))
    who(embed(served, LAW, session="s2"))
    assert who(embed(served, "a text of both", session="s1")) == "med"
    assert who(embed(served, "a text of both", session="s2")) == "law"
    again = embed(served, "a text of both", session="s2")
    assert (who(again), again.headers["x-pointsman-cache"]) == ("law", "hit")


def test_several_embedders_are_never_combined() -> None:
    text = """
experts:
  - {id: one, base_url: "http://127.0.0.1:9/v1", api: embeddings}
  - {id: two, kind: embedder, encoder: static}
  - {id: both, kind: vote, of: [one, two]}
"""
    with pytest.raises(ConfigError) as caught:
        read_configuration(text, "c.yaml")
    assert str(caught.value).count("vectors of several models can't be compared") == 2


def test_an_embedder_in_this_process_counts_and_refuses(serve: Serve) -> None:
    served = serve(pool())
    answer = embed(served, ["four", "and five"], model="general")
    assert [each["embedding"] for each in answer.json()["data"]] == [[1.0, 1.0]] * 2
    assert answer.json()["usage"]["prompt_tokens"] == 3
    assert answer.headers["x-pointsman-cost-usd"] == "0.000003000"
    assert "not token numbers" in refusal(embed(served, [[1, 2]], model="general"))["message"]
    wrong = embed(served, "text", model="general", fields={"dimensions": 8})
    assert "makes vectors of 2 dimensions, not of 8" in refusal(wrong)["message"]
