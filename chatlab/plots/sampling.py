"""Plots of sampling: what may come next, how the temperature changes it, how varied the replies become.

In: names of tokens, probabilities, counts. Out: a `Plot`. Every value stands beside its mark as a number, and hatches
tell the kinds apart in black and white. Knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes

from chatlab.plots.figures import ACCENT, INK, PALE, Plot, drawable, new_figure

__all__ = ["diversity_bars", "next_token_bars", "temperature_panels"]

_FILLS = [(ACCENT, ""), (PALE, "////"), ("white", "....")]  # a colour and a hatch for each measure


def next_token_bars(
    tokens: Sequence[str],
    before: Sequence[float],
    after: Sequence[float] | None = None,
    *,
    settings: str = "",
    title: str = "",
) -> Plot:
    """Draw each token's probability (0–1) as a bar: the model's own, and below it the one after the settings.

    >>> next_token_bars(["yes", "no"], [0.75, 0.25], [1.0, 0.0], settings="top_k 1")
    Plot: Bars of the likeliest next tokens, before and after top_k 1: yes 75.0 % then 100.0 %, no 25.0 % then 0.0 %.
    """
    kinds = [("the model's own", before)] + ([(f"after {settings}", after)] if after is not None else [])
    thickness = 0.8 / len(kinds)
    figure, [axes] = new_figure(height=1.3 + 0.3 * len(tokens) * (1.5 if len(kinds) > 1 else 1), title=title)
    for index, (label, values) in enumerate(kinds):
        places = [row + (index - (len(kinds) - 1) / 2) * thickness for row in range(len(tokens))]
        bars = axes.barh(
            places,
            values,
            thickness * 0.92,
            label=drawable(label),
            color=ACCENT if index == 0 else PALE,
            edgecolor=INK,
            linewidth=0.6,
            hatch=None if index == 0 else "////",
        )
        axes.bar_label(bars, [_percent(value) for value in values], padding=3, fontsize=8, color=INK)
    _token_axis(axes, tokens)
    axes.set_xlim(0, max(0.05, *before, *(after or [0])) * 1.12)
    axes.xaxis.set_major_formatter(lambda value, _position: f"{100 * value:.3g} %")
    axes.set_xlabel("probability")
    if len(kinds) > 1:
        axes.legend(loc="lower right", fontsize=9, frameon=False, labelcolor=INK)
    pairs = [
        f"{token} {_percent(before[row])}" + (f" then {_percent(after[row])}" if after is not None else "")
        for row, token in enumerate(tokens)
    ]
    head = "Bars of the likeliest next tokens" + (f", before and after {settings}" if after is not None else "")
    return Plot(figure, alt_text=f"{head}: {', '.join(pairs)}.")


def temperature_panels(
    tokens: Sequence[str],
    probabilities: Mapping[float, Sequence[float]],
    *,
    effective_choices: Sequence[float],
    title: str = "",
) -> Plot:
    """Draw the same tokens' probabilities at each temperature, a panel for each, all to one scale.

    >>> temperature_panels(["yes", "no"], {0.5: [0.9, 0.1], 2.0: [0.6, 0.3]}, effective_choices=[1.4, 2.0])
    Plot: The same tokens at 2 temperatures. At 0.5: yes 90.0 %, no 10.0 %. At 2: yes 60.0 %, no 30.0 %.
    """
    rows = [*tokens, "all others"]
    figure, panels = new_figure(
        width=1.2 + 1.7 * len(probabilities), height=1.4 + 0.3 * len(rows), columns=len(probabilities), title=title
    )
    for axes, (temperature, values), choices in zip(panels, probabilities.items(), effective_choices, strict=True):
        others = max(0.0, 1 - sum(values))
        bars = axes.barh(range(len(rows)), [*values, others], 0.7, color=ACCENT, edgecolor=INK, linewidth=0.6)
        bars[-1].set(facecolor=PALE, hatch="////")
        axes.bar_label(bars, [_percent(value) for value in [*values, others]], padding=3, fontsize=8, color=INK)
        axes.set_xlim(0, 1.45)  # room for the numbers beside the bars
        axes.set_xticks([0, 0.5, 1], ["0", "50 %", "100 %"])
        axes.set_title(f"temperature {temperature:g}", fontsize=10)
        axes.set_xlabel(f"{choices:.1f} effective choices" if choices < 1000 else f"{choices:.0f} effective choices")
        _token_axis(axes, rows if axes is panels[0] else [""] * len(rows))
    told = [
        f"At {temperature:g}: "
        + ", ".join(f"{token} {_percent(value)}" for token, value in zip(tokens, values, strict=True))
        for temperature, values in probabilities.items()
    ]
    return Plot(figure, alt_text=f"The same tokens at {len(probabilities)} temperatures. {'. '.join(told)}.")


def diversity_bars(
    temperatures: Sequence[float], shares: Mapping[str, Sequence[float]], *, samples: int, title: str = ""
) -> Plot:
    """Draw how varied many replies are at each temperature: each measure is a share, from 0 (all alike) to 1.

    >>> diversity_bars([0, 1], {"distinct replies": [0.1, 0.9]}, samples=10)
    Plot: How varied 10 replies are at each temperature. distinct replies: 10 % at 0, 90 % at 1.
    """
    figure, [axes] = new_figure(width=8.0, height=3.6, title=title)
    thickness = 0.84 / len(shares)
    for index, ((name, values), (color, hatch)) in enumerate(zip(shares.items(), _FILLS * len(shares), strict=False)):
        places = [group + (index - (len(shares) - 1) / 2) * thickness for group in range(len(temperatures))]
        bars = axes.bar(
            places,
            values,
            thickness * 0.92,
            label=drawable(name),
            color=color,
            edgecolor=INK,
            linewidth=0.6,
            hatch=hatch,
        )
        axes.bar_label(bars, [f"{100 * value:.0f} %" for value in values], padding=2, fontsize=8, color=INK)
    axes.set_ylim(0, 1.1)
    axes.set_yticks([0, 0.5, 1], ["0", "50 %", "100 %"])
    axes.set_xticks(range(len(temperatures)), [f"temperature {temperature:g}" for temperature in temperatures])
    axes.set_xlabel(f"{samples} replies each")
    figure.legend(loc="outside lower center", ncols=len(shares), fontsize=9, frameon=False, labelcolor=INK)
    told = [
        f"{name}: "
        + ", ".join(f"{value:.0%} at {temperature:g}" for temperature, value in zip(temperatures, values, strict=True))
        for name, values in shares.items()
    ]
    told = [text.replace("%", " %") for text in told]
    return Plot(figure, alt_text=f"How varied {samples} replies are at each temperature. {'. '.join(told)}.")


def _token_axis(axes: Axes, tokens: Sequence[str]) -> None:
    """Name the rows, the first one on top."""
    axes.set_yticks(range(len(tokens)), [drawable(token) for token in tokens])
    axes.set_ylim(len(tokens) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0, labelsize=10)


def _percent(value: float) -> str:
    return "< 0.1 %" if 0 < value < 0.001 else f"{100 * value:.1f} %"
