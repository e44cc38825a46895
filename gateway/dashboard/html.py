"""Templates to pages that run nothing, load nothing, and are framed by nobody."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from starlette.responses import Response

if TYPE_CHECKING:
    import jinja2

_HEADERS = {
    # Prompts of strangers are shown, and whoever looks holds an admin key.
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; img-src data:; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cache-control": "no-store",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
}


def page(template: str, **values: Any) -> str:
    """The template with these values, each escaped."""
    return _templates().get_template(template).render(**values)


def html(content: str) -> Response:
    """A page as an answer."""
    return Response(content, media_type="text/html; charset=utf-8", headers=_HEADERS)


@cache
def _templates() -> jinja2.Environment:
    # Not at the top: a gateway that shows no page starts faster without.
    import jinja2

    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
