"""What every route reads and answers: for the document, which is all that loads this."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.api.described.admin import (
    Budgets,
    ConfigChange,
    ConfigJson,
    ConfigVerdict,
    ExpertMoved,
    ExpertStates,
    FaultyConfigJson,
    KeyJson,
    Keys,
    MintedKey,
    RouterState,
    RouterStates,
)
from gateway.api.described.admin import Promotion as PromotionBody
from gateway.api.described.anthropic import (
    AnthropicMessage,
    CountBody,
    MessageEvent,
    MessagesBody,
    TokenCount,
)
from gateway.api.described.openai import (
    ChatBody,
    ChatChunk,
    ChatCompletion,
    CompletionBody,
    EmbeddingBody,
    Embeddings,
    ModelJson,
    Models,
    TextChunk,
    TextCompletion,
)
from gateway.api.described.operation import (
    ADMIN,
    ASKS,
    KEYED,
    OPEN,
    READS,
    AnthropicErrorJson,
    Parameter,
    Text,
    described,
)
from gateway.api.described.ours import (
    AnyFeedback,
    BookedOutcomes,
    DecisionJson,
    Live,
    Ready,
    RouteJson,
)
from gateway.api.described.responses import (
    CountedBody,
    DeletedResponse,
    InputItems,
    InputTokens,
    ResponseBody,
    ResponseEvent,
    ResponseJson,
)
from gateway.api.keys import NewKey, Rotation, Wanted

_STREAM = Parameter("stream", "A kept response is given whole.", {"enum": ["false"]})
_COUNT = {"type": "integer", "minimum": 1}
_PAGE = (
    Parameter("order", "Of their making.", {"enum": ["asc", "desc"]}),
    Parameter("after", "The id of the last item of the page before.", {"type": "string"}),
    Parameter("limit", "How many.", _COUNT | {"maximum": 100}),
)
_MODEL_PAGE = (
    Parameter("limit", "How many; for Anthropic's clients.", _COUNT | {"maximum": 1000}),
    Parameter("after_id", "The last of the page before.", {"type": "string"}),
    Parameter("before_id", "The first of the page behind.", {"type": "string"}),
)
_MAY_CLASH = (*ADMIN, 409)
_CHANGES = (*READS, 404, 409)

DESCRIBED: Mapping[str, Mapping[str, Any]] = {
    "POST /v1/chat/completions": described(
        ChatCompletion, ASKS, body=ChatBody, asks=True, streamed=ChatChunk
    ),
    "POST /v1/route": described(RouteJson, (*READS, 404), body=ChatBody),
    "POST /v1/messages": described(
        AnthropicMessage,
        ASKS,
        body=MessagesBody,
        asks=True,
        streamed=MessageEvent,
        error=AnthropicErrorJson,
    ),
    "POST /v1/messages/count_tokens": described(
        TokenCount, ASKS, body=CountBody, error=AnthropicErrorJson
    ),
    "POST /v1/responses": described(
        ResponseJson, ASKS, body=ResponseBody, asks=True, streamed=ResponseEvent
    ),
    "POST /v1/responses/input_tokens": described(InputTokens, ASKS, body=CountedBody),
    "GET /v1/responses/{response_id}": described(
        ResponseJson, (*KEYED, 400, 404), parameters=[_STREAM]
    ),
    "DELETE /v1/responses/{response_id}": described(DeletedResponse, (*KEYED, 404)),
    "GET /v1/responses/{response_id}/input_items": described(
        InputItems, (*KEYED, 400, 404), parameters=_PAGE
    ),
    "POST /v1/completions": described(
        TextCompletion, ASKS, body=CompletionBody, asks=True, streamed=TextChunk
    ),
    "POST /v1/embeddings": described(Embeddings, ASKS, body=EmbeddingBody, asks=True),
    "GET /v1/models": described(Models, (*KEYED, 400), parameters=_MODEL_PAGE),
    "GET /v1/models/{name}": described(ModelJson, (*KEYED, 404)),
    "POST /v1/feedback": described(BookedOutcomes, (*READS, 404, 409), body=AnyFeedback),
    "GET /v1/decisions/{decision_id}": described(DecisionJson, (*KEYED, 404)),
    "GET /health/live": described(Live, OPEN),
    "GET /health/ready": described(Ready, OPEN, also={503: Ready}),
    "GET /admin/routers": described(RouterStates, ADMIN),
    "POST /admin/routers/{name}/promote": described(RouterState, (*READS, 404), body=PromotionBody),
    "POST /admin/routers/{name}/rollback": described(RouterState, ADMIN),
    "GET /admin/budgets": described(Budgets, ADMIN),
    "GET /admin/config": described(ConfigJson, ADMIN),
    "POST /admin/config/reload": described(ConfigChange, _MAY_CLASH, also={400: FaultyConfigJson}),
    "POST /admin/config/rollback": described(
        ConfigChange, _MAY_CLASH, also={400: FaultyConfigJson}
    ),
    "POST /admin/config/validate": described(
        ConfigVerdict, (*READS, 404, 409), body=Text("application/yaml")
    ),
    "GET /metrics": described(Text("text/plain"), ADMIN),
    "GET /admin/keys": described(Keys, ADMIN),
    "POST /admin/keys": described(MintedKey, _CHANGES, body=NewKey, status=201),
    "POST /admin/keys/{name}": described(KeyJson, _CHANGES, body=Wanted),
    "POST /admin/keys/{name}/rotate": described(
        MintedKey, _CHANGES, body=Rotation, body_required=False
    ),
    "POST /admin/keys/{name}/revoke": described(KeyJson, (*ADMIN, 400, 409)),
    "GET /": described(Text("text/html"), ADMIN),
    "GET /admin/experts": described(ExpertStates, ADMIN),
    "POST /admin/experts/{expert_id}/start": described(ExpertMoved, _MAY_CLASH),
    "POST /admin/experts/{expert_id}/wake": described(ExpertMoved, _MAY_CLASH),
    "POST /admin/experts/{expert_id}/sleep": described(ExpertMoved, _MAY_CLASH),
    "POST /admin/experts/{expert_id}/stop": described(ExpertMoved, _MAY_CLASH),
}
"""By method and path, operations in OpenAPI's words."""
