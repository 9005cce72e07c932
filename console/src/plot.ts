// One plot: lines over time, what they are now in its head, and all of it in words for those who do
// not see it.

import uPlot from "uplot";

import { el, say, set } from "./dom";
import * as theme from "./theme";

export interface Line {
  label: string;
  /** A variable of the style sheet. */
  color: string;
  isFilled?: boolean;
}

const HEIGHT = 170;

export class Plot {
  readonly element: HTMLElement;
  private readonly host = el("div", { class: "canvas", "aria-hidden": "true" });
  private readonly picture = el("div", { role: "img" }, this.host);
  private readonly figures: HTMLElement[];
  private plot: uPlot | null = null;
  private data: uPlot.AlignedData = [[]];
  private range: [number, number] = [0, 1];
  private readonly ends: (() => void)[] = [];

  constructor(
    private readonly title: string,
    private readonly lines: Line[],
    private readonly format: (n: number) => string,
  ) {
    this.figures = lines.map(() => el("b", {}, "–"));
    const legend = lines.map((line, i) =>
      el("span", { class: `legend ${line.color}` }, `${line.label} `, this.figures[i]!),
    );
    this.element = el(
      "section",
      { class: "panel plot" },
      el("header", {}, el("h2", {}, title), el("div", { class: "legends" }, ...legend)),
      this.picture,
    );
    const observer = new ResizeObserver(() => this.fit());
    observer.observe(this.host);
    this.ends.push(() => observer.disconnect(), theme.watch(() => this.build()));
  }

  end(): void {
    for (const end of this.ends) end();
    this.plot?.destroy();
  }

  /** Draws one list of values for each line. Times are in seconds. */
  draw(times: number[], values: (number | null)[][], range: [number, number]): void {
    this.data = [times, ...values];
    this.range = range;
    if (this.plot) this.plot.setData(this.data);
    else this.build();
    this.tell(times.length - 1);
    const now = this.lines.map((line, i) => `${line.label} ${this.word(values[i]?.at(-1))}`);
    set(this.picture, "aria-label", `${this.title}, now: ${now.join(", ")}`);
  }

  private word(value: number | null | undefined): string {
    return value === null || value === undefined ? "–" : this.format(value);
  }

  private tell(at: number): void {
    this.figures.forEach((figure, i) => say(figure, this.word(this.data[i + 1]?.[at])));
  }

  private fit(): void {
    const width = this.host.clientWidth;
    if (width > 0 && this.plot && this.plot.width !== width) this.plot.setSize({ width, height: HEIGHT });
  }

  private build(): void {
    if (!this.host.isConnected || this.host.clientWidth === 0) return;
    this.plot?.destroy();
    // A variable holds a pair of colours; as somebody's own colour it is one.
    const color = (name: string): string => {
      this.host.style.color = `var(--${name})`;
      return getComputedStyle(this.host).color;
    };
    const axis: uPlot.Axis = {
      stroke: color("muted"),
      font: "11px system-ui, sans-serif",
      grid: { stroke: color("line"), width: 1 },
      ticks: { show: false },
    };
    const options: uPlot.Options = {
      width: this.host.clientWidth,
      height: HEIGHT,
      padding: [8, 22, 0, 0],
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false }, sync: { key: "overview" } },
      scales: {
        x: { time: true, range: () => this.range },
        y: { range: (_plot, _least, most) => [0, most > 0 ? most * 1.15 : 1] },
      },
      axes: [
        {
          ...axis,
          size: 26,
          space: 56,
          values: (_plot, ticks) => {
            const length = ticks.every((tick) => tick % 60 === 0) ? 5 : 8;
            return ticks.map((tick) => new Date(tick * 1000).toLocaleTimeString("en-GB").slice(0, length));
          },
        },
        { ...axis, size: 62, space: 34, values: (_plot, ticks) => ticks.map(this.format) },
      ],
      series: [
        {},
        ...this.lines.map((line) => ({
          label: line.label,
          stroke: color(line.color),
          width: 1.75,
          spanGaps: false,
          points: { show: false },
          ...(line.isFilled ? { fill: color(line.color).replace(/rgb\((.*)\)/, "rgba($1, 0.13)") } : {}),
        })),
      ],
      hooks: { setCursor: [(plot) => this.tell(plot.cursor.idx ?? (this.data[0]?.length ?? 0) - 1)] },
    };
    this.plot = new uPlot(options, this.data, this.host);
  }
}
