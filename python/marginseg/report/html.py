"""Pages from templates."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from marginseg.files.names import printable_lines


def rendered(template: str, **content: Any) -> str:
    """Return a page; what is no markup of the template's own is escaped."""
    environment = Environment(
        loader=PackageLoader("marginseg.report"), autoescape=True, undefined=StrictUndefined
    )
    return printable_lines(environment.get_template(template).render(**content))
