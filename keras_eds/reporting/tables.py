"""Plans, results and search spaces as tables for a terminal."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Mapping, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from keras_eds.argument_checks import check_integer
from keras_eds.budget import Budget, format_bytes
from keras_eds.field import Field, total_bytes, total_parameters
from keras_eds.plan import DimensionPlan, TablePlan, dims_text
from keras_eds.reporting.score_point import best_result, kept_share
from keras_eds.results import StageResult

_Row = tuple[str, ...]
_PLAN_HEADER = ("field", "ids", "dims", "bytes", "kept")
_SPACE_HEADER = ("field", "ids", "dims", "bytes")
_RESULTS_HEADER = (
    "stage", "budget", "parameters", "bytes", "kept", "before", "after", "full",
    "seconds", "",
)  # fmt: skip


def plan_table(
    plan: DimensionPlan,
    saliency: Mapping[str, float] | None = None,
    max_rows: int = 64,
) -> Table:
    """Shows what a plan keeps of every field.

    Args:
        plan: The plan.
        saliency: Each field's share of all saliency; adds a column.
        max_rows: Most fields that get a row of their own: the largest ones, in
            the model's order. The others are summed in one row. Defaults to 64.

    Example:

    >>> plan = DimensionPlan.of_sizes([Field("user", 1000, 8)], {"user": 8})
    >>> print(to_text(plan_table(plan)))
     ────────────────────────────────────────────
     field    ids    dims           bytes    kept
     ────────────────────────────────────────────
     user   1,000  8 -> 8  32 KB -> 32 KB  100.0%
     ────────────────────────────────────────────
     total  1,000          32 KB -> 32 KB  100.0%
     ────────────────────────────────────────────
    8,000 -> 8,000 parameters
    """
    header, rows, total = _plan_rows(plan, saliency, max_rows)
    table = _table(header, [rows, [total]])
    table.caption = Text(_values(plan))
    return table


def plan_markdown(
    plan: DimensionPlan,
    saliency: Mapping[str, float] | None = None,
    max_rows: int = 64,
) -> str:
    """Writes the rows of `plan_table` as a Markdown table."""
    header, rows, total = _plan_rows(plan, saliency, max_rows)
    ruler = (":--",) + ("--:",) * (len(header) - 1)
    body = [tuple(_markdown(cell) for cell in row) for row in (*rows, total)]
    lines = [f"| {' | '.join(row)} |" for row in (header, ruler, *body)]
    return "\n".join([*lines, "", _values(plan)])


def results_table(results: Sequence[StageResult]) -> Table:
    """Compares the stages of a search, one row each, the best one marked.

    Args:
        results: What the stages found, of one search.
    """
    best = best_result(results)
    rows = [_result_row(result, result is best) for result in results]
    table = _table(_RESULTS_HEADER, [rows], left=("stage", "budget", ""))
    if results:
        order = "higher" if results[0].direction == "max" else "lower"
        table.title = Text(f"{results[0].objective} ({order} is better)")
    for row, result in zip(table.rows, results, strict=True):
        row.style = "bold green" if result is best else None
    return table


def space_table(
    fields: Sequence[Field], budgets: Sequence[Budget], max_rows: int = 64
) -> Table:
    """Shows the fields of a search and the limit of each of its budgets.

    Args:
        fields: The tables that the search may shrink.
        budgets: The budgets of the search.
        max_rows: Most fields that get a row of their own. Defaults to 64.
    """
    shown, folded = _fold(fields, max_rows)
    rows: list[_Row] = [
        (f.name, f"{f.input_dim:,}", str(f.output_dim), format_bytes(f.num_bytes))
        for f in shown
    ]
    if folded:
        ids = sum(f.input_dim for f in folded)
        size = format_bytes(total_bytes(folded))
        rows.append((_more(folded), f"{ids:,}", _span(folded), size))
    ids = sum(f.input_dim for f in fields)
    total: _Row = ("total", f"{ids:,}", "", format_bytes(total_bytes(fields)))
    limits: list[_Row] = [
        (f"budget {b.label}", "", "", _limit(b, fields)) for b in budgets
    ]
    return _table(_SPACE_HEADER, [rows, [total], limits])


def to_text(table: Table, width: int = 100) -> str:
    """Renders a table as plain text, at most `width` characters a line."""
    console = Console(
        file=io.StringIO(), width=width, color_system=None, force_jupyter=False
    )
    with console.capture() as capture:
        console.print(table)
    lines = [line.rstrip() for line in capture.get().splitlines()]
    return "\n".join(line for line in lines if line)


def _table(
    header: _Row, sections: Iterable[list[_Row]], left: Sequence[str] = ("field",)
) -> Table:
    table = Table(box=box.HORIZONTALS, collapse_padding=True, pad_edge=False)
    table.title_justify = table.caption_justify = "left"
    for name in header:
        if name in left:
            table.add_column(name, overflow="fold")
        else:
            table.add_column(name, justify="right", no_wrap=True)
    for rows in sections:
        for row in rows:
            # Text and not str: names may hold what rich reads as markup.
            table.add_row(*(Text(cell) for cell in row))
        table.add_section()
    return table


def _plan_rows(
    plan: DimensionPlan, saliency: Mapping[str, float] | None, max_rows: int
) -> tuple[_Row, list[_Row], _Row]:
    kept_of = {p.name: p for p in plan}
    shown, folded = _fold([p.field for p in plan], max_rows)
    rows = [_plan_row(f.name, [kept_of[f.name]], saliency) for f in shown]
    if folded:
        rest = [kept_of[field.name] for field in folded]
        rows.append(_plan_row(_more(folded), rest, saliency))
    name, ids, _, *sizes = _plan_row("total", list(plan), saliency)
    total = (name, ids, "", *sizes)
    return _PLAN_HEADER + (("saliency",) if saliency is not None else ()), rows, total


def _plan_row(
    name: str, plans: Sequence[TablePlan], saliency: Mapping[str, float] | None
) -> _Row:
    fields = [plan.field for plan in plans]
    ids = sum(field.input_dim for field in fields)
    after = sum(plan.num_bytes() for plan in plans)
    size = _arrow(format_bytes(total_bytes(fields)), format_bytes(after))
    after_dims = _spread([plan.kept_dim for plan in plans])
    after_dims = dims_text(plans[0]) if len(plans) == 1 else after_dims
    dims = _arrow(_span(fields), after_dims)
    kept = f"{after / max(1, total_bytes(fields)):.1%}"
    row = (name, f"{ids:,}", dims, size, kept)
    if saliency is None:
        return row
    known = [saliency[plan.name] for plan in plans if plan.name in saliency]
    return (*row, f"{sum(known):.1%}" if known else "-")


def _result_row(result: StageResult, best: bool) -> _Row:
    plan, budget = result.plan, result.budget
    stage = f"{result.index} {result.stage}"
    scores = [_score(result.score_before), _score(result.score)]
    full = result.full_score
    if result.stage in ("pretrain", "probe"):
        # Only the full-size model has been trained so far, or none where ids are
        # counted before.
        scores = ["-", "-"]
        if result.stage == "pretrain":
            full = result.score
    sizes = ["-", "-", "-"]
    if plan is not None:
        size = format_bytes(plan.num_bytes())
        sizes = [f"{plan.num_parameters():,}", size, f"{kept_share(plan):.1%}"]
    label = "-" if budget is None else budget.label
    end = [_score(full), f"{result.seconds:.1f}", "best" if best else ""]
    return (stage, label, *sizes, *scores, *end)


def _fold(fields: Sequence[Field], max_rows: int) -> tuple[list[Field], list[Field]]:
    """The `max_rows` largest fields and the others, both in the model's order."""
    check_integer("max_rows", max_rows, 0, "0 sums up all fields.")
    largest = sorted(fields, key=lambda field: -field.num_bytes)[:max_rows]
    names = {field.name for field in largest}
    folded = [field for field in fields if field.name not in names]
    return [field for field in fields if field.name in names], folded


def _values(plan: DimensionPlan) -> str:
    before = f"{total_parameters(p.field for p in plan):,}"
    return f"{before} -> {plan.num_parameters():,} parameters"


def _more(fields: Sequence[Field]) -> str:
    return f"... {len(fields)} more field{'s' if len(fields) > 1 else ''}"


def _span(fields: Sequence[Field]) -> str:
    return _spread([field.output_dim for field in fields])


def _spread(widths: Sequence[int]) -> str:
    if not widths:
        return "-"
    low, high = min(widths), max(widths)
    return str(low) if low == high else f"{low}-{high}"


def _arrow(before: str, after: str) -> str:
    return f"{before} -> {after}"


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _limit(budget: Budget, fields: Sequence[Field]) -> str:
    limit = budget.limit(fields)
    return format_bytes(limit) if budget.unit == "bytes" else f"{limit:,} values"


def _markdown(text: str) -> str:
    escaped = re.sub(r"([\\`*_{}\[\]|#])", r"\\\1", text)
    return escaped.replace("&", "&amp;").replace("<", "&lt;")
