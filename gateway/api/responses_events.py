"""Pieces of an answer to Responses' output items and the events that tell of them. Pure."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from typing import Any

import orjson

from experts.messages import Delta, Json
from gateway.api.responses_items import sealed

Said = dict[str, Any]


class ItemEvents:
    """Output items of one response, one after the other.

    An item ends before the next begins. Only calls whose pieces come mixed stay open side by side:
    each is ended when its arguments are whole JSON, or with the response.

    Args:
        decision_id: What the ids of items are made from.
        summary: Whether thought is told as a summary or as the content of a reasoning item.

    Attributes:
        output: All items so far, those that are open included.
    """

    def __init__(self, decision_id: str, *, summary: bool) -> None:
        self.output: list[dict[str, Any]] = []
        self._decision_id = decision_id
        self._summary = summary
        self._open: _Message | _Reasoning | None = None
        self._calls: dict[int, _Call] = {}

    def add(self, delta: Delta) -> Iterator[Said]:
        """What is new."""
        if delta.reasoning:
            thought = yield from self._reasoning()
            yield from thought.write(delta.reasoning)
        if blocks := delta.fields.get("thinking_blocks"):
            thought = yield from self._reasoning()
            thought.sign(blocks)
        if delta.text or delta.logprobs:
            message = yield from self._message()
            yield from message.write(delta.text, (delta.logprobs or {}).get("content") or [])
        if refusal := delta.fields.get("refusal"):
            message = yield from self._message()
            yield from message.refuse(str(refusal))
        for note in delta.fields.get("annotations") or ():
            message = yield from self._message()
            yield from message.annotate(note)
        for piece in delta.tool_calls:
            yield from self._called(piece)

    def close(self, *, whole: bool) -> Iterator[Said]:
        """The ends of all items that are open."""
        yield from self._end_open(whole=whole)
        for call in self._calls.values():
            yield from call.end(whole=whole)

    def _end_open(self, *, whole: bool = True) -> Iterator[Said]:
        if self._open is not None:
            yield from self._open.end(whole=whole)
            self._open = None

    def _start(self, kind: str, prefix: str, fields: Json) -> Iterator[Said]:
        yield from self._end_open()
        for call in self._calls.values():
            if call.is_whole():
                yield from call.end(whole=True)
        name = f"{prefix}_{self._decision_id}_{len(self.output)}"
        self.output.append({"id": name, "type": kind, "status": "in_progress", **fields})
        yield {
            "type": "response.output_item.added",
            "output_index": len(self.output) - 1,
            "item": _copy(self.output[-1]),
        }

    def _reasoning(self) -> Generator[Said, None, _Reasoning]:
        if isinstance(self._open, _Reasoning):
            return self._open
        fields: Json = {"summary": []} if self._summary else {"summary": [], "content": []}
        yield from self._start("reasoning", "rs", fields)
        self._open = item = _Reasoning(self.output, summary=self._summary)
        return item

    def _message(self) -> Generator[Said, None, _Message]:
        if isinstance(self._open, _Message):
            return self._open
        yield from self._start("message", "msg", {"role": "assistant", "content": []})
        self._open = item = _Message(self.output)
        return item

    def _called(self, piece: Json) -> Iterator[Said]:
        index = int(piece.get("index") or 0)
        function = piece.get("function") or piece.get("custom") or {}
        call = self._calls.get(index)
        if call is None:
            named = {"call_id": piece.get("id"), "name": function.get("name") or ""}
            yield from self._start("function_call", "fc", {**named, "arguments": ""})
            call = self._calls[index] = _Call(self.output)
        elif function.get("name"):
            call.item["name"] += function["name"]
        written = function.get("arguments") or function.get("input")
        if written:
            yield from call.write(str(written))


class _Open:
    """An item that is being written, the last of `output`."""

    def __init__(self, output: list[dict[str, Any]]) -> None:
        self.item = output[-1]
        self._index = len(output) - 1
        self._ended = False

    def _told(self, kind: str, **fields: Any) -> Said:
        where = {"item_id": self.item["id"], "output_index": self._index}
        return {"type": f"response.{kind}", **where, **fields}

    def end(self, *, whole: bool) -> Iterator[Said]:
        if self._ended:
            return
        self._ended = True
        yield from self._last()
        self.item["status"] = "completed" if whole else "incomplete"
        item = _copy(self.item)
        yield {"type": "response.output_item.done", "output_index": self._index, "item": item}

    def _last(self) -> Iterator[Said]:
        yield from ()


class _Reasoning(_Open):
    def __init__(self, output: list[dict[str, Any]], *, summary: bool) -> None:
        super().__init__(output)
        self._texts: list[str] = []
        self._signed: list[Json] = []
        self._parts = self.item["summary" if summary else "content"]
        self._event = "reasoning_summary_text" if summary else "reasoning_text"
        self._part_event = "reasoning_summary_part" if summary else "content_part"
        self._part_type = "summary_text" if summary else "reasoning_text"
        self._place = {"summary_index": 0} if summary else {"content_index": 0}

    def write(self, text: str) -> Iterator[Said]:
        if not self._texts:
            part = {"type": self._part_type, "text": ""}
            yield self._told(f"{self._part_event}.added", **self._place, part=part)
        self._texts.append(text)
        yield self._told(f"{self._event}.delta", **self._place, delta=text)

    def sign(self, blocks: list[Json]) -> None:
        self._signed += blocks
        self.item["encrypted_content"] = sealed(self._signed)

    def _last(self) -> Iterator[Said]:
        if self._texts:
            part = {"type": self._part_type, "text": "".join(self._texts)}
            self._parts.append(part)
            yield self._told(f"{self._event}.done", **self._place, text=part["text"])
            yield self._told(f"{self._part_event}.done", **self._place, part=part)


class _Message(_Open):
    """Parts follow each other: text, or words of refusal."""

    def __init__(self, output: list[dict[str, Any]]) -> None:
        super().__init__(output)
        self._pieces: list[str] = []

    def write(self, text: str, logprobs: list[Json]) -> Iterator[Said]:
        yield from self._within("output_text")
        self._pieces.append(text)
        self._part["logprobs"] += logprobs
        yield self._told("output_text.delta", **self._place, delta=text, logprobs=logprobs)

    def refuse(self, text: str) -> Iterator[Said]:
        yield from self._within("refusal")
        self._pieces.append(text)
        yield self._told("refusal.delta", **self._place, delta=text)

    def annotate(self, note: Json) -> Iterator[Said]:
        yield from self._within("output_text")
        notes = self._part["annotations"]
        # Chat nests what Responses have flat.
        notes.append({**{n: v for n, v in note.items() if n != note.get("type")}, **_nested(note)})
        at = {"annotation_index": len(notes) - 1, "annotation": notes[-1]}
        yield self._told("output_text.annotation.added", **self._place, **at)

    @property
    def _part(self) -> dict[str, Any]:
        part: dict[str, Any] = self.item["content"][-1]
        return part

    @property
    def _place(self) -> dict[str, int]:
        return {"content_index": len(self.item["content"]) - 1}

    def _within(self, kind: str) -> Iterator[Said]:
        parts = self.item["content"]
        if parts and parts[-1]["type"] == kind:
            return
        yield from self._end_part()
        if kind == "refusal":
            parts.append({"type": kind, "refusal": ""})
        else:
            parts.append({"type": kind, "text": "", "annotations": [], "logprobs": []})
        yield self._told("content_part.added", **self._place, part=_copy(self._part))

    def _end_part(self) -> Iterator[Said]:
        if not self.item["content"]:
            return
        text, self._pieces = "".join(self._pieces), []
        part = self._part
        if part["type"] == "refusal":
            part["refusal"] = text
            yield self._told("refusal.done", **self._place, refusal=text)
        else:
            part["text"] = text
            logprobs = part["logprobs"]
            yield self._told("output_text.done", **self._place, text=text, logprobs=logprobs)
        yield self._told("content_part.done", **self._place, part=_copy(part))

    def _last(self) -> Iterator[Said]:
        yield from self._end_part()


class _Call(_Open):
    def __init__(self, output: list[dict[str, Any]]) -> None:
        super().__init__(output)
        self._pieces: list[str] = []

    def write(self, arguments: str) -> Iterator[Said]:
        self._pieces.append(arguments)
        yield self._told("function_call_arguments.delta", delta=arguments)

    def is_whole(self) -> bool:
        """Whether the arguments are JSON to their end."""
        try:
            orjson.loads("".join(self._pieces))
        except orjson.JSONDecodeError:
            return False
        return True

    def _last(self) -> Iterator[Said]:
        arguments = self.item["arguments"] = "".join(self._pieces)
        named = {"name": self.item["name"], "arguments": arguments}
        yield self._told("function_call_arguments.done", **named)


def _nested(note: Json) -> Json:
    nested = note.get(str(note.get("type")))
    return nested if isinstance(nested, dict) else {}


def _copy(item: dict[str, Any]) -> dict[str, Any]:
    """As it is now, with lists of its own: items go on changing."""
    return {name: list(v) if isinstance(v, list) else v for name, v in item.items()}
